// pipe(7): what a pipe has room for, page by page, and packets (O_DIRECT).
#include "events.h"
#include <sys/uio.h>
#include <sys/wait.h>

static void *volatile nowhere = (void *)8;
static char out[1 << 20], in[1 << 20];

static int ready(int fd, short events)
{
    struct pollfd polled = {.fd = fd, .events = events};
    poll(&polled, 1, 0);
    return polled.revents;
}

static int held(int fd)
{
    int count = -1;
    ioctl(fd, FIONREAD, &count);
    return count;
}

static long say(const char *what, long result)
{
    printf("%s %ld %s\n", what, result, result < 0 ? strerrorname_np(errno) : "");
    return result;
}

static void fill(const char *what, int flags, size_t size)
{
    int ends[2], count = 0;
    pipe2(ends, O_NONBLOCK | flags);
    long done, total = 0;
    while ((done = write(ends[1], out, size)) > 0) count++, total += done;
    printf("%s of %zu: %d writes, %ld bytes, held %d, poll %x %x\n", what, size, count, total, held(ends[0]), ready(ends[0], POLLIN), ready(ends[1], POLLOUT));
    say("one more byte", write(ends[1], out, 1));
    say("nothing", write(ends[1], out, 0));
    say("a byte read", read(ends[0], in, 1));
    printf("poll %x\n", ready(ends[1], POLLOUT));
    say("a page read", read(ends[0], in, 4096));
    printf("poll %x\n", ready(ends[1], POLLOUT));
    say("many written", write(ends[1], out, 20000));
    say("smaller", fcntl(ends[0], F_SETPIPE_SZ, 4096));
    say("larger", fcntl(ends[0], F_SETPIPE_SZ, 100000));
    say("many written", write(ends[1], out, 200000));
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    say("nothing, to nobody", write(ends[1], out, 0));
    say("a byte, to nobody", write(ends[1], out, 1));
    close(ends[1]);
}

static void packets(void)
{
    int ends[2];
    say("packets", pipe2(ends, O_DIRECT | O_NONBLOCK));
    printf("flags %x %x\n", fcntl(ends[0], F_GETFL), fcntl(ends[1], F_GETFL));
    say("write", write(ends[1], "one", 3));
    say("write", write(ends[1], "second", 6));
    struct iovec parts[] = {{"th", 2}, {"ird", 3}};
    say("writev", writev(ends[1], parts, 2));
    say("nothing", write(ends[1], out, 0));
    say("write", write(ends[1], out, 10000));
    printf("held %d\n", held(ends[0]));
    say("read", read(ends[0], in, 100));
    say("cut", read(ends[0], in, 4));
    printf("%.4s, held %d\n", in, held(ends[0]));
    say("no place", read(ends[0], nowhere, 100));
    struct iovec places[] = {{in, 1}, {in + 1, 9}};
    say("readv", readv(ends[0], places, 2));
    printf("%.5s\n", in);
    say("read", read(ends[0], in, 100000));
    say("nothing", read(ends[0], in, 0));
    say("read", read(ends[0], in, 4095));
    say("read", read(ends[0], in, 100000));
    say("read", read(ends[0], in, 100000));
    // A stream again, and packets behind it.
    say("stream", fcntl(ends[1], F_SETFL, O_NONBLOCK));
    say("write", write(ends[1], "ab", 2));
    say("write", write(ends[1], "cd", 2));
    say("packets", fcntl(ends[1], F_SETFL, O_NONBLOCK | O_DIRECT));
    say("write", write(ends[1], "ef", 2));
    say("stream", fcntl(ends[1], F_SETFL, O_NONBLOCK));
    say("write", write(ends[1], "gh", 2));
    for (int turn = 0; turn < 4; turn++) say("read", read(ends[0], in, 3));
    for (int turn = 0; turn < 3; turn++) say("read", read(ends[0], in, 100));
    close(ends[1]);
    say("end", read(ends[0], in, 100));
    close(ends[0]);
}

// Threads that take turns, packet by packet: each read has one write's bytes.
static int turns[2][2];
static void *answer(void *unused)
{
    char bytes[64];
    for (int turn = 0; turn < 3000; turn++) {
        long count = read(turns[0][0], bytes, sizeof bytes);
        if (count != 1 + turn % 7) return (void *)1L;
        write(turns[1][1], bytes, 2);
        write(turns[1][1], bytes, 3);
    }
    return unused;
}

static void in_turns(void)
{
    pthread_t other;
    void *result = NULL;
    char bytes[64];
    int wrong = 0;
    pipe2(turns[0], O_DIRECT);
    pipe2(turns[1], O_DIRECT);
    pthread_create(&other, NULL, answer, NULL);
    for (int turn = 0; turn < 3000; turn++) {
        write(turns[0][1], bytes, 1 + turn % 7);
        wrong += read(turns[1][0], bytes, sizeof bytes) != 2;
        wrong += read(turns[1][0], bytes, sizeof bytes) != 3;
    }
    pthread_join(other, &result);
    printf("turns: wrong %d, %ld\n", wrong, (long)result);
}

// Sizes drawn from a seed, written and read in turn: what both sides get, and what is held.
static void mixed(unsigned seed, int flags)
{
    int ends[2];
    unsigned long sum = 0;
    pipe2(ends, O_NONBLOCK | flags);
    fcntl(ends[0], F_SETPIPE_SZ, 4 * 4096);
    for (int turn = 0; turn < 3000; turn++) {
        seed = seed * 1103515245 + 12345;
        size_t size = (seed >> 8) % ((seed >> 28) < 8 ? 50 : (seed >> 28) < 14 ? 5000 : 20000);
        long done = seed & 0x80000 ? write(ends[1], out, size) : read(ends[0], in, size);
        sum = sum * 31 + (unsigned long)(done < 0 ? -errno : done) * 7 + (unsigned long)held(ends[0]) * 3 + (unsigned long)ready(ends[1], POLLOUT);
    }
    printf("mixed %lx\n", sum);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    size_t sizes[] = {1, 96, 1000, 1024, 2049, 4095, 4096, 4097, 5000, 70000};
    for (int index = 0; index < 10; index++) fill("stream", 0, sizes[index]), fill("packets", O_DIRECT, sizes[index]);
    packets();
    for (unsigned seed = 1; seed <= 6; seed++) mixed(seed, seed & 1 ? 0 : O_DIRECT);
    in_turns();
    return 0;
}
