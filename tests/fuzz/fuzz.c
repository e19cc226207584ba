/* fuzz SEED SECONDS MOST: makes random calls with typed arguments in one process after the other, each with threads, and others that write over their memory.
   The same seed makes the same calls in each thread; how threads meet is the machine's choice. Prints how many processes there were. */
#define _GNU_SOURCE
#include "../hostile.h"
#include "calls.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { THREADS = 3, CALLS_EACH = 400, AREA = 1 << 18, SLICE_MS = 1500 };

static char *area; /* shared by the threads of a process, and written over at random */
static char *read_only;
static pid_t child;

static uint64_t next(uint64_t *state) {
    uint64_t x = *state;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return *state = x;
}

static uint64_t below(uint64_t *state, uint64_t limit) {
    return next(state) % limit;
}

static const char *PATHS[] = {
    ".", "..", "/", "/tmp/fuzz/a", "/tmp/fuzz/b", "/tmp/fuzz/dir", "/tmp/fuzz/dir/c", "/tmp/fuzz/link", "/tmp/fuzz/loop", "/tmp/fuzz/fifo", "/tmp/fuzz/socket",
    "a", "b", "dir", "link", "../../../../etc/passwd", "", "/proc/self/fd/3", "/proc/self/exe", "/proc/self/mem", "/proc/self/maps", "/proc/self/task", "/proc/self/root",
    "/proc/self/cwd/x", "/proc/1/root/tmp", "/proc/sys/kernel/hostname", "/proc/thread-self/comm", "/proc/self/oom_score_adj", "/proc/mounts", "/proc/net/tcp", "/proc/stat",
    "/proc/self/environ", "/proc/self/stat", "/proc/self/fdinfo/0", "/sys", "/sys/devices/system/cpu/online", "/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/tty",
    "/dev/ptmx", "/dev/pts/0", "/dev/shm/x", "/dev/fd/4", "/bin/sh", "/tmp/fuzz/a/", "/tmp/fuzz//dir/./../a", "user.test", "security.capability", "system.posix_acl_access",
};

static uint64_t buffer(uint64_t *state) {
    switch (below(state, 24)) {
    case 0: return 0;
    case 1: return (uint64_t)read_only;
    case 2: return 0x500000000000;                /* the loader's and the stub's own */
    case 3: return 0x500000000000 + below(state, 8192);
    case 4: return 0xFFFF800000000000;
    case 5: return 0xFFFFFFFFFFFFFFF8;
    case 6: return (uint64_t)area + AREA - below(state, 64);
    case 7: return 0x7FFFFFFFF000;
    case 8: return next(state);
    case 9: return 0xFFFFFFFFFF600000;
    default: return (uint64_t)area + below(state, AREA - 4096);
    }
}

static uint64_t path(uint64_t *state) {
    if (below(state, 12) == 0)
        return buffer(state);
    return (uint64_t)PATHS[below(state, COUNT(PATHS))];
}

static uint64_t number(uint64_t *state) {
    static const uint64_t SPECIAL[] = {0, 1, 2, 3, 4, 7, 8, 9, 12, 15, 16, 17, 31, 32, 63, 64, 65, 127, 128, 255, 256, 1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536,
                                       0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, -1, -2, -100, -4096, -95};
    return below(state, 4) ? SPECIAL[below(state, COUNT(SPECIAL))] : next(state);
}

