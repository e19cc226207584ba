#include "events.h"

static void show(int fd)
{
    struct signalfd_siginfo info[4];
    ssize_t len = read(fd, info, sizeof info);
    printf("read %zd %d\n", len, len < 0 ? errno : 0);
    for (int i = 0; i < (int)(len / 128); i++)
        printf("  signal %u code %d self %d uid %u int %d ptr %llx status %d overrun %u\n", info[i].ssi_signo, info[i].ssi_code,
               (pid_t)info[i].ssi_pid == getpid(), info[i].ssi_uid, info[i].ssi_int, (unsigned long long)info[i].ssi_ptr,
               info[i].ssi_status, info[i].ssi_overrun);
}

int main(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGKILL);
    sigprocmask(SIG_BLOCK, &set, NULL);
    SAY(signalfd(-1, &set, 0x10));
    SAY(signalfd(0, &set, 0));
    SAY(signalfd(99, &set, 0));
    SAY(syscall(SYS_signalfd4, -1, &set, 4, 0));
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    printf("flags %x %x\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    show(fd);
    kill(getpid(), SIGUSR1);
    struct pollfd polled = {fd, POLLIN, 0};
    SAY(poll(&polled, 1, 0));
    char small[64];
    SAY(read(fd, small, 64));
    show(fd);
    SAY(poll(&polled, 1, 0));
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 41});
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 42});
    raise(SIGUSR1);
    show(fd);
    if (fork() == 0)
        _exit(7);
    SAY(poll(&polled, 1, 5000));
    show(fd);
    wait(NULL);
    // epoll, both triggers; a blocking reader; another mask.
    int ep = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN}, got;
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    SAY(epoll_wait(ep, &got, 1, 0));
    raise(SIGUSR1);
    SAY(epoll_wait(ep, &got, 1, 0));
    show(fd);
    SAY(epoll_wait(ep, &got, 1, 0));
    int same = signalfd(fd, &(sigset_t){0}, 0);
    printf("same %d\n", same == fd);
    raise(SIGUSR1);
    SAY(poll(&polled, 1, 0));
    show(fd);
    signalfd(fd, &set, 0);
    SAY(poll(&polled, 1, 0));
    // A child reads its own signals, not its parent's.
    pid_t child = fork();
    if (child == 0) {
        show(fd);
        raise(SIGRTMIN);
        show(fd);
        fflush(stdout);
        _exit(0);
    }
    fflush(stdout);
    waitpid(child, NULL, 0);
    int timer_fd = signalfd(-1, &set, 0);
    timer_t timer;
    struct sigevent how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 9};
    show(fd);
    timer_create(CLOCK_MONOTONIC, &how, &timer);
    timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 30000000}}, NULL);
    show(timer_fd);
    return 0;
}
