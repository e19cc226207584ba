/* memory ATTACK: what of ours lies in a program's process is written over, forged, unmapped and interrupted, while its threads make calls. */
#include "attack.h"

enum { CALLERS = 3 };

static volatile int is_over;

/* Calls that the stub offers to the sentry in shared memory, and others. */
static void *make_calls(void *argument) {
    char bytes[1024];
    struct stat about;
    int zero = open("/dev/zero", O_RDWR);
    while (!is_over) {
        getuid(), getppid();
        read(zero, bytes, 64), write(zero, bytes, 900), pread(zero, bytes, 1, 0);
        stat("/etc/passwd", &about), access("/nosuch", 0), fstat(zero, &about), lseek(zero, 0, SEEK_CUR);
        close(open("/etc/passwd", O_RDONLY));
        shared->answered++;
        shared->at++;
    }
    return argument;
}

static void start_callers(void) {
    pthread_t thread;
    for (int each = 0; each < CALLERS; each++)
        pthread_create(&thread, 0, make_calls, 0);
    usleep(3000); /* so that call sites are patched, and a server looks into the slots */
}

static uint64_t interesting(uint64_t *state) {
    static const uint64_t NUMBERS[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 0x100, 0x101, 0xFFF, 0x1000, 0x1001, 0x2000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000,
                                       0xFFFF800000000000, 0x0000800000000000, STUB, STUB + PAGE, STUB + 2 * PAGE, CHANNEL, CHANNEL + 0x1000, -1, -8, 0xFFFFFFFFFF600000};
    switch (next(state) % 4) {
    case 0: return next(state);
    case 1: return (uint64_t)area + next(state) % 65536;
    default: return NUMBERS[next(state) % COUNT(NUMBERS)];
    }
}

static void write_over(uint64_t base, uint64_t len, uint64_t *state) {
    uint64_t value = interesting(state), at = next(state) % len;
    switch (next(state) % 4) {
    case 0: *(volatile uint8_t *)(base + at) = (uint8_t)value; break;
    case 1: *(volatile uint32_t *)(base + (at & ~3UL)) = (uint32_t)value; break;
    case 2: *(volatile uint64_t *)(base + (at < len - 8 ? at : 0)) = value; break; /* torn: at any address */
    default: *(volatile uint64_t *)(base + (at & ~7UL)) = value;
    }
}

