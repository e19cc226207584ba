// clone3(2): what each side finds in its registers, at a site that is called once and at one that is called often; every flag that libraries use; errors.
#include "events.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/prctl.h>

#define CLEAR_SIGHAND 0x100000000ULL
#define INTO_CGROUP 0x200000000ULL
#define THREAD (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

// As glibc's: a child on another stack calls `run(argument)` and ends.
static inline __attribute__((always_inline)) long clone3_here(struct clone_args *args, size_t size, void (*run)(void *), void *argument)
{
    register long r10 __asm__("r10") = 0x1010;
    register long r8 __asm__("r8") = (long)run;
    register long r9 __asm__("r9") = (long)argument;
    register long r12 __asm__("r12") = 0x1212;
    long result, rdi = (long)args, rsi = (long)size, rdx = 0xddd;
    __asm__ volatile(
        "syscall; test %%rax, %%rax; jnz 1f; test %%r8, %%r8; jz 1f\n"
        "cmp $0x1010, %%r10; jne 2f; cmp $0xddd, %%rdx; jne 2f; cmp $0x1212, %%r12; jne 2f; mov %%r9, %%rdi; and $-16, %%rsp; call *%%r8\n"
        "2: xor %%edi, %%edi; mov $60, %%eax; syscall; ud2\n1:"
        : "=a"(result), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r10), "+r"(r8), "+r"(r9), "+r"(r12) : "0"(SYS_clone3) : "rcx", "r11", "memory", "cc");
    if (rdi != (long)args || rsi != (long)size || rdx != 0xddd || r10 != 0x1010 || r8 != (long)run || r9 != (long)argument || r12 != 0x1212) {
        write(1, "registers lost\n", 15);
        _exit(99);
    }
    return result;
}

// One site for most.
__attribute__((noinline)) static long clone3(struct clone_args *args, size_t size, void (*run)(void *), void *argument)
{
    return clone3_here(args, size, run, argument);
}

static char stack[65536] __attribute__((aligned(16)));
static volatile int ran;
static volatile int place; // Whether the child's stack pointer was near the top of its stack.
static volatile sig_atomic_t signals;
static void on_signal(int unused) { signals++; (void)unused; }
static void run(void *argument)
{
    char here;
    place = &here < stack + sizeof stack && &here > stack + sizeof stack - 1024;
    ran += *(int *)argument;
}

static int wait_for(long child, int options)
{
    int status = -1;
    return waitpid((pid_t)child, &status, options) == child ? status : -1;
}

static void error(const char *what, struct clone_args args, size_t size)
{
    long result = clone3(&args, size, NULL, NULL);
    if (result == 0) _exit(0);
    if (result > 0) waitpid((pid_t)result, NULL, __WALL);
    printf("%s: %ld\n", what, result > 0 ? 1 : result);
}

