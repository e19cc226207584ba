/* Pipes and streams of local sockets between processes, in series of calls that are dense enough for a server: what is written comes, whole and in order, and whoever
 * waits for it is woken, whatever its writer does next. */
#include "fast.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#define PIECES 6000
#define RECORD 700

static volatile int *shared;
static int zero;

static pid_t begin(void) {
    fflush(stdout);
    pid_t child = fork();
    MUST(child >= 0);
    return child;
}
static void finish(pid_t child) {
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
}
/* Calls that nobody waits for. */
static void dense(int count) {
    struct stat st;
    char byte;
    while (count--) MUST(fstat(zero, &st) == 0 && read(zero, &byte, 1) == 1);
}
static void make(int is_socket, int ends[2]) {
    MUST(is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 : pipe(ends) == 0);
}
/* Small pieces among other calls, as tar writes them: more than a pipe holds, so that the writer waits too. */
static void pieces(int is_socket) {
    int ends[2];
    unsigned sum = 0, got = 0, len = 0;
    make(is_socket, ends);
    pid_t child = begin();
    if (!child) {
        close(ends[0]);
        char bytes[512];
        for (int i = 0; i < PIECES; i++) {
            memset(bytes, i * 31, sizeof bytes);
            int size = 1 + i * 37 % 512;
            MUST(write(ends[1], bytes, size) == size);
            if (i % 5 == 0) dense(4);
        }
        _exit(0);
    }
    close(ends[1]);
    for (int i = 0; i < PIECES; i++) {
        int size = 1 + i * 37 % 512;
        len += size, sum += size * (i * 31 & 0xff);
    }
    static unsigned char bytes[65536];
    ssize_t count;
    while ((count = read(ends[0], bytes, sizeof bytes)) > 0) {
        len -= count;
        while (count--) got += bytes[count];
    }
    MUST(count == 0 && len == 0 && got == sum);
    close(ends[0]);
    finish(child);
    printf("pieces %d\n", is_socket);
}
/* Writes of up to PIPE_BUF are never split, whoever else writes, however full it is. */
static void records(void) {
    int ends[2];
    pid_t children[3];
    MUST(pipe(ends) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 4096) == 4096);
    for (int who = 0; who < 3; who++) {
        children[who] = begin();
        if (!children[who]) {
            char bytes[RECORD];
            close(ends[0]);
            for (int i = 0; i < 1000; i++) {
                memset(bytes, 'a' + who, sizeof bytes);
                MUST(write(ends[1], bytes, sizeof bytes) == sizeof bytes);
            }
            _exit(0);
        }
    }
    close(ends[1]);
    FILE *in = fdopen(ends[0], "r");
    char bytes[RECORD];
    int count = 0;
    while (fread(bytes, sizeof bytes, 1, in) == 1) {
        count++;
        for (int i = 1; i < RECORD; i++) MUST(bytes[i] == bytes[0]);
    }
    fclose(in);
    for (int who = 0; who < 3; who++) finish(children[who]);
    printf("records %d\n", count);
}
/* The reader is woken though its writer never waits, nor makes another call: by read(2), poll(2) and epoll_wait(2); and by the end of the other side. */
static void wakes(int is_socket) {
    for (int way = 0; way < 40; way++) {
        int ends[2];
        make(is_socket, ends);
        *shared = 0;
        pid_t child = begin();
        if (!child) {
            char byte = 'x';
            close(ends[1]);
            struct pollfd polled = {ends[0], POLLIN, 0};
            struct epoll_event event = {.events = EPOLLIN}, got;
            int epoll = epoll_create1(0);
            MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event) == 0);
            *shared = 1;
            if (way % 4 == 1) MUST(poll(&polled, 1, -1) == 1);
            if (way % 4 == 2) MUST(epoll_wait(epoll, &got, 1, -1) == 1);
            MUST(read(ends[0], &byte, 1) == (way % 4 != 3) && byte == (way % 4 == 3 ? 'x' : 'y'));
            *shared = 2;
            _exit(0);
        }
        close(ends[0]);
        while (*shared != 1) dense(20);
        dense(200);
        if (way % 4 == 3) MUST(close(ends[1]) == 0);
        else MUST(write(ends[1], "y", 1) == 1);
        if (way & 8) while (*shared != 2) dense(1);
        while (*shared != 2) {}
        finish(child);
        close(ends[1]);
    }
    printf("wakes %d\n", is_socket);
}
static volatile sig_atomic_t signals;
static void count_signal(int signal) { signals++; (void)signal; }
/* What does not wait: full and empty ones, and those without another side. */
static void refusals(int is_socket) {
    struct sigaction action = {.sa_handler = count_signal};
    int ends[2], left = -1;
    char bytes[1024], *nowhere = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(bytes, 'r', sizeof bytes);
    make(is_socket, ends);
    MUST(sigaction(SIGPIPE, &action, 0) == 0);
    MUST(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    dense(OFTEN);
    for (int round = 0; round < 20; round++) {
        ssize_t count, in = 0, out = 0;
        while ((count = write(ends[1], bytes, sizeof bytes)) > 0) in += count;
        MUST(errno == EAGAIN);
        MUST(ioctl(ends[0], FIONREAD, &left) == 0 && left == in && (is_socket || in == 65536));
        while ((count = read(ends[0], bytes, sizeof bytes)) > 0) out += count;
        MUST(errno == EAGAIN && in == out);
        MUST(ioctl(ends[0], FIONREAD, &left) == 0 && left == 0);
        /* More than fits: a part of it, of a pipe. */
        static char large[100000];
        MUST(write(ends[1], large, sizeof large) > 0);
        while (read(ends[0], large, sizeof large) > 0) {}
        MUST(pread(ends[0], bytes, 1, 0) == -1 && errno == ESPIPE);
        MUST(pwrite(ends[1], bytes, 1, 0) == -1 && errno == ESPIPE);
        MUST(read(ends[1], bytes, 1) == -1 && (is_socket || errno == EBADF));
        MUST(write(ends[1], nowhere, 4) == -1 && errno == EFAULT);
        MUST(write(ends[1], "z", 1) == 1 && read(ends[0], nowhere, 4) == -1 && errno == EFAULT);
        MUST(read(ends[0], bytes, 4) == 1);
    }
    close(ends[0]);
    signals = 0;
    for (int i = 1; i <= 50; i++) MUST(write(ends[1], bytes, 1) == -1 && errno == EPIPE && signals == i);
    close(ends[1]);
    make(is_socket, ends);
    MUST(write(ends[1], "end", 3) == 3 && close(ends[1]) == 0);
    dense(100);
    MUST(read(ends[0], bytes, 2) == 2 && read(ends[0], bytes, 2) == 1);
    for (int i = 0; i < 50; i++) MUST(read(ends[0], bytes, 2) == 0);
    close(ends[0]);
    printf("refusals %d\n", is_socket);
}
/* sendfile(2): with room, without, and into nothing. */
static void files(int is_socket) {
    int ends[2], file = pattern(3, 4096);
    make(is_socket, ends);
    pid_t child = begin();
    if (!child) {
        close(ends[0]);
        dense(100);
        for (int i = 0; i < 200; i++) {
            off_t at = i;
            MUST(lseek(file, 0, SEEK_SET) == 0);
            MUST(sendfile(ends[1], file, 0, 4096) == 4096 && sendfile(ends[1], file, 0, 4096) == 0);
            MUST(sendfile(ends[1], file, &at, 100) == 100 && at == i + 100);
        }
        _exit(0);
    }
    close(ends[1]);
    char bytes[4096];
    for (int i = 0; i < 200; i++) {
        for (int part = 0, size = 4096; part < 2; part++, size = 100) {
            for (int got = 0; got < size;) {
                ssize_t count = read(ends[0], bytes, size - got);
                MUST(count > 0);
                check_pattern(bytes, 3, got + part * i, (int)count);
                got += (int)count;
            }
        }
    }
    MUST(read(ends[0], bytes, 1) == 0);
    close(ends[0]), close(file);
    finish(child);
    printf("files %d\n", is_socket);
}
/* Processes that end at any time: the other side learns it. */
static void kills(void) {
    for (int i = 0; i < 60; i++) {
        int there[2], back[2];
        MUST(pipe(there) == 0 && pipe(back) == 0);
        pid_t child = begin();
        if (!child) {
            char byte;
            close(there[1]), close(back[0]);
            while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {}
            _exit(0);
        }
        close(there[0]), close(back[1]);
        char byte = 'k';
        int turns = any(120);
        for (int turn = 0; turn < turns; turn++) MUST(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1 && byte == 'k');
        if (i & 1) MUST(write(there[1], &byte, 1) == 1);
        MUST(kill(child, SIGKILL) == 0);
        ssize_t count;
        while ((count = read(back[0], &byte, 1)) == 1) {}
        MUST(count == 0 && waitpid(child, 0, 0) == child);
        MUST(write(there[1], &byte, 1) == -1 && errno == EPIPE);
        close(there[1]), close(back[0]);
    }
    puts("kills");
}
int main(void) {
    shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    zero = open("/dev/zero", O_RDONLY);
    MUST(shared != MAP_FAILED && zero >= 0);
    for (int is_socket = 0; is_socket < 2; is_socket++) {
        pieces(is_socket);
        wakes(is_socket);
        refusals(is_socket);
        files(is_socket);
    }
    records();
    kills();
    return 0;
}
