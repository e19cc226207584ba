#include "events.h"

#define pidfd_open(pid, flags) syscall(SYS_pidfd_open, pid, flags)
#define pidfd_send(fd, signal, info, flags) syscall(SYS_pidfd_send_signal, fd, signal, info, flags)
#define pidfd_getfd(fd, target, flags) syscall(SYS_pidfd_getfd, fd, target, flags)
#define MY_PIDFD 3

static void *thread_main(void *fd)
{
    *(int *)fd = syscall(SYS_gettid);
    pause();
    return NULL;
}

int main(void)
{
    SAY(pidfd_open(0, 0));
    SAY(pidfd_open(-1, 0));
    SAY(pidfd_open(getpid(), 1));
    SAY(pidfd_open(99999, 0));
    int own = pidfd_open(getpid(), 0);
    printf("flags %x %x\n", fcntl(own, F_GETFL), fcntl(own, F_GETFD));
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    int fd = pidfd_open(child, 0);
    struct pollfd polled = {fd, POLLIN, 0};
    SAY(poll(&polled, 1, 0));
    siginfo_t info;
    SAY(waitid(MY_PIDFD, fd, &info, WEXITED | WNOHANG));
    SAY(pidfd_send(fd, 0, NULL, 0));
    SAY(pidfd_send(fd, 65, NULL, 0));
    SAY(pidfd_send(fd, SIGTERM, NULL, 0x100));
    SAY(pidfd_send(0, SIGTERM, NULL, 0));
    SAY(pidfd_send(99, SIGTERM, NULL, 0));
    SAY(pidfd_send(fd, SIGTERM, NULL, 0));
    SAY(poll(&polled, 1, 5000));
    printf("revents %x\n", polled.revents);
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN}, got;
    SAY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    SAY(epoll_wait(set, &got, 1, 0));
    SAY(pidfd_send(fd, 0, NULL, 0));
    SAY(waitid(MY_PIDFD, fd, &info, WEXITED));
    printf("code %d status %d\n", info.si_code, info.si_status);
    SAY(poll(&polled, 1, 0));
    printf("revents %x\n", polled.revents);
    SAY(pidfd_send(fd, 0, NULL, 0));
    SAY(waitid(MY_PIDFD, fd, &info, WEXITED));
    SAY(waitid(MY_PIDFD, 0, &info, WEXITED));
    SAY(waitid(MY_PIDFD, 99, &info, WEXITED));
    // Without blocking.
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    fd = pidfd_open(child, O_NONBLOCK);
    SAY(waitid(MY_PIDFD, fd, &info, WEXITED));
    kill(child, SIGKILL);
    wait(NULL);
    // A descriptor of another process.
    int p[2];
    pipe(p);
    child = fork();
    if (child == 0) {
        int counter = eventfd(0, 0);
        write(p[1], &counter, 4);
        eventfd_t value;
        eventfd_read(counter, &value);
        _exit((int)value);
    }
    int theirs, status;
    read(p[0], &theirs, 4);
    fd = pidfd_open(child, 0);
    SAY(pidfd_getfd(fd, 99, 0));
    SAY(pidfd_getfd(fd, 0, 1));
    SAY(pidfd_getfd(0, 0, 0));
    int mine = pidfd_getfd(fd, theirs, 0);
    printf("close-on-exec %d\n", fcntl(mine, F_GETFD));
    SAY(eventfd_write(mine, 6));
    waitpid(child, &status, 0);
    printf("status %d\n", WEXITSTATUS(status));
    SAY(pidfd_getfd(fd, 0, 0));
    // A thread is no process.
    pthread_t thread;
    volatile int tid = 0;
    pthread_create(&thread, NULL, thread_main, (void *)&tid);
    while (!tid)
        usleep(1000);
    SAY(pidfd_open(tid, 0));
    signal(SIGUSR1, SIG_IGN);
    info = (siginfo_t){.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    SAY(pidfd_send(own, SIGUSR1, &info, 0));
    SAY(pidfd_send(own, SIGUSR2, &info, 0));
    return 0;
}
