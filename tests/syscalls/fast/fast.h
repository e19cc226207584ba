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
/* One round of calls of every class that the stub knows. */
static inline void round_of_calls(int file, int seed, int zero) {
    char bytes[512];
    struct stat st;
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
}
