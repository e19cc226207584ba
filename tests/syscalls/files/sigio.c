/* O_ASYNC: who is signalled, with what, at which event of pipes, local sockets, terminals and inotify. fcntl(2), "Managing signals". */
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#ifndef FIOGETOWN
#include <asm/sockios.h>
#endif
#define RT (SIGRTMIN + 1)

static sigset_t watched;

static int named(int signal) { return signal >= SIGRTMIN ? 1000 + signal - SIGRTMIN : signal; }

static void print(const siginfo_t *info)
{
    printf("    signal %d code %d band %lx fd %d errno %d\n", named(info->si_signo), info->si_code, info->si_code == SI_KERNEL ? 0 : info->si_band,
           info->si_code == SI_KERNEL ? 0 : info->si_fd, info->si_errno);
}

/* All that is pending for the caller. */
static void told(const char *what)
{
    siginfo_t info;
    struct timespec now = {0, 0};
    printf("  %s:\n", what);
    while (sigtimedwait(&watched, &info, &now) > 0) print(&info);
}

/* What comes by way of the kernel's own threads: one signal, waited for. */
static void waited(const char *what)
{
    siginfo_t info;
    struct timespec long_time = {20, 0};
    printf("  %s:\n", what);
    if (sigtimedwait(&watched, &info, &long_time) > 0) print(&info);
    else puts("    nothing");
}

static void ask(int fd, int signal)
{
    if (fcntl(fd, F_SETOWN, getpid()) || (signal && fcntl(fd, F_SETSIG, signal)) || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC)) perror("ask");
}

#define STEP(call) do { T(call); told("then"); } while (0)

static void pipes(void)
{
    char buffer[70000] = {0};
    int ends[2];
    puts("pipe");
    pipe2(ends, O_NONBLOCK);
    ask(ends[0], RT);
    ask(ends[1], RT);
    told("asked");
    STEP(write(ends[1], "ab", 2));
    STEP(write(ends[1], "c", 1));
    STEP(write(ends[1], "", 0));
    STEP(read(ends[0], buffer, 1));
    STEP(read(ends[0], buffer, 0));
    STEP(read(ends[0], buffer, 10));
    STEP(read(ends[0], buffer, 10));
    STEP(write(ends[1], buffer, sizeof buffer));
    STEP(write(ends[1], buffer, 1));
    STEP(read(ends[0], buffer, sizeof buffer));
    // Of two descriptions the younger first, each with the descriptor that was named.
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    int other = open(path, O_RDONLY | O_NONBLOCK | O_ASYNC), copy = dup(other);
    T(fcntl(other, F_GETFL));
    STEP(write(ends[1], "d", 1));
    T(fcntl(other, F_SETFL, O_NONBLOCK));
    ask(copy, RT);
    STEP(write(ends[1], "e", 1));
    ask(other, RT);
    close(other);
    STEP(write(ends[1], "f", 1));
    close(copy);
    STEP(write(ends[1], "g", 1));
    // Once more by another descriptor: it is on already.
    copy = dup(ends[0]);
    T(fcntl(copy, F_SETFL, O_NONBLOCK | O_ASYNC));
    STEP(write(ends[1], "h", 1));
    T(fcntl(copy, F_SETFL, O_NONBLOCK));
    T(fcntl(copy, F_SETFL, O_NONBLOCK | O_ASYNC));
    STEP(write(ends[1], "i", 1));
    int off = 0, on = 1;
    T(ioctl(copy, FIOASYNC, &off));
    STEP(write(ends[1], "j", 1));
    T(ioctl(ends[0], FIOASYNC, &on));
    STEP(write(ends[1], "k", 1));
    close(copy);
    // Ends.
    int second[2];
    pipe2(second, O_NONBLOCK);
    STEP(tee(ends[0], second[1], 2, SPLICE_F_NONBLOCK));
    ask(second[0], RT);
    ask(second[1], RT);
    STEP(splice(ends[0], NULL, second[1], NULL, 2, SPLICE_F_NONBLOCK));
    STEP(close(ends[1]));
    STEP(read(ends[0], buffer, 100));
    STEP(read(ends[0], buffer, 100));
    STEP(close(ends[0]));
    STEP(close(second[0]));
    signal(SIGPIPE, SIG_IGN);
    STEP(write(second[1], "x", 1));
    STEP(close(second[1]));
    // One that reads and writes.
    own_directory();
    mkfifo("fifo", 0600);
    int both = open("fifo", O_RDWR | O_NONBLOCK);
    ask(both, RT);
    STEP(write(both, "x", 1));
    STEP(read(both, buffer, 1));
    int reader = open("fifo", O_RDONLY | O_NONBLOCK);
    told("opened");
    close(reader);
    told("closed");
    close(both);
    unlink("fifo");
}

