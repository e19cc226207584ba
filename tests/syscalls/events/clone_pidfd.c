// CLONE_PIDFD of clone(2): as fork, as vfork, on a stack of its own; what each side finds in its registers; errors.
#include "events.h"
#include <linux/sched.h>
#include <sys/resource.h>

static inline __attribute__((always_inline)) long raw_clone(unsigned long flags, void *stack, int *parent, int *child)
{
    register long r10 __asm__("r10") = (long)child;
    register long r8 __asm__("r8") = 0x1234;
    register long r9 __asm__("r9") = 0x9999;
    register long r12 __asm__("r12") = 0x1212;
    long result, rdi = flags, rsi = (long)stack, rdx = (long)parent;
    __asm__ volatile("syscall" : "=a"(result), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r10), "+r"(r8), "+r"(r9), "+r"(r12) : "0"(SYS_clone) : "rcx", "r11", "memory");
    if ((unsigned long)rdi != flags || rsi != (long)stack || rdx != (long)parent || r10 != (long)child || r8 != 0x1234 || r9 != 0x9999 || r12 != 0x1212)
        write(1, "registers lost\n", 15);
    return result;
}

static void told(const char *what, long child, int pidfd)
{
    siginfo_t info = {0};
    struct pollfd polled = {pidfd, POLLIN, 0};
    char name[64], link[64] = "";
    snprintf(name, sizeof name, "/proc/self/fd/%d", pidfd);
    readlink(name, link, sizeof link - 1);
    int ready = poll(&polled, 1, 5000);
    int waited = waitid(P_PIDFD, pidfd, &info, WEXITED);
    printf("%s: child %d fd %d %s cloexec %d ready %d wait %d status %d same %d\n", what, child > 0, pidfd > 2, link, fcntl(pidfd, F_GETFD), ready, waited, info.si_status, info.si_pid == child);
    close(pidfd);
}

static char stack[65536] __attribute__((aligned(16)));
static volatile int on_stack;
static volatile sig_atomic_t signals;
static void on_signal(int unused) { signals++; (void)unused; }

int main(void)
{
    int pidfd = -1;
    long child = raw_clone(CLONE_PIDFD | SIGCHLD, NULL, &pidfd, NULL);
    if (child == 0) _exit(fcntl(pidfd, F_GETFD) == -1 ? 3 : 4);
    told("fork", child, pidfd);

    // The child borrows this stack: what it does there must not hurt what we return to.
    volatile int kept = 77;
    pidfd = -1;
    child = raw_clone(CLONE_PIDFD | CLONE_VM | CLONE_VFORK | SIGCHLD, NULL, &pidfd, NULL);
    if (child == 0) {
        char deep[2000];
        memset(deep, 1, sizeof deep);
        __asm__ volatile("" : : "r"(deep) : "memory");
        execl("/bin/sh", "sh", "-c", "exit 5", NULL);
        _exit(6);
    }
    printf("kept %d\n", kept);
    told("vfork", child, pidfd);

    // A stack of its own, from which it must not return: it only looks where it is.
    pidfd = -1;
    long result;
    register long r10 __asm__("r10") = 0;
    __asm__ volatile(
        "mov $56, %%eax; syscall; test %%rax, %%rax; jnz 1f\n"
        "lea 8(%%rsp), %%rax; mov %%rsp, %1; mov $7, %%edi; mov $60, %%eax; syscall; ud2\n1:"
        : "=a"(result), "=m"(*(long *)(stack + 128)) : "D"(CLONE_PIDFD | CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD), "S"(stack + 32768), "d"(&pidfd), "r"(r10) : "rcx", "r11", "memory");
    told("stack", result, pidfd);
    on_stack = *(long *)(stack + 128) == (long)(stack + 32768);
    printf("ran there: %d\n", on_stack);

    // Signals that come all the time.
    signal(SIGALRM, on_signal);
    struct itimerval often = {{0, 300}, {0, 300}};
    setitimer(ITIMER_REAL, &often, NULL);
    int good = 0;
    for (int turn = 0; turn < 100; turn++) {
        pidfd = -1;
        child = raw_clone(CLONE_PIDFD | SIGCHLD, NULL, &pidfd, NULL);
        if (child == 0) _exit(turn & 15);
        siginfo_t info = {0};
        int waited;
        while ((waited = waitid(P_PIDFD, pidfd, &info, WEXITED)) == -1 && errno == EINTR) {}
        good += waited == 0 && info.si_pid == child && info.si_status == (turn & 15);
        close(pidfd);
    }
    memset(&often, 0, sizeof often);
    setitimer(ITIMER_REAL, &often, NULL);
    printf("under signals: %d, some came: %d\n", good, signals > 0);

    SAY(syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &pidfd, 0, 0));
    SAY(syscall(SYS_clone, CLONE_PIDFD | CLONE_DETACHED | SIGCHLD, 0, &pidfd, 0, 0));
    SAY(syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, bad, 0, 0));
    struct rlimit few = {3, 3};
    setrlimit(RLIMIT_NOFILE, &few);
    SAY(syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0));
    return 0;
}