static uint64_t argument(char kind, uint64_t *state) {
    switch (kind) {
    case 'd': return below(state, 20) ? below(state, 48) : number(state);
    case 'p': return path(state);
    case 'b': return buffer(state);
    case 'a': {
        uint64_t at = (uint64_t)area + below(state, AREA - 256);
        struct sockaddr_in inet = {.sin_family = AF_INET, .sin_port = htons(1024 + below(state, 64)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/tmp/fuzz/socket"};
        if (below(state, 3) == 0)
            return buffer(state);
        memcpy((void *)at, below(state, 2) ? (void *)&inet : (void *)&local, below(state, 2) ? sizeof inet : sizeof local);
        return at;
    }
    case 'v': {
        struct iovec *parts = (void *)(area + (below(state, AREA - 65536) & ~7UL));
        for (int each = 0; each < 8; each++)
            parts[each] = (struct iovec){(void *)buffer(state), below(state, 3) ? below(state, 70000) : number(state)};
        return below(state, 10) ? (uint64_t)parts : buffer(state);
    }
    case 'l': return below(state, 3) ? below(state, 9000) : number(state);
    case 'z': return below(state, 8) ? below(state, 40) : number(state);
    case 'f': return below(state, 4) == 0 ? next(state) : below(state, 2) ? 1UL << below(state, 32) : (1UL << below(state, 32)) | (1UL << below(state, 20));
    case 'm': return below(state, 4) ? below(state, 4096) : (below(state, 16) << 12) | below(state, 4096);
    case 'i': return below(state, 6) == 0 ? number(state) | 0x40000000 : below(state, 3) ? 0 : below(state, 2) ? (uint64_t)getpid() : (uint64_t)child;
    case 's': return below(state, 4) ? below(state, 66) : number(state);
    case 'o': return below(state, 3) ? below(state, 100000) : number(state);
    case 't': {
        struct timespec *time = (void *)(area + (below(state, AREA - 64) & ~7UL));
        *time = (struct timespec){below(state, 10) ? 0 : (long)number(state), (long)below(state, 3000000)};
        return below(state, 4) ? (uint64_t)time : buffer(state);
    }
    default: return below(state, 2) ? number(state) : buffer(state);
    }
}

/* A signal to everybody is no attack on the sentry, but would end those who watch. */
static int is_for_others(int nr, const uint64_t *args) {
    pid_t target = (pid_t)args[0];
    switch (nr) {
    case SYS_kill: case SYS_rt_sigqueueinfo: case SYS_tkill: case SYS_tgkill: case SYS_rt_tgsigqueueinfo:
        return target != getpid() && target != child && target != 0 && target < 0x40000000;
    default: return 0;
    }
}

static int on_clone(void *argument) {
    uint64_t state = (uint64_t)argument | 1;
    for (int each = 0; each < 5; each++)
        syscall(CALLS[below(&state, COUNT(CALLS))].nr % 57, below(&state, 30), buffer(&state), below(&state, 4096));
    syscall(SYS_exit, 0);
    return 0;
}

static void start_something(uint64_t *state) {
    static const int FLAGS[] = {0, CLONE_FS, CLONE_FILES, CLONE_FS | CLONE_FILES, CLONE_VM, CLONE_VM | CLONE_VFORK, CLONE_VM | CLONE_SIGHAND, CLONE_PARENT, CLONE_NEWUSER,
                                CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM, CLONE_CHILD_SETTID | CLONE_PARENT_SETTID, CLONE_PIDFD};
    char *stack = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        return;
    int flags = FLAGS[below(state, COUNT(FLAGS))] | (below(state, 4) ? SIGCHLD : (int)below(state, 64));
    clone(on_clone, stack + 65536, flags, (void *)next(state), area + below(state, AREA - 8), 0, area + below(state, AREA - 8));
}

static void *call_on(void *seed) {
    uint64_t state = (uint64_t)seed;
    for (int each = 0; each < CALLS_EACH; each++) {
        const struct call *call = &CALLS[below(&state, COUNT(CALLS))];
        uint64_t args[6] = {0};
        for (int place = 0; call->kinds[place]; place++)
            args[place] = argument(call->kinds[place], &state);
        if (below(&state, 60) == 0)
            start_something(&state);
        if (is_for_others(call->nr, args))
            continue;
        syscall(call->nr, args[0], args[1], args[2], args[3], args[4], args[5]);
    }
    return 0;
}

static void *scribble(void *argument) {
    uint64_t state = (uint64_t)argument;
    for (;;) {
        uint64_t at = below(&state, AREA - 8);
        *(volatile uint64_t *)(area + at) = below(&state, 2) ? number(&state) : buffer(&state);
        if (below(&state, 64) == 0)
            sched_yield();
    }
    return 0;
}

static void on_alarm(int signal) {
    (void)signal;
}

static void open_all(void) {
    int fds[2];
    sigset_t signals;
    mkdir("/tmp/fuzz", 0777), mkdir("/tmp/fuzz/dir", 0777), chdir("/tmp/fuzz");
    open("a", O_RDWR | O_CREAT, 0666), open("b", O_RDWR | O_CREAT | O_APPEND, 0666), symlink("a", "link"), symlink("loop", "loop"), mkfifo("fifo", 0666);
    open(".", O_RDONLY | O_DIRECTORY), open("/", O_PATH), open("fifo", O_RDWR | O_NONBLOCK), open("/dev/zero", O_RDWR), open("/dev/ptmx", O_RDWR | O_NOCTTY);
    open("/proc/self/status", O_RDONLY), open("/proc/self/fd", O_RDONLY);
    pipe(fds), pipe2(fds, O_NONBLOCK);
    socketpair(AF_UNIX, SOCK_STREAM, 0, fds), socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds);
    socket(AF_INET, SOCK_STREAM, 0), socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), socket(AF_NETLINK, SOCK_RAW, 0), socket(AF_UNIX, SOCK_STREAM, 0);
    epoll_create1(0), eventfd(1, 0), timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), inotify_init1(IN_NONBLOCK), memfd_create("m", MFD_ALLOW_SEALING);
    sigemptyset(&signals), sigaddset(&signals, SIGUSR1), signalfd(-1, &signals, SFD_NONBLOCK);
    syscall(434, getpid(), 0);
}