static void signals(void)
{
    int ends[2];
    puts("which signal");
    pipe(ends);
    ask(ends[0], 0);
    STEP(write(ends[1], "a", 1));
    static const int numbers[] = {SIGIO, SIGUSR1, SIGCHLD, SIGBUS, SIGURG, 34, 64};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        T(fcntl(ends[0], F_SETSIG, numbers[i]));
        T(fcntl(ends[0], F_GETSIG));
        STEP(write(ends[1], "a", 1));
    }
    T(fcntl(ends[0], F_SETSIG, 65));
    T(fcntl(ends[0], F_SETSIG, -1));
    T(fcntl(ends[0], F_SETSIG, 0));
    // A standard signal that is pending is merged.
    write(ends[1], "a", 1);
    STEP(write(ends[1], "a", 1));
    T(fcntl(ends[0], F_SETSIG, RT));
    write(ends[1], "a", 1);
    STEP(write(ends[1], "a", 1));
}

static void *thread(void *ends)
{
    struct { int type, pid; } owner = {F_OWNER_TID, gettid()}, got = {9, 9};
    int *pair = ends;
    T(fcntl(pair[0], F_SETOWN_EX, &owner));
    T(fcntl(pair[0], F_GETOWN_EX, &got));
    printf("%d %d\n", got.type, got.pid == gettid());
    T(fcntl(pair[0], F_GETOWN) == gettid());
    write(pair[1], "a", 1);
    told("its thread");
    // As a process it is none, but its process is told.
    T(fcntl(pair[0], F_SETOWN, gettid()));
    T(fcntl(pair[0], F_GETOWN));
    STEP(write(pair[1], "a", 1));
    T(fcntl(pair[0], F_SETOWN_EX, &owner));
    return NULL;
}

static int child_of(void (*run)(int *), int *ends)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        run(ends);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    return status;
}

static void takes_it(int *ends) { T(fcntl(ends[0], F_SETOWN, getpid())); }
static void writes(int *ends) { write(ends[1], "a", 1); told("the child"); }

static void is_another(int *ends)
{
    pid_t parent = getppid();
    // The one who names the owner must have the right to signal it, when it is signalled.
    setresuid(1000, 1000, 0);
    T(fcntl(ends[0], F_SETOWN, parent));
    write(ends[1], "a", 1);
    setresuid(0, 0, 0);
    T(fcntl(ends[0], F_GETOWN) == parent);
}

static void leads(int *ends)
{
    setpgid(0, 0);
    T(fcntl(ends[0], F_SETOWN, -getpid()));
    T(fcntl(ends[0], F_GETOWN) == -getpid());
    child_of(writes, ends);
    told("the leader");
}

