/* FIOASYNC: what can signal takes it and shows it in its flags (nginx's master asks it of a socket pair before it starts a worker), other files refuse. */
#include "check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static void ask(const char *name, int fd)
{
    int on = 1, off = 0;
    printf("%s\n", name);
    T(ioctl(fd, FIOASYNC, &off));
    T(ioctl(fd, FIOASYNC, &on));
    T(!!(fcntl(fd, F_GETFL) & O_ASYNC));
    T(ioctl(fd, FIOASYNC, &on));
    T(ioctl(fd, FIOASYNC, &off));
    T(!!(fcntl(fd, F_GETFL) & O_ASYNC));
}

int main(void)
{
    // The flag is what is compared here: signals are sigio.c's.
    signal(SIGIO, SIG_IGN);
    int pair[2], ends[2];
    T(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    T(pipe(ends));
    ask("local socket", pair[0]);
    ask("pipe", ends[0]);
    ask("its other end", ends[1]);
    ask("network socket", socket(AF_INET, SOCK_STREAM, 0));
    ask("terminal", posix_openpt(O_RDWR | O_NOCTTY));
    ask("inotify", inotify_init1(0));
    ask("eventfd", eventfd(0, 0));
    ask("epoll", epoll_create1(0));
    ask("timerfd", timerfd_create(CLOCK_MONOTONIC, 0));
    ask("file", open("/proc/self/exe", O_RDONLY));
    ask("directory", open("/", O_RDONLY));
    ask("device", open("/dev/null", O_RDWR));
    T(ioctl(pair[0], FIOASYNC, (int *)8));
    T(ioctl(-1, FIOASYNC, (int *)8));
    T(fcntl(pair[0], F_SETOWN, getpid()));
    return 0;
}
