/* Linux AIO: io_setup(2), io_submit(2), io_getevents(2) and their errors. */
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
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long call(long nr, long a, long b, long c, long d, long e, long f)
{
    long result = syscall(nr, a, b, c, d, e, f);
    return result < 0 ? -errno : result;
}
#define SETUP(n, p) call(SYS_io_setup, n, (long)(p), 0, 0, 0, 0)
#define DESTROY(c) call(SYS_io_destroy, (long)(c), 0, 0, 0, 0, 0)
#define SUBMIT(c, n, p) call(SYS_io_submit, (long)(c), n, (long)(p), 0, 0, 0)
#define GET(c, min, n, e, t) call(SYS_io_getevents, (long)(c), min, n, (long)(e), (long)(t), 0)

static aio_context_t context;
static struct io_event events[64];
static const struct timespec none = {0, 0}, little = {0, 30000000};

static struct iocb request(int operation, int fd, void *buf, size_t len, long long offset)
{
    static uint64_t next;
    return (struct iocb){.aio_data = ++next, .aio_lio_opcode = (uint16_t)operation, .aio_fildes = (uint32_t)fd, .aio_buf = (uint64_t)(uintptr_t)buf, .aio_nbytes = len, .aio_offset = offset};
}

/* Submits one and says what became of it. */
static void one(const char *what, struct iocb wanted)
{
    struct iocb *list[] = {&wanted};
    long submitted = SUBMIT(context, 1, list);
    long got = submitted == 1 ? GET(context, 1, 64, events, NULL) : 0;
    printf("%s: %ld, %ld events", what, submitted, got);
    if (got == 1) printf(", result %lld, second %lld, own data %d, own request %d", events[0].res, events[0].res2, events[0].data == wanted.aio_data, events[0].obj == (uint64_t)(uintptr_t)&wanted);
    puts("");
}

static void *later(void *argument)
{
    static char byte;
    struct iocb wanted = request(IOCB_CMD_PREAD, *(int *)argument, &byte, 1, 0), *list[] = {&wanted};
    nanosleep(&little, NULL);
    SUBMIT(context, 1, list);
    return NULL;
}
static volatile int signals;
static void on_signal(int unused) { signals++; (void)unused; }