static void one_process(uint64_t seed) {
    uint64_t state = seed | 1;
    int nothing = open("/dev/null", O_RDWR);
    setsid();
    for (int each = 0; each < 3; each++)
        dup2(nothing, each);
    for (int each = 0; each < 16; each++)
        next(&state);
    area = mmap(0, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    read_only = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct rlimit processes = {64, 64}, size = {64 << 20, 64 << 20};
    setrlimit(RLIMIT_FSIZE, &size);
    setrlimit(RLIMIT_NPROC, &processes);
    open_all();
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, 0);
    struct itimerval often = {{0, 20000}, {0, 20000}};
    setitimer(ITIMER_REAL, &often, 0);
    child = fork();
    if (child == 0) {
        for (;;)
            pause();
    }
    pthread_t threads[THREADS + 1];
    pthread_create(&threads[THREADS], 0, scribble, (void *)(next(&state) | 1));
    for (int each = 0; each < THREADS; each++)
        pthread_create(&threads[each], 0, call_on, (void *)(next(&state) | 1));
    for (int each = 0; each < THREADS; each++)
        pthread_join(threads[each], 0);
    _exit(0);
}

static int spend(int count) {
    while (count--) {
        pid_t spent = fork();
        if (spent == 0)
            _exit(0);
        waitpid(spent, 0, 0);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) /* Small numbers are arguments: as an owner of descriptors (F_SETOWN) a process of such a number would get signals. They are used up. */
        return spend(600);
    need_a_sentry();
    uint64_t seed = strtoull(argv[1], 0, 0);
    long until = now_ms() + atol(argv[2]) * 1000, most = atol(argv[3]), count = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (; now_ms() < until && count < most; count++) {
        pid_t worker = fork();
        if (worker == 0)
            one_process(seed * 1000003 + count);
        long stop = now_ms() + SLICE_MS;
        while (worker > 0 && waitpid(worker, 0, WNOHANG) == 0) {
            if (now_ms() > stop)
                kill(worker, SIGKILL);
            usleep(2000);
        }
        end_all();
    }
    printf("%ld processes\n", count);
    return 0;
}