static void owners(void)
{
    int ends[2];
    struct { int type, pid; } owner = {9, 9};
    puts("owner");
    pipe(ends);
    T(fcntl(ends[0], F_GETOWN));
    T(fcntl(ends[0], F_GETOWN_EX, &owner));
    printf("%d %d\n", owner.type, owner.pid);
    T(fcntl(ends[0], F_SETFL, O_ASYNC));
    STEP(write(ends[1], "a", 1));
    fcntl(ends[0], F_SETSIG, RT);
    STEP(write(ends[1], "a", 1));
    T(fcntl(ends[0], F_SETOWN, getpid()));
    T(fcntl(ends[0], F_GETOWN_EX, &owner));
    printf("%d %d\n", owner.type, owner.pid == getpid());
    STEP(write(ends[1], "a", 1));
    child_of(writes, ends);
    told("the parent");
    pthread_t other;
    pthread_create(&other, NULL, thread, ends);
    pthread_join(other, NULL);
    told("the process");
    T(fcntl(ends[0], F_GETOWN));
    STEP(write(ends[1], "a", 1));
    T(fcntl(ends[0], F_SETOWN, 0));
    STEP(write(ends[1], "a", 1));
    owner.type = F_OWNER_PGRP, owner.pid = getpgrp();
    T(fcntl(ends[0], F_SETOWN_EX, &owner));
    T(fcntl(ends[0], F_GETOWN) == -getpgrp());
    owner.type = 3;
    T(fcntl(ends[0], F_SETOWN_EX, &owner));
    owner.type = F_OWNER_PID, owner.pid = 0x3fffff;
    T(fcntl(ends[0], F_SETOWN_EX, &owner));
    owner.pid = -5;
    T(fcntl(ends[0], F_SETOWN_EX, &owner));
    T(fcntl(ends[0], F_SETOWN_EX, 8));
    T(fcntl(ends[0], F_GETOWN_EX, 8));
    T(fcntl(ends[0], F_SETOWN, INT_MIN));
    T(fcntl(ends[0], F_SETOWN, -0x3fffff));
    T(fcntl(ends[0], F_SETOWN, getpid()));
    child_of(takes_it, ends);
    T(fcntl(ends[0], F_GETOWN));
    STEP(write(ends[1], "a", 1));
    child_of(is_another, ends);
    told("by somebody without the right");
    child_of(leads, ends);
    told("not of the group");
}