static void errors(void)
{
    signal(64, SIG_IGN);
    static union { struct clone_args args; char bytes[8192]; } big = {.args = {.exit_signal = SIGCHLD}};
    const struct clone_args plain = {.exit_signal = SIGCHLD};
    struct clone_args args;
    for (int size = 0; size <= 100; size += 4) {
        char name[20];
        snprintf(name, sizeof name, "size %d", size);
        long result = clone3(&big.args, (size_t)size, NULL, NULL);
        if (result == 0) _exit(0);
        if (result > 0) waitpid((pid_t)result, NULL, 0);
        printf("%s: %ld\n", name, result > 0 ? 1 : result);
    }
    for (int size = 4095; size <= 4097; size++) {
        long result = clone3(&big.args, (size_t)size, NULL, NULL);
        if (result == 0) _exit(0);
        if (result > 0) waitpid((pid_t)result, NULL, 0);
        printf("size %d: %ld\n", size, result > 0 ? 1 : result);
    }
    big.bytes[4000] = 1;
    printf("later kernel's: %ld\n", clone3(&big.args, 4096, NULL, NULL));
    printf("null %ld, unmapped %ld\n", clone3(NULL, 88, NULL, NULL), clone3((void *)0x1000, 88, NULL, NULL));
#define WITH(what, ...) args = plain; __VA_ARGS__; error(what, args, 88)
    WITH("signal 64", args.exit_signal = 64);
    WITH("signal 65", args.exit_signal = 65);
    WITH("signal 256", args.exit_signal = 256);
    WITH("signal high", args.exit_signal = 1ULL << 33);
    WITH("csignal", args.flags = SIGCHLD);
    WITH("detached", args.flags = CLONE_DETACHED);
    WITH("unknown", args.flags = 1ULL << 34);
    WITH("unknown 63", args.flags = 1ULL << 63);
    WITH("sighand alone", args.flags = CLONE_SIGHAND);
    WITH("sighand and clear", args.flags = CLONE_SIGHAND | CLONE_VM | CLEAR_SIGHAND);
    WITH("thread with a signal", args.flags = THREAD);
    WITH("thread without handlers", args.flags = CLONE_THREAD | CLONE_VM; args.exit_signal = 0);
    WITH("parent with a signal", args.flags = CLONE_PARENT);
    WITH("stack without a size", args.stack = (long)stack);
    WITH("size without a stack", args.stack_size = 4096);
    WITH("stack of the kernel", args.stack = 0xffff800000000000; args.stack_size = 4096);
    WITH("stack round", args.stack = (long)stack; args.stack_size = -4096);
    WITH("no set_tid", args.set_tid_size = 1);
    WITH("empty set_tid", args.set_tid = (long)stack);
    WITH("long set_tid", args.set_tid = (long)stack; args.set_tid_size = 33);
    WITH("bad set_tid", args.set_tid = 0x1000; args.set_tid_size = 1);
    int zero = 0, tid = 300;
    WITH("zero set_tid", args.set_tid = (long)&zero; args.set_tid_size = 1);
    WITH("cgroup absent", args.flags = INTO_CGROUP; args.cgroup = 999);
    WITH("cgroup large", args.flags = INTO_CGROUP; args.cgroup = 1ULL << 31);
    int root = open("/", O_RDONLY);
    WITH("cgroup none", args.flags = INTO_CGROUP; args.cgroup = (unsigned)root);
    args = plain, args.flags = INTO_CGROUP, args.cgroup = (unsigned)root;
    error("cgroup short", args, 80);
    WITH("cgroup ignored", args.cgroup = 999);
    int pidfd;
    WITH("pidfd twice", args.flags = CLONE_PIDFD | CLONE_PARENT_SETTID; args.pidfd = args.parent_tid = (long)&pidfd);
    WITH("pidfd nowhere", args.flags = CLONE_PIDFD; args.pidfd = 0x1000);
    fflush(stdout);
    if (fork() == 0) {
        setresuid(65534, 65534, 65534);
        WITH("set_tid of nobody", args.set_tid = (long)&tid; args.set_tid_size = 1);
        WITH("namespaces of nobody", args.flags = CLONE_NEWNS);
        WITH("namespaces and a thread of nobody", args.flags = CLONE_NEWIPC);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
}

static void flags(void)
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    long child = clone3(&args, 88, NULL, NULL);
    if (child == 0) _exit(3);
    printf("fork %x\n", wait_for(child, 0));

    args.flags = CLONE_VM | CLONE_VFORK;
    volatile int kept = 77;
    child = clone3_here(&args, 88, NULL, NULL);
    if (child == 0) {
        char deep[2000];
        memset(deep, 1, sizeof deep);
        __asm__ volatile("" : : "r"(deep) : "memory");
        execl("/bin/sh", "sh", "-c", "exit 5", NULL);
        _exit(6);
    }
    printf("vfork %x kept %d\n", wait_for(child, 0), kept);

    int pidfd = -1, parent_tid = -1, child_tid = -1;
    args = (struct clone_args){.flags = CLONE_PIDFD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, .exit_signal = SIGUSR2, .pidfd = (long)&pidfd, .parent_tid = (long)&parent_tid, .child_tid = (long)&child_tid};
    signal(SIGUSR2, on_signal);
    child = clone3(&args, 88, NULL, NULL);
    if (child == 0) _exit(child_tid == getpid() ? 0 : 9);
    siginfo_t info = {0};
    int waited = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | __WALL);
    printf("pidfd %d wait %d same %d told %d status %d other signal %d cloexec %d\n", pidfd > 2, waited, info.si_pid == child, parent_tid == child, info.si_status, signals, fcntl(pidfd, F_GETFD));
    close(pidfd);

    // clone(2) with another signal, with none, and with a number that is no signal's.
    for (int turn = 0; turn < 3; turn++) {
        child = syscall(SYS_clone, (long[]){SIGUSR2, 0, 200}[turn], 0, 0, 0, 0);
        if (child == 0) _exit(8);
        int plain = wait_for(child, 0), all = wait_for(child, __WALL);
        printf("other end: without __WALL %d, with it %x, signals %d\n", plain, all, signals);
    }

    signal(SIGUSR1, SIG_IGN);
    args = (struct clone_args){.flags = CLEAR_SIGHAND, .exit_signal = SIGCHLD};
    child = clone3(&args, 88, NULL, NULL);
    if (child == 0) {
        struct sigaction one, two;
        sigaction(SIGUSR1, NULL, &one);
        sigaction(SIGUSR2, NULL, &two);
        _exit((one.sa_handler == SIG_IGN) + 2 * (two.sa_handler == SIG_DFL) + 4 * (two.sa_flags == 0));
    }
    printf("cleared %x\n", wait_for(child, 0));
    struct sigaction still;
    sigaction(SIGUSR2, NULL, &still);
    printf("own kept %d\n", still.sa_handler == on_signal);
    signal(SIGUSR1, SIG_DFL);

    // On a stack of its own, again and again: in its creator's memory, and in a copy.
    int one = 1, good = 0;
    for (int turn = 0; turn < 40; turn++) {
        args = (struct clone_args){.flags = CLONE_VM | CLONE_FS, .exit_signal = SIGCHLD, .stack = (long)stack, .stack_size = sizeof stack};
        child = clone3(&args, 88, run, &one);
        good += wait_for(child, 0) == 0 && place;
        args.flags = 0;
        child = clone3(&args, 88, run, &one);
        good += wait_for(child, 0) == 0;
    }
    printf("ran %d good %d\n", ran, good);
    ran = 0;
    for (int turn = 0; turn < 40; turn++) {
        volatile int ended = 1;
        args = (struct clone_args){.flags = THREAD | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID, .parent_tid = (long)&parent_tid, .child_tid = (long)&ended, .stack = (long)stack, .stack_size = sizeof stack};
        child = clone3(&args, 88, run, &one);
        if (child < 0) break;
        while (ended) syscall(SYS_futex, &ended, FUTEX_WAIT, 1, NULL, NULL, 0);
        good += parent_tid == child;
    }
    printf("threads %d good %d\n", ran, good);

    // A stack that cannot be written: the child dies of it, not its creator.
    args = (struct clone_args){.flags = CLONE_VM, .exit_signal = SIGCHLD, .stack = 0x10000, .stack_size = 4096};
    child = clone3(&args, 88, run, &one);
    printf("bad stack %x\n", wait_for(child, 0) & 0x7f);
}