/* The channel alone, and the stub's pages too (whose code is made writable first). */
static void scribble(void *argument) {
    long seed = *(long *)argument;
    uint64_t state = (uint64_t)seed * 0x9E3779B97F4A7C15 | 1;
    start_callers();
    if (seed % 3)
        mprotect((void *)(STUB + PAGE), 2 * PAGE, PROT_READ | PROT_WRITE);
    if (seed % 3 == 2)
        mprotect((void *)STUB, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    for (int count = 0; count < 60000; count++) {
        if (seed % 3 == 0 || next(&state) % 2)
            write_over(CHANNEL, CHANNEL_LEN, &state);
        else if (seed % 3 == 1)
            write_over(STUB + PAGE, 2 * PAGE, &state);
        else
            write_over(STUB, 3 * PAGE, &state);
        shared->at++;
    }
    is_over = 1;
}

/* Calls that nobody made: a slot filled in as the stub would, with any number and any arguments, and changed again once it was taken. */
static void forge(void *argument) {
    uint64_t state = *(uint64_t *)argument * 0x9E3779B97F4A7C15 | 1;
    start_callers();
    for (int count = 0; count < 30000; count++) {
        volatile char *slot = (char *)CHANNEL + next(&state) % 16 * 0x2000;
        *(volatile uint32_t *)(slot + 0x10) = next(&state) % 8 ? (uint32_t)(next(&state) % (LAST_CALL + 1)) : (uint32_t)interesting(&state);
        *(volatile uint64_t *)(slot + 0x08) = interesting(&state);
        *(volatile uint32_t *)(slot + 0x1C) = (uint32_t)interesting(&state);
        *(volatile uint32_t *)(slot + 0x20) = (uint32_t)interesting(&state);
        *(volatile uint64_t *)(slot + 0x28) = interesting(&state);
        *(volatile uint64_t *)(slot + 0x38) = interesting(&state);
        for (int each = 0; each < 6; each++)
            *(volatile uint64_t *)(slot + 0x40 + 8 * each) = interesting(&state);
        if (next(&state) % 2)
            memset((char *)slot + 0x100, next(&state) % 2 ? '/' : 'x', 256);
        *(volatile uint32_t *)slot = 1;
        for (int wait = 0; wait < 200 && *(volatile uint32_t *)slot == 1; wait++)
            __asm__ volatile("pause");
        shared->values[5] += *(volatile uint32_t *)slot != 1;
        *(volatile uint64_t *)(slot + 0x40 + 8 * (next(&state) % 6)) = interesting(&state);
        *(volatile uint32_t *)(slot + 0x10) = (uint32_t)interesting(&state);
        *(volatile uint32_t *)slot = (uint32_t)(next(&state) % 6);
        shared->at++;
    }
    is_over = 1;
}

static void with_seeds(void (*work)(void *), long seeds) {
    for (long seed = 1; seed <= seeds; seed++)
        attempt(work, &seed, 300);
}

static void scribbling(void) {
    with_seeds(scribble, 9);
}

static void forging(void) {
    with_seeds(forge, 6);
    printf("%ld forged calls were taken\n", shared->values[5]);
}

/* The stub goes away or becomes something else; then all that needs it. */
static void *nothing_much(void *argument) {
    return argument;
}

static void on_signal(int signal) {
    (void)signal;
    shared->values[1]++;
}

static void without_stub(void *argument) {
    int way = *(int *)argument;
    signal(SIGUSR1, on_signal), signal(SIGALRM, on_signal), signal(SIGSEGV, SIG_DFL);
    getppid(), read(0, area, 1);
    switch (way / 8) {
    case 0: munmap((void *)STUB, 3 * PAGE); break;
    case 1: munmap((void *)CHANNEL, CHANNEL_LEN); break;
    case 2: mmap((void *)STUB, 3 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); break;
    case 3: mremap((void *)STUB, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, STUB + 0x100000); break;
    case 4: mprotect((void *)STUB, 3 * PAGE, PROT_NONE); break;
    case 5: mprotect((void *)CHANNEL, CHANNEL_LEN, PROT_READ); break;
    case 6: munmap((void *)(STUB + PAGE), 2 * PAGE); break;
    case 7: mmap((void *)CHANNEL, CHANNEL_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0); break;
    case 8: mprotect((void *)STUB, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), memset((void *)STUB, 0x90, PAGE); break;
    case 9: madvise((void *)STUB, 3 * PAGE, MADV_DONTNEED), madvise((void *)CHANNEL, CHANNEL_LEN, MADV_REMOVE); break;
    case 10: mremap((void *)CHANNEL, CHANNEL_LEN, 16 * CHANNEL_LEN, MREMAP_MAYMOVE); break;
    }
    shared->at++;
    for (int count = 0; count < 200; count++)
        getppid(), read(0, area, 1), access("/etc/passwd", 0), getuid();
    shared->answered++;
    pthread_t thread;
    switch (way % 8) {
    case 0: raise(SIGUSR1); break;
    case 1: {
        struct itimerval often = {{0, 500}, {0, 500}};
        setitimer(ITIMER_REAL, &often, 0);
        for (volatile int count = 0; count < 3000000; count++)
            ;
        break;
    }
    case 2: {
        pid_t copy = fork();
        if (copy == 0)
            _exit(0);
        waitpid(copy, 0, 0);
        break;
    }
    case 3: pthread_create(&thread, 0, nothing_much, 0), pthread_join(thread, 0); break;
    case 4: execl("/bin/true", "true", (char *)0); break;
    case 5: *(volatile char *)0 = 0; break;
    case 6: syscall(SYS_rt_sigreturn); break;
    case 7: {
        pid_t copy = vfork();
        if (copy == 0)
            execl("/bin/true", "true", (char *)0), _exit(1);
        waitpid(copy, 0, 0);
        break;
    }
    }
    shared->answered++;
}

static void unmapping(void) {
    for (int way = 0; way < 11 * 8; way++)
        attempt(without_stub, &way, 150);
}

/* A trap behind each instruction, the stub's too: the trap flag is set, and calls are made. */
static volatile long in_stub;
static volatile uint64_t places;

static void on_trap(int signal, siginfo_t *info, void *context) {
    ucontext_t *interrupted = context;
    uint64_t ip = (uint64_t)interrupted->uc_mcontext.gregs[REG_RIP];
    (void)signal, (void)info;
    shared->at++;
    if (ip - STUB < PAGE)
        in_stub++, places |= 1UL << ((ip - STUB) / 64);
}

static void stepped(void *argument) {
    (void)argument;
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    char byte[2] = "xx";
    int zero = open("/dev/zero", O_RDWR);
    for (int count = 0; count < 20000; count++) /* so that the sites are patched */
        read(zero, byte, 1), getppid(), getuid();
    sigaction(SIGTRAP, &action, 0);
    pid_t parent = getppid();
    for (int count = 0; count < 6; count++) {
        byte[0] = 'x';
        __asm__ volatile("pushfq\n orq $0x100, (%%rsp)\n popfq" ::: "memory", "cc");
        long first = read(zero, byte, 1);
        pid_t second = getppid();
        uid_t third = getuid();
        __asm__ volatile("pushfq\n andq $~0x100, (%%rsp)\n popfq" ::: "memory", "cc");
        shared->wrong += first != 1 || byte[0] != 0 || byte[1] != 'x' || second != parent || third != getuid();
    }
    shared->values[2] = in_stub;
    shared->values[3] = (long)places;
    shared->answered++;
}

static void stepping(void) {
    int status = attempt(stepped, 0, 5000);
    printf("%ld traps in the stub, status %x\n", shared->values[2], status);
}

/* Signals at any instruction, from another process: what calls give stays right. */
static void interrupted(void *argument) {
    (void)argument;
    signal(SIGUSR1, on_signal), signal(SIGUSR2, on_signal);
    char bytes[256];
    int zero = open("/dev/zero", O_RDWR), ends[2];
    pid_t parent = getppid();
    struct stat about;
    stat("/etc/passwd", &about);
    ino_t inode = about.st_ino;
    pipe(ends);
    shared->values[4] = getpid();
    for (int count = 0; count < 4000; count++) {
        memset(bytes, 'x', sizeof bytes);
        long got = read(zero, bytes, 200);
        int is_right = got == 200 && bytes[0] == 0 && bytes[199] == 0 && bytes[200] == 'x';
        is_right &= getppid() == parent;
        memset(&about, 0, sizeof about);
        is_right &= stat("/etc/passwd", &about) == 0 && about.st_ino == inode;
        is_right &= write(ends[1], "ab", 2) == 2 && read(ends[0], bytes, 2) == 2 && bytes[0] == 'a' && bytes[1] == 'b';
        shared->wrong += !is_right;
        shared->at++;
    }
    shared->values[4] = 0;
    shared->answered++;
}

static void *send_signals(void *argument) {
    uint64_t state = 7;
    while (!is_over) {
        /* The next when the last was handled: one that comes while a handler runs would leave the calls no time. */
        long handled = shared->values[1];
        if (shared->values[4] && kill((pid_t)shared->values[4], next(&state) % 2 ? SIGUSR1 : SIGUSR2) == 0)
            for (int wait = 0; wait < 1000 && shared->values[1] == handled && shared->values[4] && !is_over; wait++)
                sched_yield();
        for (volatile uint64_t wait = next(&state) % 200000; wait && !is_over; wait--)
            ;
    }
    return argument;
}

static void storm(void) {
    pthread_t sender;
    pthread_create(&sender, 0, send_signals, 0);
    int status = attempt(interrupted, 0, 5000);
    is_over = 1;
    pthread_join(sender, 0);
    printf("%ld signals, status %x\n", shared->values[1], status);
    shared->wrong += status != 0 || shared->values[1] < 20;
}

int main(int argc, char **argv) {
    static const struct attack ATTACKS[] = {{"scribble", scribbling}, {"forge", forging}, {"unmap", unmapping}, {"step", stepping}, {"storm", storm}};
    return argc < 2 ? 2 : run_attack(ATTACKS, COUNT(ATTACKS), argv[1]);
}
