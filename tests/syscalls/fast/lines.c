/* Two threads that take turns at pipes, and at a stream of local sockets, until they need nobody for it: and then everything that others could notice. */
#include "fast.h"
#include <poll.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Turns until nobody else is needed, patched sites and slots included. */
#define ENOUGH 60

static int to[2], from[2], is_socket;
static pthread_t other;
static volatile int other_tid;

static void make(void) {
    if (is_socket) {
        int ends[2];
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        to[1] = from[0] = ends[0], to[0] = from[1] = ends[1];
    } else {
        MUST(pipe(to) == 0 && pipe(from) == 0);
    }
}
/* Sends back what it gets; ends at the end of it. */
static void *echo(void *argument) {
    char bytes[4096];
    ssize_t count;
    other_tid = (int)syscall(SYS_gettid);
    while ((count = read(to[0], bytes, sizeof bytes)) > 0) MUST(write(from[1], bytes, count) == count);
    MUST(count == 0);
    return argument;
}
static void start(void) {
    make();
    MUST(pthread_create(&other, 0, echo, 0) == 0);
}
static void end(void) {
    MUST(is_socket ? shutdown(to[1], SHUT_WR) == 0 : close(to[1]) == 0);
    pthread_join(other, 0);
    close(to[0]), close(from[0]), close(from[1]), close(to[1]);
}
static void turn(int len) {
    static unsigned seed;
    char bytes[4096], back[4096];
    memset(bytes, ++seed & 0xff, len);
    bytes[len - 1] = (char)(seed >> 8);
    MUST(write(to[1], bytes, len) == len);
    for (int done = 0; done < len;) {
        ssize_t count = read(from[0], back + done, sizeof back - done);
        MUST(count > 0);
        done += (int)count;
    }
    MUST(memcmp(bytes, back, len) == 0);
}
static void turns(int count) {
    for (int i = 0; i < count; i++) turn(1);
}
/* With files that nobody has looked at. */
static void again(void) {
    turns(ENOUGH);
    end();
    start();
    turns(ENOUGH);
}
static void lengths(void) {
    start();
    turns(ENOUGH);
    for (int len = 1; len <= 4096; len += 303) turn(len);
    turn(3519), turn(3520), turn(3521), turn(4096);
    end();
    puts("lengths");
}
/* Data that nobody has read yet is seen by everything that looks. */
static void looks(void) {
    start();
    turns(ENOUGH);
    char bytes[64];
    int count = -1;
    struct pollfd polled = {from[0], POLLIN, 0};
    MUST(poll(&polled, 1, 0) == 0);
    again();
    MUST(write(to[1], "abc", 3) == 3);
    MUST(poll(&polled, 1, -1) == 1 && polled.revents == POLLIN);
    MUST(ioctl(from[0], FIONREAD, &count) == 0 && count == 3);
    MUST(read(from[0], bytes, 64) == 3 && !memcmp(bytes, "abc", 3));
    again();
    /* Read in parts. */
    MUST(write(to[1], "abcdef", 6) == 6);
    MUST(read(from[0], bytes, 2) == 2 && read(from[0], bytes + 2, 1) == 1 && read(from[0], bytes + 3, 9) == 3 && !memcmp(bytes, "abcdef", 6));
    again();
    /* Not without waiting. */
    MUST(fcntl(from[0], F_SETFL, O_NONBLOCK) == 0);
    MUST(read(from[0], bytes, 1) == -1 && errno == EAGAIN);
    MUST(write(to[1], "x", 1) == 1);
    while (read(from[0], bytes, 1) == -1) MUST(errno == EAGAIN);
    MUST(fcntl(from[0], F_SETFL, 0) == 0);
    again();
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN}, got;
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, from[0], &event) == 0);
    turns(ENOUGH);
    MUST(epoll_wait(epoll, &got, 1, 0) == 0);
    MUST(write(to[1], "y", 1) == 1 && epoll_wait(epoll, &got, 1, -1) == 1 && read(from[0], bytes, 1) == 1);
    close(epoll);
    again();
    /* A duplicate is the same file, its number another one. */
    int copy = dup(from[0]);
    MUST(write(to[1], "z", 1) == 1 && read(copy, bytes, 1) == 1 && bytes[0] == 'z');
    close(copy);
    again();
    struct iovec parts[2] = {{bytes, 1}, {bytes + 1, 1}};
    MUST(write(to[1], "pq", 2) == 2 && readv(from[0], parts, 2) == 2 && !memcmp(bytes, "pq", 2));
    end();
    puts("looks");
}
/* Addresses that are not there take nothing away. */
static void faults(void) {
    start();
    char bytes[8], *none = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(munmap(none + 4096, 4096) == 0);
    turns(ENOUGH);
    MUST(syscall(SYS_write, to[1], none + 4096, 4) == -1 && errno == EFAULT);
    again();
    MUST(write(to[1], "ab", 2) == 2);
    MUST(read(from[0], none + 4096, 1) == -1 && errno == EFAULT);
    MUST(read(from[0], bytes, 8) == 2 && !memcmp(bytes, "ab", 2));
    again();
    MUST(syscall(SYS_read, from[0], bytes, 0) == 0);
    turns(ENOUGH);
    end();
    puts("faults");
}

