/* Writes at random into everything that it shares with the sentry, or that the sentry put into it, while threads call. It may die of that. */
#include "fast.h"
#include <time.h>

#define BASE 0x500000000000UL
#define CHANNEL (BASE - 0x100000)
#define SLOTS_SIZE (16 * 0x2000)
/* Slots, and the answers and what is lent behind them. */
#define LENT (CHANNEL + SLOTS_SIZE + 256 * 512)
#define CHANNEL_SIZE (SLOTS_SIZE + 256 * 512 + 4096)

static int file, zero, shared;
static unsigned state;
static unsigned next(void) { return state = state * 1103515245 + 12345, state >> 3; }

static void *calls(void *argument) {
    char bytes[600];
    struct stat st;
    for (;;) {
        /* Whatever comes back. */
        pread(file, bytes, 500, 0);
        read(zero, bytes, 1);
        fstat(file, &st);
        stat("/", &st);
        stat("/etc/passwd", &st);
        write(file, bytes, 10);
        syscall(SYS_getuid);
        lseek(file, 0, SEEK_SET);
        pwrite(shared, bytes, 500, 0);
        pread(shared, bytes, 500, 100);
        for (int i = 0; i < 8; i++) lseek(shared, i, SEEK_CUR);
    }
    return argument;
}
/* Two of these take turns, so that there are lines to attack (crates/platform/src/line.rs). */
static int there[2], back[2];
static void *turns(void *argument) {
    int *from = argument ? there : back, *to = argument ? back : there;
    char bytes[600];
    for (;;) {
        read(from[0], bytes, sizeof bytes);
        write(to[1], bytes, 100);
    }
    return argument;
}
static void poke(char *at, unsigned size) {
    unsigned kind = next() % 4, offset = next() % (size - 8);
    if (kind == 0) at[offset] = (char)next();
    else if (kind == 1) *(volatile unsigned *)(at + (offset & ~3u)) = next() % 6;
    else if (kind == 2) *(volatile uint64_t *)(at + (offset & ~7u)) = (uint64_t)next() << 32 | next();
    else memset(at + offset, (int)next(), next() % 8);
}
/* A slot's words: states, numbers, lengths and arguments that no stub would write. */
static void ask(void) {
    if (next() % 4 == 0) {
        /* Of a file that is lent: stamps, times, where it lies and how far, positions. And that it is another length. */
        volatile uint64_t *entry = (volatile uint64_t *)LENT + next() % 64 * 8;
        entry[next() % 7] = next() % 3 ? (uint64_t)next() << next() % 40 : UINT64_MAX >> next() % 8;
        if (next() % 4 == 0) ftruncate(shared, next() % 9000);
        return;
    }
    volatile uint64_t *slot = (volatile uint64_t *)(CHANNEL + next() % 16 * 0x2000);
    for (int i = 1; i < 14; i++) slot[i] = next() % 3 ? (uint64_t)(int)next() : next() % 64;
    if (next() % 2) {
        /* Those of lines, and of the box. */
        volatile unsigned *words = (volatile unsigned *)slot + (next() % 2 ? 0x80 / 4 : 0x200 / 4);
        for (int i = 0; i < 5; i++) if (next() % 2) words[i] = next() % 2 ? words[i] ^ (1u << next() % 6) : next();
        return;
    }
    ((volatile unsigned *)slot)[4] = next() % 470;
    ((volatile unsigned *)slot)[0] = 1;
}
int main(int argc, char **argv) {
    if (argc < 3) return 1;
    const char *what = argv[1];
    state = (unsigned)atoi(argv[2]) * 7919;
    alarm(2);
    file = pattern(8, 4096);
    zero = open("/dev/zero", O_RDONLY);
    shared = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
    ftruncate(shared, 4096);
    for (int i = 0; i < OFTEN * 4; i++) round_of_calls(file, 8, zero);
    pthread_t thread;
    for (int i = 0; i < 3; i++) pthread_create(&thread, 0, calls, 0);
    if (pipe(there) || pipe(back)) return 1;
    for (int i = 0; i < 2; i++) pthread_create(&thread, 0, turns, (void *)(uintptr_t)i);
    write(there[1], "x", 1);
    /* Until there is something to attack; not where this process may never have it (a single processor). */
    unsigned char present;
    for (int i = 0; i < OFTEN * 20 && mincore((void *)CHANNEL, 4096, &present); i++) round_of_calls(file, 8, zero);
    char *from = (char *)CHANNEL;
    unsigned size = CHANNEL_SIZE;
    if (!strcmp(what, "table")) from = (char *)(BASE + 0x1000), size = 0x2000;
    else if (!strcmp(what, "stub")) from = (char *)BASE, size = 0x1000;
    else if (!strcmp(what, "trampolines") || !strcmp(what, "code")) {
        /* Where this site's jump leads: 4 MiB above the code. */
        extern char __executable_start, etext;
        from = &__executable_start + (what[0] == 't' ? 0x3d4000 : 0);
        size = (unsigned)(&etext - &__executable_start) & ~4095u;
        from = (char *)((uintptr_t)from & ~4095ul);
        for (unsigned i = 0; i < size; i += 4096) mprotect(from + i, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    } else if (!strcmp(what, "unmap")) {
        switch (next() % 5) {
        case 4: {
            volatile uint64_t *entry = (volatile uint64_t *)LENT;
            for (int i = 0; i < 64; i++, entry += 8) if (entry[3]) munmap((void *)(entry[3] & ~4095ul), 1 << 20);
            break;
        }
        case 0: munmap((void *)CHANNEL, CHANNEL_SIZE); break;
        case 1: madvise((void *)CHANNEL, CHANNEL_SIZE, MADV_REMOVE); break;
        case 2: mremap((void *)CHANNEL, CHANNEL_SIZE, 4 * CHANNEL_SIZE, MREMAP_MAYMOVE); break;
        default: munmap((void *)(BASE + 0x2000), 0x1000);
        }
        if (!fork()) for (int i = 0; i < 100; i++) round_of_calls(file, 8, zero);
    }
    mprotect(from, size & ~4095u, PROT_READ | PROT_WRITE | PROT_EXEC);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        if (from == (char *)CHANNEL && next() % 2) ask();
        else {
            char *at = from + next() % (size / 4096) * 4096;
            /* Not what is not there. */
            if (mincore(at, 4096, &present) == 0) poke(at, 4096);
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec < 1);
    return 0;
}
