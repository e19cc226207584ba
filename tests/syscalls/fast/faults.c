/* Pointers that lead nowhere, at sites that are fast: the same errors, and nothing lost. */
#include "fast.h"

static void *volatile nowhere = (void *)8, *volatile beyond = (void *)-1;

int main(void) {
    char *pages = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(pages != MAP_FAILED && mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    char *fixed = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int file = pattern(1, 4096), zero = open("/dev/zero", O_RDONLY), ends[2], pair[2];
    char bytes[64];
    struct stat st;
    for (int i = 0; i < OFTEN; i++) round_of_calls(file, 1, zero);
    MUST(pipe(ends) == 0);
    for (int round = 0; round < 60; round++) {
        MUST(read(zero, nowhere, 1) == -1 && errno == EFAULT);
        MUST(read(zero, fixed, 1) == -1 && errno == EFAULT);
        MUST(read(zero, beyond, 1) == -1 && errno == EFAULT);
        MUST(lseek(file, 0, SEEK_SET) == 0);
        MUST(read(file, nowhere, 16) == -1 && errno == EFAULT);
        MUST(lseek(file, 0, SEEK_CUR) == 0);
        ssize_t part = pread(file, pages + 4090, 16, 0);
        MUST(part == 6 || (part == -1 && errno == EFAULT));
        MUST(stat(nowhere, &st) == -1 && errno == EFAULT);
        MUST(stat("/", nowhere) == -1 && errno == EFAULT);
        MUST(stat(pages + 4092, &st) == -1);
        memset(pages + 4092, 'a', 4);
        MUST(stat(pages + 4092, &st) == -1 && errno == EFAULT);
        memcpy(pages + 4092, "/", 2);
        MUST(stat(pages + 4092, &st) == 0);
        MUST(fstat(file, nowhere) == -1 && errno == EFAULT);
        if (round % 2) idle();
        MUST(readlink(nowhere, bytes, sizeof bytes) == -1 && errno == EFAULT);
        MUST(readlink("/proc/self/exe", nowhere, 64) == -1 && errno == EFAULT);
        MUST(readlink("/proc/self/exe", fixed, 64) == -1 && errno == EFAULT);
        MUST(readlink("/proc/self/exe", bytes, 0) == -1 && errno == EINVAL);
        MUST(syscall(SYS_readlink, "/proc/self/exe", bytes, -1) == -1 && errno == EINVAL);
        MUST(fcntl(file, F_SETLK, nowhere) == -1 && errno == EFAULT);
        MUST(fcntl(file, F_SETLK, pages + 4092) == -1 && errno == EFAULT);
        MUST(pread(file, nowhere, 16, 0) == -1 && errno == EFAULT);
        MUST(pread(file, fixed, 16, 0) == -1 && errno == EFAULT);
        MUST(pwrite(file, nowhere, 16, 0) == -1 && errno == EFAULT);
        MUST(fstat(file, (void *)fixed) == -1 && errno == EFAULT);
        MUST(stat("/", (void *)fixed) == -1 && errno == EFAULT);
        MUST(statx(file, "", AT_EMPTY_PATH, STATX_SIZE, (void *)fixed) == -1 && errno == EFAULT);
        MUST(statx(AT_FDCWD, nowhere, 0, STATX_SIZE, (void *)bytes) == -1 && errno == EFAULT);
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        MUST(send(pair[0], nowhere, 4, 0) == -1 && errno == EFAULT);
        MUST(send(pair[0], "abcd", 4, 0) == 4);
        MUST(recv(pair[1], nowhere, 4, 0) == -1 && errno == EFAULT);
        MUST(recv(pair[1], bytes, 4, 0) == 4 && !memcmp(bytes, "abcd", 4));
        close(pair[0]);
        close(pair[1]);
        MUST(write(ends[1], nowhere, 4) == -1 && errno == EFAULT);
        /* A pipe's bytes are not lost by a read that has nowhere to put them, where Linux keeps them, too. */
        MUST(write(ends[1], "abcd", 4) == 4);
        MUST(read(ends[0], nowhere, 4) == -1 && errno == EFAULT);
        int left = read(ends[0], bytes, 4);
        MUST(left == 4 && !memcmp(bytes, "abcd", 4));
        MUST(read(-1, bytes, 1) == -1 && errno == EBADF);
        MUST(read(file, bytes, 0) == 0);
    }
    char path[700];
    for (int len = 200; len < 300; len++) {
        memset(path, '/', len);
        path[len] = 0;
        MUST(stat(path, &st) == 0 && S_ISDIR(st.st_mode));
    }
    puts("ok");
    return 0;
}
