// process_vm_readv and writev, and /proc/self/mem.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(call) do { errno = 0; long r_ = (long)(call); printf("%s = %ld %s\n", #call, r_, r_ == -1 ? strerrorname_np(errno) : ""); } while (0)

static char secret[64] = "the parent's";

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    int ends[2];
    if (pipe(ends)) return 1;
    pid_t child = fork();
    if (child == 0) {
        strcpy(secret, "the child's");
        char byte;
        close(ends[1]);
        read(ends[0], &byte, 1);
        printf("child has: %s\n", secret);
        _exit(0);
    }
    close(ends[0]);
    usleep(100000);
    char one[4] = "", two[32] = "";
    struct iovec local[2] = {{one, 3}, {two, sizeof two}};
    struct iovec remote[2] = {{secret, 8}, {secret + 8, 8}};
    SAY(process_vm_readv(child, local, 2, remote, 2, 0));
    printf("%.3s|%s\n", one, two);
    struct iovec out = {"written", 8}, to = {secret, 8};
    SAY(process_vm_writev(child, &out, 1, &to, 1, 0));
    struct iovec bad = {(void *)16, 8};
    SAY(process_vm_readv(child, local, 1, &bad, 1, 0));
    struct iovec halves[2] = {{secret, 2}, {(void *)16, 8}};
    SAY(process_vm_readv(child, local + 1, 1, halves, 2, 0));
    SAY(process_vm_readv(child, local, 1, remote, 1, 1));
    SAY(process_vm_readv(999999, local, 1, remote, 1, 0));
    SAY(process_vm_readv(child, local, 1025, remote, 1, 0));
    SAY(process_vm_readv(child, NULL, 0, remote, 1, 0));
    SAY(process_vm_readv(getpid(), local, 2, remote, 2, 0));
    write(ends[1], "x", 1);
    wait(NULL);

    int mem = open("/proc/self/mem", O_RDWR);
    char text[16] = "";
    SAY(pread(mem, text, 8, (long)secret));
    printf("%s\n", text);
    SAY(pwrite(mem, "changed", 8, (long)secret));
    printf("%s\n", secret);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SAY(pwrite(mem, "through", 8, (long)page));
    printf("%s\n", page);
    SAY(pread(mem, text, 8, 16));
    SAY(lseek(mem, (long)page, SEEK_SET) == (long)page);
    SAY(read(mem, text, 8));
    SAY(lseek(mem, 0, SEEK_END));
    SAY(open("/proc/1/mem/x", O_RDONLY));
    SAY(open("/proc/999999/mem", O_RDONLY));
    return 0;
}
