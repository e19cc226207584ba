// Descriptors of threads: CLONE_PIDFD with CLONE_THREAD, PIDFD_THREAD, and whom signals through them are for.
#include "events.h"
#include <linux/sched.h>
#include <stddef.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#define pidfd_open(pid, flags) syscall(SYS_pidfd_open, pid, flags)
#define pidfd_send(fd, signal, info, flags) syscall(SYS_pidfd_send_signal, fd, signal, info, flags)
#define pidfd_getfd(fd, target, flags) syscall(SYS_pidfd_getfd, fd, target, flags)
#define TOGETHER (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

static volatile int got_by, got_code, go, thread_tid;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    got_code = info->si_code;
    got_by = syscall(SYS_gettid);
    (void)signal, (void)context;
}

// What the made thread does, without a thread of the C library's around it: waits, then ends.
static void thread_body(void)
{
    while (!go)
        syscall(SYS_sched_yield);
    syscall(SYS_exit, 0);
}

static char stack[65536] __attribute__((aligned(16)));

static long make_thread(unsigned long flags, int *pidfd, int by_clone3)
{
    struct clone_args args = {.flags = flags, .pidfd = (uintptr_t)pidfd, .stack = (uintptr_t)stack, .stack_size = sizeof stack - 64};
    long result;
    long number = by_clone3 ? 435 : SYS_clone;
    long first = by_clone3 ? (long)&args : (long)flags, second = by_clone3 ? (long)sizeof args : (long)(stack + sizeof stack - 64);
    register void *body __asm__("r12") = (void *)thread_body;
    register long none __asm__("r10") = 0;
    __asm__ volatile("syscall; test %%rax, %%rax; jnz 1f; xor %%ebp, %%ebp; call *%%r12; ud2; 1:"
                     : "=a"(result) : "0"(number), "D"(first), "S"(second), "d"(pidfd), "r"(body), "r"(none) : "rcx", "r11", "memory");
    return result;
}

static void waited(const char *what, int fd)
{
    struct pollfd polled = {fd, POLLIN, 0};
    printf("%s: before %d", what, poll(&polled, 1, 0));
    go = 1;
    int ready = poll(&polled, 1, 5000);
    printf(", after %d events %x\n", ready, polled.revents);
    SAY(pidfd_send(fd, 0, NULL, 0));
    SAY(pidfd_getfd(fd, 0, 0));
    go = 0;
}

static void *pausing(void *unused)
{
    thread_tid = syscall(SYS_gettid);
    while (!go)
        usleep(1000);
    return NULL;
}

static void hear(const char *what, int own)
{
    for (int i = 0; i < 2000 && !got_by; i++)
        usleep(1000);
    printf("%s: by %s, code %d\n", what, got_by == own ? "the first" : got_by == thread_tid ? "the thread" : "nobody", got_code);
    got_by = 0;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    for (int by_clone3 = 0; by_clone3 < 2; by_clone3++) {
        int pidfd = -1;
        long tid = make_thread(TOGETHER | CLONE_PIDFD, &pidfd, by_clone3);
        siginfo_t info;
        printf("made %d, descriptor %d, flags %x, close on exec %d\n", tid > 0, pidfd > 2, fcntl(pidfd, F_GETFL), fcntl(pidfd, F_GETFD));
        SAY(waitid(P_PIDFD, pidfd, &info, WEXITED | WNOHANG));
        SAY(pidfd_send(pidfd, 0, NULL, 0));
        SAY(pidfd_send(pidfd, 0, NULL, 3));
        SAY(pidfd_send(pidfd, 0, NULL, 8));
        waited(by_clone3 ? "by clone3" : "by clone", pidfd);
        close(pidfd);
    }
    pthread_t thread;
    pthread_create(&thread, NULL, pausing, NULL);
    while (!thread_tid)
        usleep(1000);
    int own = getpid();
    SAY(pidfd_open(thread_tid, 0));
    int theirs = pidfd_open(thread_tid, PIDFD_THREAD), mine = pidfd_open(own, PIDFD_THREAD), whole = pidfd_open(own, 0);
    printf("flags %x %x %x\n", fcntl(theirs, F_GETFL), fcntl(mine, F_GETFL), fcntl(whole, F_GETFL));
    pidfd_send(theirs, SIGUSR1, NULL, 0);
    hear("thread", own);
    pidfd_send(mine, SIGUSR1, NULL, 0);
    hear("own thread", own);
    pidfd_send(whole, SIGUSR1, NULL, 0);
    hear("process", own);
    pidfd_send(whole, SIGUSR1, NULL, 1);
    hear("process's first thread", own);
    // Any of its threads may take it.
    pidfd_send(theirs, SIGUSR1, NULL, 2);
    while (!got_by)
        usleep(1000);
    printf("thread's process: code %d\n", got_code);
    got_by = 0;
    SAY(pidfd_send(theirs, SIGUSR1, NULL, 4));
    setpgid(0, 0);
    pidfd_send(whole, SIGUSR1, NULL, 4);
    hear("group", own);
    siginfo_t made_up = {.si_signo = SIGUSR1, .si_code = SI_USER};
    SAY(pidfd_send(theirs, SIGUSR1, &made_up, 0));
    int copy = pidfd_getfd(theirs, 1, 0);
    printf("a thread's descriptor %d\n", copy > 2);
    struct pollfd polled[] = {{theirs, POLLIN, 0}, {mine, POLLIN, 0}, {whole, POLLIN, 0}};
    go = 1;
    pthread_join(thread, NULL);
    int ready = poll(polled, 3, 5000);
    printf("%d ready: %x %x %x\n", ready, polled[0].revents, polled[1].revents, polled[2].revents);
    SAY(pidfd_open(99999, PIDFD_THREAD));
    // A first thread that is gone, and whose process is not.
    int child = fork(), status;
    if (child == 0) {
        go = 0;
        pthread_create(&thread, NULL, pausing, NULL);
        syscall(SYS_exit, 0);
    }
    int first = pidfd_open(child, PIDFD_THREAD);
    whole = pidfd_open(child, 0);
    polled[0].fd = first, polled[1].fd = whole;
    ready = poll(polled, 2, 5000);
    printf("first thread gone: %d ready, %x %x\n", ready, polled[0].revents, polled[1].revents);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    ready = poll(polled, 2, 5000);
    printf("waited for: %d ready, %x %x\n", ready, polled[0].revents, polled[1].revents);
    return 0;
}
