#include "events.h"
#include <sys/file.h>

static int p[2];

static void on_signal(int signal)
{
    write(1, "handler\n", 8);
}

static void set(int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
}

// A child that signals its parent while that waits in a call, and then ends the wait.
static pid_t disturb(void)
{
    fflush(stdout);
    pid_t child = fork();
    if (child)
        return child;
    // Long enough for the parent to wait by then, on a busy machine too.
    pause_ms(250);
    kill(getppid(), SIGUSR1);
    pause_ms(80);
    write(p[1], "x", 1);
    pause_ms(80);
    _exit(3);
}

static void drain(void)
{
    char buf[4096];
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    while (read(p[0], buf, sizeof buf) > 0) {}
    fcntl(p[0], F_SETFL, 0);
}

static void done(pid_t child)
{
    int status;
    // A full pipe would keep the child from its end.
    drain();
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    drain();
}

int main(void)
{
    pipe(p);
    for (int restart = 0; restart < 2; restart++) {
        printf("-- SA_RESTART %d\n", restart);
        set(restart ? SA_RESTART : 0);
        char buf[8];
        pid_t child = disturb();
        SAY(read(p[0], buf, 8));
        done(child);
        child = disturb();
        int status;
        SAY(waitpid(child, &status, 0) == child);
        done(child);
        child = disturb();
        struct pollfd polled = {p[0], POLLIN, 0};
        SAY(poll(&polled, 1, 3000));
        done(child);
        child = disturb();
        SAY(pause());
        done(child);
        child = disturb();
        int set_fd = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN}, got;
        epoll_ctl(set_fd, EPOLL_CTL_ADD, p[0], &event);
        SAY(epoll_wait(set_fd, &got, 1, 3000));
        done(child);
        close(set_fd);
        child = disturb();
        sigset_t wanted;
        sigemptyset(&wanted);
        sigaddset(&wanted, SIGCHLD);
        sigprocmask(SIG_BLOCK, &wanted, NULL);
        siginfo_t info;
        SAY(sigwaitinfo(&wanted, &info));
        sigprocmask(SIG_UNBLOCK, &wanted, NULL);
        done(child);
        child = disturb();
        siginfo_t state;
        SAY(waitid(P_PID, child, &state, WEXITED | WNOWAIT));
        done(child);
        // A write that has come half-way tells how far.
        char big[200000] = {0};
        child = disturb();
        SAY(write(p[1], big, sizeof big));
        done(child);
        uint64_t value;
        int counter = eventfd(0, 0);
        fflush(stdout);
        child = fork();
        if (child == 0) {
            pause_ms(250);
            kill(getppid(), SIGUSR1);
            pause_ms(60);
            eventfd_write(counter, 5);
            _exit(0);
        }
        SAY(read(counter, &value, 8));
        done(child);
    }
    return 0;
}
