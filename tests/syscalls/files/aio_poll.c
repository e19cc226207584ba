/* Linux AIO on what waits: IOCB_CMD_POLL, sockets, pipes without data. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CALL(nr, ...) ({ long r_ = syscall(nr, __VA_ARGS__); r_ < 0 ? -errno : r_; })
#define SUBMIT(n, list) CALL(SYS_io_submit, context, n, list)
#define CANCEL(request) CALL(SYS_io_cancel, context, request, events)

static aio_context_t context;
static struct io_event events[512];
static const struct timespec none;

static struct iocb request(int operation, int fd, uint64_t buf, size_t len)
{
    static uint64_t next;
    return (struct iocb){.aio_data = ++next, .aio_lio_opcode = (uint16_t)operation, .aio_fildes = (uint32_t)fd, .aio_buf = buf, .aio_nbytes = len};
}

static long submit(struct iocb *one)
{
    return SUBMIT(1, &one);
}

/* The events that are there, or come: `least` of them. Linux tells with readiness what else may have come, by kind of file: only POLLIN of that is shown. */
static void take(const char *what, int least)
{
    long got = CALL(SYS_io_getevents, context, least, 512, events, least ? NULL : &none);
    printf("%s: %ld", what, got);
    for (int i = 0; i < got && got < 8; i++) printf(", %lld of %llu", events[i].res > 64 ? POLLIN : events[i].res, events[i].data);
    puts("");
}

static void *write_later(void *fd)
{
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    write(*(int *)fd, "later", 5);
    return NULL;
}

static void *read_later(void *fd)
{
    static char bytes[1 << 16];
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    read(*(int *)fd, bytes, sizeof bytes);
    return NULL;
}

static void polls(void)
{
    int ends[2], pair[2], file = open("/proc/self/exe", O_RDONLY);
    pipe(ends);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    struct iocb first = request(IOCB_CMD_POLL, ends[0], POLLIN, 0), second = request(IOCB_CMD_POLL, ends[0], POLLIN, 0);
    printf("submitted %ld\n", submit(&first));
    take("nothing yet", 0);
    write(ends[1], "x", 1);
    take("a byte", 1);
    take("once", 0);
    printf("there already %ld\n", submit(&second));
    take("at once", 0);
    struct iocb wrong = second;
    wrong.aio_offset = 1;
    printf("offset %ld", submit(&wrong));
    wrong.aio_offset = 0, wrong.aio_nbytes = 1;
    printf(", length %ld", submit(&wrong));
    wrong.aio_nbytes = 0, wrong.aio_rw_flags = 1;
    printf(", flags %ld", submit(&wrong));
    wrong.aio_rw_flags = 0, wrong.aio_buf = 0x10001;
    printf(", events %ld\n", submit(&wrong));
    struct iocb plain = request(IOCB_CMD_POLL, file, POLLIN | POLLOUT, 0), never = request(IOCB_CMD_POLL, file, POLLPRI, 0);
    printf("a file %ld, of which nothing comes %ld\n", submit(&plain), submit(&never));
    take("a file", 0);

    struct iocb waits = request(IOCB_CMD_POLL, pair[0], POLLIN, 0);
    printf("socket %ld, of none %ld\n", submit(&waits), CANCEL(&plain));
    printf("cancelled %ld", CANCEL(&waits));
    printf(" again %ld\n", CANCEL(&waits));
    take("cancelled", 1);
    waits.aio_key = 7;
    submit(&waits);
    printf("key %u\n", waits.aio_key);
    waits.aio_key = 7;
    printf("wrong key %ld\n", CANCEL(&waits));
    waits.aio_key = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, write_later, &pair[1]);
    take("from a thread", 1);
    pthread_join(thread, NULL);
    /* The request keeps its file: the peer's end is not seen before it is over. */
    struct iocb hangs = request(IOCB_CMD_POLL, pair[1], POLLIN, 0);
    submit(&hangs);
    close(pair[1]);
    char bytes[8];
    printf("read %zd,", recv(pair[0], bytes, 5, 0));
    printf(" no end of file %d\n", recv(pair[0], bytes, 5, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    write(pair[0], "x", 1);
    take("closed meanwhile", 1);
    ssize_t rest = recv(pair[0], bytes, 5, 0);
    printf("its end %zd %s\n", rest, rest < 0 ? strerrorname_np(errno) : "");
}

/* Each counter's turn ends the request on the next one. */
static void chain(void)
{
    enum { MANY = 300 };
    static struct iocb requests[MANY];
    int counters[MANY + 1];
    for (int i = 0; i <= MANY; i++) counters[i] = eventfd(0, EFD_NONBLOCK);
    for (int i = 0; i < MANY; i++) {
        requests[i] = request(IOCB_CMD_POLL, counters[i], POLLIN, 0);
        requests[i].aio_flags = IOCB_FLAG_RESFD, requests[i].aio_resfd = (uint32_t)counters[i + 1];
        submit(&requests[i]);
    }
    eventfd_write(counters[0], 1);
    take("a chain", MANY);
    eventfd_t last = 0;
    eventfd_read(counters[MANY], &last);
    printf("its end %d\n", (int)last);
    for (int i = 0; i <= MANY; i++) close(counters[i]);
}

/* A signal that is there is seen; who waits for one hears nothing, since nobody looks who has it. */
static void signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, 0);
    struct iocb waits = request(IOCB_CMD_POLL, fd, POLLIN, 0);
    submit(&waits);
    raise(SIGUSR1);
    struct iocb sees = request(IOCB_CMD_POLL, fd, POLLIN, 0);
    submit(&sees);
    take("a signal", 1);
    printf("cancelled %ld\n", CANCEL(&waits));
    take("no signal", 1);
}