static void fill(int fd)
{
    char buffer[8192] = {0};
    while (send(fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0);
    while (send(fd, buffer, 1, MSG_DONTWAIT) > 0);
}

static void empty(int fd)
{
    char buffer[8192];
    while (recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0);
}

static void sockets(int type)
{
    int pair[2], owner = 0;
    char buffer[10];
    printf("local socket %d\n", type);
    socketpair(AF_UNIX, type, 0, pair);
    ask(pair[0], RT);
    STEP(send(pair[1], "abc", 3, 0));
    STEP(send(pair[1], "", 0, 0));
    STEP(recv(pair[0], buffer, 1, 0));
    STEP(send(pair[0], "abc", 3, 0));
    STEP(recv(pair[1], buffer, 3, 0));
    empty(pair[0]);
    // Room comes back: told to whom it was refused, or who asked poll(2).
    fill(pair[0]);
    told("filled");
    empty(pair[1]);
    told("emptied");
    fill(pair[0]);
    empty(pair[1]);
    told("and again");
    send(pair[0], "abc", 3, 0);
    empty(pair[1]);
    told("not refused");
    STEP(shutdown(pair[1], SHUT_WR));
    STEP(shutdown(pair[1], SHUT_RD));
    STEP(close(pair[1]));
    close(pair[0]);
    socketpair(AF_UNIX, type, 0, pair);
    ask(pair[0], RT);
    STEP(shutdown(pair[1], SHUT_RD));
    close(pair[1]);
    told("closed");
    close(pair[0]);
    socketpair(AF_UNIX, type, 0, pair);
    ask(pair[0], RT);
    STEP(shutdown(pair[1], SHUT_RDWR));
    STEP(shutdown(pair[0], SHUT_RDWR));
    T(ioctl(pair[0], FIOGETOWN, &owner));
    T(owner == getpid());
    owner = -getpgrp();
    T(ioctl(pair[0], SIOCSPGRP, &owner));
    owner = 0;
    T(ioctl(pair[0], SIOCGPGRP, &owner));
    T(owner == -getpgrp());
    owner = 0x3fffff;
    T(ioctl(pair[0], FIOSETOWN, &owner));
    owner = 0;
    T(ioctl(pair[0], FIOSETOWN, &owner));
    T(fcntl(pair[0], F_GETOWN));
    T(ioctl(pair[0], FIOSETOWN, (int *)8));
    T(ioctl(pair[0], FIOGETOWN, (int *)8));
    close(pair[0]);
    close(pair[1]);
    pipe(pair);
    T(ioctl(pair[0], FIOGETOWN, &owner));
    T(ioctl(pair[0], FIOSETOWN, &owner));
    close(pair[0]);
    close(pair[1]);
}

static void listener(void)
{
    struct sockaddr_un address = {AF_UNIX, "socket"};
    puts("listener");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    bind(fd, (void *)&address, sizeof address);
    ask(fd, RT);
    STEP(listen(fd, 5));
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    ask(client, RT);
    STEP(connect(client, (void *)&address, sizeof address));
    int server = accept(fd, NULL, NULL);
    told("accepted");
    STEP(send(server, "a", 1, 0));
    STEP(send(client, "a", 1, 0));
    STEP(close(server));
    close(client);
    close(fd);
    unlink("socket");
}

static void terminals(int *unused)
{
    char buffer[10];
    struct { int type, pid; } owner = {9, 9};
    puts("terminal");
    setsid();
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(master);
    unlockpt(master);
    int slave = open(ptsname(master), O_RDWR);
    T(fcntl(slave, F_SETFL, O_RDWR | O_ASYNC));
    T(fcntl(slave, F_GETOWN_EX, &owner));
    printf("%d %d\n", owner.type, owner.pid == getpgrp());
    fcntl(slave, F_SETSIG, RT);
    write(master, "ab", 2);
    told("part of a line");
    write(master, "c\n", 2);
    waited("a line");
    T(read(slave, buffer, 10));
    struct termios settings;
    tcgetattr(slave, &settings);
    cfmakeraw(&settings);
    tcsetattr(slave, TCSANOW, &settings);
    tcflush(slave, TCIOFLUSH);
    told("raw");
    write(master, "x", 1);
    waited("a byte");
    T(read(slave, buffer, 10));
    told("read");
    ask(master, RT);
    fcntl(slave, F_SETFL, O_RDWR);
    tcflush(master, TCIOFLUSH);
    told("the other side");
    write(slave, "y", 1);
    waited("printed");
    int value = 1;
    T(ioctl(slave, FIOSETOWN, &value));
    T(ioctl(slave, FIOGETOWN, &value));
    // Without a foreground group it is the caller's.
    int next = posix_openpt(O_RDWR | O_NOCTTY);
    T(fcntl(next, F_SETFL, O_RDWR | O_ASYNC));
    T(fcntl(next, F_GETOWN_EX, &owner));
    printf("%d %d\n", owner.type, owner.pid == getpid());
}

static void notified(void)
{
    int fd = inotify_init1(IN_NONBLOCK);
    puts("inotify");
    inotify_add_watch(fd, ".", IN_CREATE);
    ask(fd, RT);
    make("new", 0600);
    waited("created");
    unlink("new");
    close(fd);
}

static volatile sig_atomic_t count;
static void counts(int signal) { count++; }

static void handled(void)
{
    int ends[2];
    puts("handled");
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGIO, counts);
    pipe(ends);
    ask(ends[0], 0);
    for (int i = 0; i < 5; i++) {
        write(ends[1], "a", 1);
        T(count);
    }
    fcntl(ends[0], F_SETFL, 0);
    write(ends[1], "a", 1);
    T(count);
    ask(ends[0], 0);
    signal(SIGIO, SIG_DFL);
}

static void is_ended(int *unused)
{
    int ends[2];
    pipe(ends);
    ask(ends[0], 0);
    write(ends[1], "a", 1);
    puts("not reached");
}

int main(void)
{
    sigemptyset(&watched);
    int all[] = {SIGIO, SIGUSR1, SIGCHLD, SIGBUS, SIGURG, 34, 64, RT};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) sigaddset(&watched, all[i]);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    setpgid(0, 0);
    pipes();
    signals();
    sigdelset(&watched, SIGCHLD);
    owners();
    sockets(SOCK_STREAM);
    sockets(SOCK_DGRAM);
    sockets(SOCK_SEQPACKET);
    listener();
    child_of(terminals, NULL);
    notified();
    handled();
    T(child_of(is_ended, NULL));
    return 0;
}
