#include "events.h"

static void on_alarm(int signal)
{
    printf("signal %d\n", signal);
}

static void arm(int ms)
{
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {ms / 1000, ms % 1000 * 1000}}, NULL);
}

int main(void)
{
    int p[2];
    pipe(p);
    fd_set in, out, except;
    FD_ZERO(&in); FD_ZERO(&out); FD_ZERO(&except);
    FD_SET(p[0], &in);
    FD_SET(p[1], &out);
    struct timeval limit = {2, 0};
    SAY(select(p[1] + 1, &in, &out, &except, &limit));
    printf("in %d out %d left %s\n", !!FD_ISSET(p[0], &in), !!FD_ISSET(p[1], &out), near(limit.tv_sec + limit.tv_usec / 1e6, 1.0, 2));
    FD_ZERO(&in);
    FD_SET(p[0], &in);
    limit = (struct timeval){0, 50000};
    double start = now();
    SAY(syscall(SYS_select, p[0] + 1, &in, NULL, NULL, &limit));
    printf("in %d left %ld waited %s\n", !!FD_ISSET(p[0], &in), (long)limit.tv_usec, near(now() - start, 0.049, 3));
    // Microseconds beyond a second, negative times, bad numbers.
    write(p[1], "x", 1);
    FD_SET(p[0], &in);
    limit = (struct timeval){0, 5000000};
    SAY(syscall(SYS_select, p[0] + 1, &in, NULL, NULL, &limit));
    printf("left %s\n", near(limit.tv_sec, 3, 5));
    limit = (struct timeval){-1, 0};
    SAY(syscall(SYS_select, p[0] + 1, &in, NULL, NULL, &limit));
    SAY(syscall(SYS_select, -1, &in, NULL, NULL, NULL));
    FD_ZERO(&in);
    FD_SET(63, &in);
    limit = (struct timeval){0, 0};
    SAY(select(64, &in, NULL, NULL, &limit));
    SAY(select(0, NULL, NULL, NULL, &limit));
    // A hang-up is readable, and does not end a wait for writing or for exceptions.
    int q[2];
    pipe(q);
    close(q[1]);
    FD_ZERO(&in);
    FD_SET(q[0], &in);
    SAY(select(q[0] + 1, &in, NULL, NULL, NULL));
    FD_ZERO(&except);
    FD_SET(q[0], &except);
    limit = (struct timeval){0, 30000};
    start = now();
    SAY(select(q[0] + 1, NULL, NULL, &except, &limit));
    printf("waited %s\n", near(now() - start, 0.029, 3));
    // Interrupted: what was left is told by the call itself.
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    arm(50);
    limit = (struct timeval){3, 0};
    SAY(syscall(SYS_select, 0, NULL, NULL, NULL, &limit));
    printf("left %s\n", near(limit.tv_sec + limit.tv_usec / 1e6, 1, 2.96));
    arm(50);
    struct timespec span = {3, 0};
    struct pollfd polled = {q[1], POLLIN, 0};
    polled.fd = -1;
    SAY(syscall(SYS_ppoll, &polled, 1, &span, NULL, 8));
    printf("left %s\n", near(span.tv_sec + span.tv_nsec / 1e9, 1, 2.96));
    arm(50);
    span = (struct timespec){3, 0};
    SAY(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &span, NULL));
    printf("left %s\n", near(span.tv_sec + span.tv_nsec / 1e9, 1, 2.96));
    arm(50);
    SAY(poll(&polled, 1, 3000));
    arm(50);
    int ep = epoll_create1(0);
    struct epoll_event got;
    SAY(epoll_wait(ep, &got, 1, 3000));
    // Masks: a pending signal comes in for the time of the call, and only then; a zero limit lets it in, but for epoll.
    sigset_t block, none, old;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGALRM);
    sigprocmask(SIG_BLOCK, &block, NULL);
    span = (struct timespec){0, 0};
    raise(SIGALRM);
    SAY(ppoll(&polled, 1, &span, &none));
    sigprocmask(SIG_SETMASK, NULL, &old);
    printf("still blocked %d\n", sigismember(&old, SIGALRM));
    raise(SIGALRM);
    SAY(pselect(0, NULL, NULL, NULL, &span, &none));
    raise(SIGALRM);
    SAY(epoll_pwait(ep, &got, 1, 0, &none));
    puts("then");
    SAY(epoll_pwait(ep, &got, 1, 1000, &none));
    raise(SIGALRM);
    // Something ready wins.
    polled = (struct pollfd){p[0], POLLIN, 0};
    SAY(ppoll(&polled, 1, NULL, &none));
    sigset_t pending;
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGALRM));
    SAY(sigsuspend(&none));
    sigprocmask(SIG_SETMASK, NULL, &old);
    printf("still blocked %d\n", sigismember(&old, SIGALRM));
    arm(50);
    SAY(syscall(SYS_epoll_pwait2, ep, &got, 1, &(struct timespec){5, 0}, &none, 8));
    SAY(syscall(SYS_epoll_pwait2, ep, &got, 1, &(struct timespec){0, 20000000}, &none, 8));
    SAY(syscall(SYS_epoll_pwait2, ep, &got, 1, &(struct timespec){0, 2000000000}, &none, 8));
    SAY(syscall(SYS_ppoll, &polled, 1, &span, &none, 4));
    SAY(poll(bad, 1 << 30, 0));
    SAY(poll(bad, 1, 0));
    polled = (struct pollfd){99, POLLIN, 0};
    SAY(poll(&polled, 1, -1));
    printf("revents %x\n", polled.revents);
    return 0;
}