static void transfers(void)
{
    static char big[1 << 16];
    char bytes[16] = "";
    int pair[2], ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    pipe(ends);
    struct iocb out = request(IOCB_CMD_PWRITE, pair[0], (uintptr_t)"hello", 5), in = request(IOCB_CMD_PREAD, pair[1], (uintptr_t)bytes, 16);
    printf("write %ld", submit(&out));
    printf(", read %ld\n", submit(&in));
    take("a socket", 2);
    puts(bytes);
    in.aio_offset = 3;
    submit(&in);
    take("at an offset", 1);
    fcntl(pair[1], F_SETFL, O_NONBLOCK);
    in.aio_offset = 0;
    submit(&in);
    take("would wait", 1);
    fcntl(pair[1], F_SETFL, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, write_later, &pair[0]);
    struct iocb also = request(IOCB_CMD_PWRITE, ends[1], (uintptr_t)"x", 1), *list[] = {&also, &in, &also};
    printf("waits for data %ld\n", SUBMIT(3, list));
    pthread_join(thread, NULL);
    take("all of it", 3);
    read(ends[0], big, 2);
    while (fcntl(ends[1], F_SETPIPE_SZ, 4096) < 0) {}
    write(ends[1], big, 4096);
    pthread_create(&thread, NULL, read_later, &ends[0]);
    printf("waits for room %ld\n", submit(&also));
    pthread_join(thread, NULL);
    take("room", 1);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    submit(&also);
    take("nobody reads", 1);
    shutdown(pair[0], SHUT_WR);
    submit(&in);
    take("end of file", 1);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    CALL(SYS_io_setup, 512, &context);
    polls();
    chain();
    signals();
    transfers();
    /* Those that wait count, too. */
    aio_context_t all = context;
    context = 0;
    CALL(SYS_io_setup, 1, &context);
    int counter = eventfd(0, 0);
    static struct iocb many[4096];
    long held = 0;
    for (int i = 0; i < 4096 && held == i; i++) {
        many[i] = request(IOCB_CMD_POLL, counter, POLLIN, 0);
        held += submit(&many[i]) == 1;
    }
    printf("bounded %d\n", held > 0 && held < 4096);
    printf("destroy %ld %ld\n", CALL(SYS_io_destroy, context), CALL(SYS_io_destroy, all));
    eventfd_write(counter, 1);
    return 0;
}