static volatile sig_atomic_t ticks;
static void count_tick(int signal) { ticks++; (void)signal; }
/* Signals at any time: nothing is lost, nothing comes twice; a wait ends with EINTR, or goes on. */
static void signals(int restarting) {
    struct sigaction action = {.sa_handler = count_tick, .sa_flags = restarting ? SA_RESTART : 0}, ignore = {.sa_handler = SIG_IGN};
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    start();
    pthread_sigmask(SIG_UNBLOCK, &set, 0);
    turns(ENOUGH);
    MUST(sigaction(SIGALRM, &action, 0) == 0);
    struct itimerval often = {{0, 130}, {0, 130}}, never = {{0, 0}, {0, 0}};
    ticks = 0;
    MUST(setitimer(ITIMER_REAL, &often, 0) == 0);
    unsigned char next = 0;
    int interrupted = 0;
    for (int i = 0; ticks < 300; i++) {
        unsigned char out = (unsigned char)i, back = 0;
        ssize_t count;
        while ((count = write(to[1], &out, 1)) == -1) MUST(errno == EINTR);
        MUST(count == 1);
        while ((count = read(from[0], &back, 1)) == -1) {
            MUST(errno == EINTR);
            interrupted++;
        }
        MUST(count == 1 && back == next++);
    }
    MUST(setitimer(ITIMER_REAL, &never, 0) == 0);
    MUST(sigaction(SIGALRM, &ignore, 0) == 0);
    MUST(!restarting || !interrupted);
    turns(ENOUGH);
    end();
    printf("signals %d\n", restarting);
}
/* A thread that waits is interrupted by a signal to it. */
static volatile int has_ended;
static void *waits(void *argument) {
    char byte;
    other_tid = (int)syscall(SYS_gettid);
    for (;;) {
        ssize_t count = read(to[0], &byte, 1);
        if (count == -1) break;
        MUST(count == 1 && write(from[1], &byte, 1) == 1);
    }
    MUST(errno == EINTR);
    has_ended = 1;
    return argument;
}
static void interrupts(void) {
    struct sigaction action = {.sa_handler = count_tick};
    MUST(sigaction(SIGUSR1, &action, 0) == 0);
    for (int i = 0; i < 8; i++) {
        has_ended = ticks = 0;
        make();
        MUST(pthread_create(&other, 0, waits, 0) == 0);
        turns(40 + 5 * i);
        /* Before it waits again it may be too early. */
        while (!has_ended) {
            syscall(SYS_tgkill, getpid(), other_tid, SIGUSR1);
            usleep(300);
        }
        pthread_join(other, 0);
        MUST(ticks > 0);
        close(to[1]), close(to[0]), close(from[0]), close(from[1]);
    }
    puts("interrupts");
}
/* The end of a reader's descriptor does not end its read; the end of all writers does. */
static void *reads_once(void *argument) {
    char byte = 0;
    other_tid = (int)syscall(SYS_gettid);
    for (int i = 0; i < ENOUGH; i++) MUST(read(to[0], &byte, 1) == 1 && write(from[1], &byte, 1) == 1);
    ssize_t count = read(to[0], &byte, 1);
    printf("read after the close: %zd %c\n", count, count == 1 ? byte : '-');
    return argument;
}
static void wait_until_it_sleeps(void) {
    char path[64], text[256], *state;
    sprintf(path, "/proc/self/task/%d/stat", other_tid);
    do {
        int fd = open(path, O_RDONLY);
        MUST(fd >= 0);
        ssize_t count = read(fd, text, sizeof text - 1);
        MUST(count > 0);
        text[count] = 0;
        close(fd);
        state = strrchr(text, ')');
    } while (!state || state[2] != 'S');
}
static void closes(void) {
    for (int way = 0; way < 3; way++) {
        make();
        MUST(pthread_create(&other, 0, reads_once, 0) == 0);
        turns(ENOUGH);
        wait_until_it_sleeps();
        int elsewhere = open("/dev/zero", O_RDONLY), number = to[0];
        if (way == 0) {
            MUST(close(number) == 0);
            MUST(fcntl(elsewhere, F_DUPFD, number) == number);
        } else if (way == 1) {
            MUST(dup2(elsewhere, number) == number);
        }
        if (way < 2) {
            /* A pipe without a descriptor to read from has a reader yet, as long as one reads. */
            MUST(write(to[1], "k", 1) == 1);
        } else {
            MUST(is_socket ? shutdown(to[1], SHUT_WR) == 0 : close(to[1]) == 0);
        }
        pthread_join(other, 0);
        close(to[1]), close(number), close(from[0]), close(from[1]), close(elsewhere);
        fflush(stdout);
    }
}
/* Somebody else reads and writes there too: threads, and a process. */
static void *steals(void *argument) {
    char byte;
    int *got = argument;
    for (int i = 0; i < 50; i++) {
        MUST(read(to[0], &byte, 1) == 1);
        ++*got;
    }
    return argument;
}
static void others(void) {
    start();
    turns(ENOUGH);
    pthread_t more[2];
    int got[2] = {0, 0}, status;
    char byte;
    for (int i = 0; i < 2; i++) MUST(pthread_create(&more[i], 0, steals, &got[i]) == 0);
    int answered = 0, sent = 0;
    MUST(fcntl(from[0], F_SETFL, O_NONBLOCK) == 0);
    while (got[0] + got[1] < 100) {
        if (sent - answered - got[0] - got[1] < 3) {
            MUST(write(to[1], "s", 1) == 1);
            sent++;
        }
        if (read(from[0], &byte, 1) == 1) answered++;
    }
    MUST(fcntl(from[0], F_SETFL, 0) == 0);
    for (int i = 0; i < 2; i++) pthread_join(more[i], 0);
    while (answered < sent - 100) {
        MUST(read(from[0], &byte, 1) == 1);
        answered++;
    }
    turns(ENOUGH);
    wait_until_it_sleeps();
    pid_t child = fork();
    MUST(child >= 0);
    if (!child) {
        /* It writes; and reads what the thread, which is its parent's, sends back. */
        for (int i = 0; i < 100; i++) turn(1);
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child && status == 0);
    turns(ENOUGH);
    child = fork();
    if (!child) {
        /* Its copies are others, by the same numbers. */
        close(to[0]), close(from[0]);
        pause();
    }
    turns(ENOUGH);
    kill(child, SIGKILL);
    MUST(waitpid(child, &status, 0) == child);
    turns(ENOUGH);
    end();
    puts("others");
}
/* Whoever writes twice before the other reads. */
static void *slow_echo(void *argument) {
    char bytes[16];
    for (int i = 0; i < 300; i++) {
        int got = 0;
        while (got < 2) {
            ssize_t count = read(to[0], bytes + got, 2 - got);
            MUST(count > 0);
            got += (int)count;
        }
        MUST(write(from[1], bytes, 2) == 2);
    }
    return argument;
}
static void runs_ahead(void) {
    make();
    MUST(pthread_create(&other, 0, slow_echo, 0) == 0);
    for (int i = 0; i < 300; i++) {
        char bytes[2] = {(char)i, (char)(i >> 8)}, back[2];
        MUST(write(to[1], bytes, 1) == 1 && write(to[1], bytes + 1, 1) == 1);
        MUST(read(from[0], back, 2) == 2 && !memcmp(bytes, back, 2));
    }
    pthread_join(other, 0);
    close(to[1]), close(to[0]), close(from[0]), close(from[1]);
    puts("runs ahead");
}
/* The end of a process whose threads wait, with a message on its way: its parent finds it. */
static void ends(void) {
    for (int way = 0; way < 2; way++) {
        make();
        int told[2], status;
        MUST(pipe(told) == 0);
        pid_t child = fork();
        MUST(child >= 0);
        if (!child) {
            MUST(pthread_create(&other, 0, echo, 0) == 0);
            turns(ENOUGH);
            wait_until_it_sleeps();
            MUST(write(told[1], "x", 1) == 1);
            if (way) execl("/proc/self/exe", "lines", "exec", (char *)0);
            for (;;) turn(1);
        }
        char bytes[64];
        MUST(read(told[0], bytes, 1) == 1);
        if (!way) kill(child, SIGKILL);
        MUST(waitpid(child, &status, 0) == child);
        MUST(way ? status == 0 : WIFSIGNALED(status));
        /* At most one message is left, and the descriptors are what they were. */
        MUST(fcntl(to[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(from[0], F_SETFL, O_NONBLOCK) == 0);
        ssize_t left = read(to[0], bytes, 64);
        MUST(left == -1 || left == 1);
        left = read(from[0], bytes, 64);
        MUST(left == -1 || left == 1);
        MUST(write(to[1], "abc", 3) == 3 && read(to[0], bytes, 64) == 3);
        close(to[1]), close(to[0]), close(from[0]), close(from[1]), close(told[0]), close(told[1]);
        puts("ends");
        fflush(stdout);
    }
}
/* Who asks for credentials, or for a time limit, gets them from then on. */
static void options(void) {
    if (!is_socket) return;
    int on = 1;
    char bytes[8], control[64];
    struct iovec part = {bytes, 8};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    start();
    turns(ENOUGH);
    MUST(setsockopt(from[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    MUST(write(to[1], "c", 1) == 1 && recvmsg(from[0], &message, 0) == 1);
    struct ucred *sender = (struct ucred *)CMSG_DATA(CMSG_FIRSTHDR(&message));
    MUST(message.msg_controllen > 0 && sender->pid == getpid());
    again();
    struct timeval limit = {0, 2000};
    MUST(setsockopt(from[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    MUST(read(from[0], bytes, 1) == -1 && errno == EAGAIN);
    again();
    /* send(2) and recv(2): of the same line, but with flags. */
    MUST(send(to[1], "de", 2, 0) == 2 && recv(from[0], bytes, 2, MSG_WAITALL) == 2);
    again();
    MUST(send(to[1], "f", 1, MSG_NOSIGNAL) == 1 && recv(from[0], bytes, 1, MSG_PEEK) == 1 && recv(from[0], bytes, 8, 0) == 1);
    MUST(recv(from[0], bytes, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    end();
    puts("options");
}
/* A filter of the program's own is asked about the next call already: here, and where another thread installs it for all. */
static void filters(void) {
    int status;
    fflush(stdout);
    pid_t child = fork();
    MUST(child >= 0);
    if (!child) {
        struct sock_filter program[] = {
            {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)},
            {BPF_JMP | BPF_JEQ | BPF_K, 2, 0, SYS_read},
            {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SYS_getuid},
            {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
            {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | 77},
        };
        struct sock_fprog all = {5, program};
        start();
        turns(ENOUGH);
        for (int i = 0; i < ENOUGH; i++) MUST(syscall(SYS_getuid) == 0);
        MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all, 0, 0) == 0);
        char byte;
        MUST(write(to[1], "g", 1) == 1);
        MUST(read(from[0], &byte, 1) == -1 && errno == 77);
        MUST(syscall(SYS_getuid) == -1 && errno == 77);
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child && status == 0);
    puts("filters");
}
/* Only in the sentry: whether a slot has a line for that (crates/platform/src/line.rs). */
static int is_open(int half, int fd) {
    unsigned char present;
    if (mincore((void *)0x4FFFFFF00000, 4096, &present)) return 0;
    for (int i = 0; i < 16; i++) {
        volatile int *words = (volatile int *)(0x4FFFFFF00000 + i * 0x2000L + half);
        if (words[0] == fd && words[1]) return 1;
    }
    return 0;
}
static void is_in_use(void) {
    start();
    for (int i = 0; i < 10 * ENOUGH && !(is_open(0x80, from[0]) && is_open(0x88, to[1])); i++) turn(1);
    printf("%s:%s", is_socket ? " socket" : "pipe", is_open(0x80, from[0]) && is_open(0x88, to[1]) ? " open" : " none");
    int count;
    MUST(ioctl(from[0], FIONREAD, &count) == 0);
    printf("%s", is_open(0x80, from[0]) ? " kept" : " cut");
    end();
}
int main(int count, char **arguments) {
    if (count > 1 && !strcmp(arguments[1], "use")) {
        for (is_socket = 0; is_socket < 2; is_socket++) is_in_use();
        return 0;
    }
    if (count > 1) return strcmp(arguments[1], "exec");
    for (is_socket = 0; is_socket < 2; is_socket++) {
        lengths();
        looks();
        faults();
        fflush(stdout);
        signals(0);
        signals(1);
        interrupts();
        closes();
        others();
        runs_ahead();
        options();
        filters();
        fflush(stdout);
        ends();
    }
    return 0;
}
