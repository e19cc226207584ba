/* Each read moves the access time where the mount says so (strictatime): by a descriptor and by path, seen by both. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long long nanoseconds(struct timespec time) { return time.tv_sec * 1000000000LL + time.tv_nsec; }

/* Until the clock of files has moved. */
static void tick(void)
{
    struct timespec first, now;
    clock_gettime(CLOCK_REALTIME_COARSE, &first);
    do clock_gettime(CLOCK_REALTIME_COARSE, &now);
    while (nanoseconds(now) == nanoseconds(first));
}

static long long accessed(int fd)
{
    struct stat by_path, by_descriptor;
    stat("file", &by_path);
    fstat(fd, &by_descriptor);
    if (nanoseconds(by_path.st_atim) != nanoseconds(by_descriptor.st_atim)) puts("two answers");
    return nanoseconds(by_path.st_atim);
}

int main(void)
{
    char byte;
    int made = open("file", O_CREAT | O_WRONLY, 0644);
    write(made, "content", 7);
    close(made);
    int fd = open("file", O_RDONLY), quiet = open("file", O_RDONLY | O_NOATIME);
    long long before = accessed(fd);
    for (int turn = 0; turn < 4; turn++) {
        tick();
        if (turn == 3) pread(quiet, &byte, 1, 0);
        else pread(fd, &byte, 1, 0);
        long long now = accessed(fd);
        puts(now > before ? "moved" : "as it was");
        before = now;
    }
    return 0;
}