int main(void)
{
    char name[] = "/tmp/aio-XXXXXX", buffer[8192], other[8192];
    int fd = mkstemp(name);
    unlink(name);
    memset(buffer, 'x', sizeof buffer);
    aio_context_t used = 5;
    printf("setup: used %ld, none %ld, many %ld, null %ld, good %ld\n", SETUP(8, &used), SETUP(0, &context), SETUP(0x1000000, &context), SETUP(8, NULL), SETUP(64, &context));
    used = 0;
    long second = SETUP(1, &used);
    printf("a second: %ld different %d\n", second, used != context);
    /* libaio looks for a ring there, to take events without a call. */
    volatile unsigned *ring = (unsigned *)context;
    printf("readable %d\n", ring[4] == 0xa10a10a1 || ring[4] != 0xa10a10a1);
    printf("nothing: %ld, none wanted %ld, wrong order %ld, negative %ld, no context %ld, short time %ld\n", GET(context, 0, 8, events, NULL), GET(context, 0, 0, events, NULL), GET(context, 3, 2, events, &none), GET(context, -1, 2, events, &none), GET(8, 0, 1, events, &none), GET(context, 1, 8, events, &little));

    one("write", request(IOCB_CMD_PWRITE, fd, buffer, 5000, 100));
    one("read", request(IOCB_CMD_PREAD, fd, other, sizeof other, 90));
    printf("read %d %d\n", other[9], other[10]);
    one("read behind the end", request(IOCB_CMD_PREAD, fd, other, 10, 1 << 20));
    struct iovec parts[] = {{buffer, 3}, {buffer, 4}};
    one("writev", request(IOCB_CMD_PWRITEV, fd, parts, 2, 0));
    one("readv", request(IOCB_CMD_PREADV, fd, parts, 2, 0));
    one("fsync", request(IOCB_CMD_FSYNC, fd, NULL, 0, 0));
    one("fdsync", request(IOCB_CMD_FDSYNC, fd, NULL, 0, 0));
    one("fsync with a buffer", request(IOCB_CMD_FSYNC, fd, buffer, 0, 0));
    one("no operation", request(IOCB_CMD_NOOP, fd, NULL, 0, 0));
    one("unknown", request(77, fd, buffer, 1, 0));
    one("no file", request(IOCB_CMD_PREAD, 999, buffer, 1, 0));
    one("negative offset", request(IOCB_CMD_PREAD, fd, buffer, 1, -1));
    one("negative length", request(IOCB_CMD_PREAD, fd, buffer, (size_t)-1, 0));
    one("nowhere", request(IOCB_CMD_PREAD, fd, (void *)0x1000, 10, 0));
    struct iocb wanted = request(IOCB_CMD_PREAD, fd, buffer, 1, 0);
    wanted.aio_reserved2 = 1;
    one("reserved", wanted);
    wanted.aio_reserved2 = 0, wanted.aio_rw_flags = 0x4000;
    one("unknown flags", wanted);
    int for_reading = open("/dev/null", O_RDONLY), for_writing = open("/dev/null", O_WRONLY), root = open("/", O_RDONLY);
    one("write to a reader", request(IOCB_CMD_PWRITE, for_reading, buffer, 1, 0));
    one("read of a writer", request(IOCB_CMD_PREAD, for_writing, buffer, 1, 0));
    one("directory", request(IOCB_CMD_PREAD, root, buffer, 1, 0));
    one("device", request(IOCB_CMD_PWRITE, for_writing, buffer, 10, 0));
    int ends[2];
    pipe(ends);
    one("pipe, write", request(IOCB_CMD_PWRITE, ends[1], "hello", 5, 0));
    one("pipe, read", request(IOCB_CMD_PREAD, ends[0], other, 10, 0));

    int told = eventfd(0, EFD_NONBLOCK);
    wanted = request(IOCB_CMD_PREAD, fd, buffer, 1, 0);
    wanted.aio_flags = IOCB_FLAG_RESFD, wanted.aio_resfd = (uint32_t)told;
    one("told", wanted);
    uint64_t count = 0;
    read(told, &count, 8);
    wanted.aio_resfd = (uint32_t)fd;
    printf("count %d\n", (int)count);
    one("told to a file", wanted);
    wanted.aio_resfd = 999;
    one("told to nobody", wanted);

    struct iocb many[10], *list[10];
    for (int i = 0; i < 10; i++) many[i] = request(IOCB_CMD_PREAD, fd, other + i, 1, i), list[i] = &many[i];
    many[7].aio_fildes = 999;
    printf("until a bad one: %ld, bad list %ld, negative %ld, no context %ld\n", SUBMIT(context, 10, list), SUBMIT(context, 1, 0x1000), SUBMIT(context, -1, list), SUBMIT(8, 1, list));
    printf("in parts: %ld", GET(context, 1, 3, events, NULL));
    printf(" %ld,", GET(context, 2, 2, events, NULL));
    printf(" nowhere %ld\n", GET(context, 1, 64, 0x1000, NULL));
    printf("the rest: %ld,", GET(context, 0, 64, events, NULL));
    printf(" none %ld\n", GET(context, 0, 64, events, NULL));
    printf("cancel: %ld\n", call(SYS_io_cancel, (long)context, (long)&many[0], (long)events, 0, 0, 0));

    pthread_t thread;
    pthread_create(&thread, NULL, later, &fd);
    printf("waited: %ld\n", GET(context, 1, 64, events, NULL));
    pthread_join(thread, NULL);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    ualarm(30000, 0);
    printf("interrupted: %ld", GET(context, 1, 64, events, NULL));
    printf(" by %d\n", signals);
    sigset_t all;
    sigfillset(&all);
    struct { sigset_t *mask; size_t size; } held = {&all, 8};
    ualarm(10000, 0);
    printf("held back: %ld", call(SYS_io_pgetevents, (long)context, 1, 64, (long)events, (long)&little, (long)&held));
    printf(" then %d\n", signals);
    fflush(stdout);
    if (fork() == 0) {
        printf("a child's: %ld\n", GET(context, 0, 1, events, &none));
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    printf("destroy: %ld,", DESTROY(context));
    printf(" again %ld, other %ld\n", DESTROY(context), DESTROY(used));
    return 0;
}
