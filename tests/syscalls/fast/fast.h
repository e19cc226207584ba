/* What the programs here share: calls at sites that have been used often enough to be patched. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define OFTEN 400
#define MUST(what) do { if (!(what)) { printf("line %d: %s: errno %d\n", __LINE__, #what, errno); exit(1); } } while (0)

/* A file in memory of `size` bytes, byte i being (i * 7 + seed) & 0xff. */
static inline int pattern(int seed, int size) {
    int fd = memfd_create("pattern", 0);
    MUST(fd >= 0);
    char *bytes = malloc(size);
    for (int i = 0; i < size; i++) bytes[i] = (char)(i * 7 + seed);
    MUST(write(fd, bytes, size) == size);
    free(bytes);
    return fd;
}
static inline void check_pattern(const char *bytes, int seed, int from, int len) {
    for (int i = 0; i < len; i++) MUST(bytes[i] == (char)((from + i) * 7 + seed));
}
/* Without a lock, which a handler that jumps away would leave taken. */
static inline int any(int below) {
    static unsigned state = 1;
    state = state * 1103515245 + 12345;
    return (int)((state >> 8) % (unsigned)below);
}
/* Some 200 us without a call, and without asking for the time: a server goes to sleep, and the next calls are made in the ordinary way. */
static inline void idle(void) {
    for (volatile int i = 0; i < 100000; i++) {}
}
/* One round of calls of every class that the stub knows. */
static inline void round_of_calls(int file, int seed, int zero) {
    static char link[4096];
    static ssize_t link_len;
    char bytes[512];
    struct stat st;
    struct statx stx;
    int ends[2];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 2};
    if (!link_len) MUST((link_len = readlink("/proc/self/exe", link, sizeof link)) > 0);
    int from = any(3000), len = 1 + any(500);
    MUST(pread(file, bytes, len, from) == len);
    check_pattern(bytes, seed, from, len);
    MUST(lseek(file, from, SEEK_SET) == from);
    MUST(read(file, bytes, len) == len);
    check_pattern(bytes, seed, from, len);
    bytes[0] = 1;
    MUST(read(zero, bytes, 1) == 1 && bytes[0] == 0);
    MUST(syscall(SYS_read, zero, bytes, 0) == 0);
    MUST(fstat(file, &st) == 0 && st.st_size == 4096);
    MUST(stat("/", &st) == 0 && S_ISDIR(st.st_mode));
    MUST(stat("/absent", &st) == -1 && errno == ENOENT);
    MUST(access("/", X_OK) == 0);
    MUST(syscall(SYS_getuid) == 0);
    ssize_t most = 1 + any(300), expected = most < link_len ? most : link_len;
    memset(bytes, 0, sizeof bytes);
    MUST(readlink("/proc/self/exe", bytes, most) == expected && !memcmp(bytes, link, expected) && !bytes[expected]);
    MUST(readlinkat(AT_FDCWD, "/proc/self/exe", bytes, sizeof bytes) == (link_len < 512 ? link_len : 512));
    MUST(readlink("/", bytes, sizeof bytes) == -1 && errno == EINVAL);
    MUST(fcntl(file, F_SETLK, &lock) == 0);
    lock.l_type = F_UNLCK;
    MUST(fcntl(file, F_SETLK, &lock) == 0);
    MUST(fcntl(file, F_GETFD) >= 0);
    MUST(statx(file, "", AT_EMPTY_PATH, STATX_SIZE, &stx) == 0 && stx.stx_size == 4096);
    MUST(statx(AT_FDCWD, "/absent", 0, STATX_SIZE, &stx) == -1 && errno == ENOENT);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    MUST(pread(file, bytes, len, from) == len);
    MUST(send(ends[0], bytes, len, 0) == len);
    memset(bytes, 0, sizeof bytes);
    MUST(recv(ends[1], bytes, 1, MSG_PEEK) == 1);
    MUST(recv(ends[1], bytes, sizeof bytes, 0) == len);
    check_pattern(bytes, seed, from, len);
    MUST(recv(ends[1], bytes, sizeof bytes, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    close(ends[0]);
    MUST(recv(ends[1], bytes, sizeof bytes, 0) == 0);
    MUST(send(ends[1], bytes, 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    close(ends[1]);
}