static void *thread(void *argument) { return argument; }

static int library(void)
{
    int good = 0;
    for (long turn = 0; turn < 60; turn++) {
        pthread_t id;
        void *result = NULL;
        if (pthread_create(&id, NULL, thread, (void *)turn)) break;
        pthread_join(id, &result);
        good += result == (void *)turn;
    }
    for (int turn = 0; turn < 10; turn++) {
        pid_t child;
        char *argv[] = {"sh", "-c", "exit 4", NULL}, *environment[] = {NULL};
        if (posix_spawn(&child, "/bin/sh", NULL, NULL, argv, environment)) break;
        good += wait_for(child, 0) == 0x400;
    }
    return good;
}

static void storm(void)
{
    signal(SIGALRM, on_signal);
    struct itimerval often = {{0, 300}, {0, 300}}, never = {0};
    setitimer(ITIMER_REAL, &often, NULL);
    int good = 0, one = 1;
    ran = 0;
    for (int turn = 0; turn < 100; turn++) {
        struct clone_args args = {.exit_signal = SIGCHLD};
        long child = clone3(&args, 88, NULL, NULL);
        if (child == 0) _exit(turn & 15);
        int status = -1;
        while (waitpid((pid_t)child, &status, 0) < 0 && errno == EINTR) {}
        good += status == (turn & 15) << 8;
        args = (struct clone_args){.flags = CLONE_VM, .exit_signal = SIGCHLD, .stack = (long)stack, .stack_size = sizeof stack};
        child = clone3(&args, 88, run, &one);
        while (waitpid((pid_t)child, &status, 0) < 0 && errno == EINTR) {}
        good += status == 0;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    printf("storm %d ran %d, library %d\n", good, ran, library());
}

// A filter that answers one call with an errno.
static void refuse(unsigned nr, unsigned with)
{
    struct sock_filter code[] = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0}, {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, nr}, {BPF_RET, 0, 0, SECCOMP_RET_ERRNO | with}, {BPF_RET, 0, 0, SECCOMP_RET_ALLOW}};
    struct sock_fprog program = {4, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) printf("no filter: %d\n", errno);
}

static void filtered(void)
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    if (fork() == 0) {
        refuse(SYS_clone, EPERM);
        printf("without clone: library %d, fork %d\n", library(), fork());
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    refuse(SYS_clone3, ENOSYS);
    printf("without clone3: %ld, library %d\n", clone3(&args, 88, NULL, NULL), library());
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    errors();
    fflush(stdout);
    flags();
    printf("library %d\n", library());
    fflush(stdout);
    storm();
    fflush(stdout);
    filtered();
    return 0;
}
