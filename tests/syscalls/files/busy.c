/* ETXTBSY: nobody writes to a program that runs, and what somebody writes to is not executed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int said(int result) { return result < 0 ? -errno : 0; }
static int opens(const char *path, int flags)
{
    int fd = open(path, flags, 0755), result = said(fd);
    if (fd >= 0) close(fd);
    return result;
}
static void copy(const char *to)
{
    char bytes[65536];
    int from = open("/proc/self/exe", O_RDONLY), fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    for (ssize_t count; (count = read(from, bytes, sizeof bytes)) > 0;) write(fd, bytes, (size_t)count);
    close(from), close(fd);
}
/* Runs it until the pipe is closed; how it ended at once, or 0. */
static int run(char *path, pid_t *child)
{
    int ends[2], failed[2];
    pipe2(ends, O_CLOEXEC), pipe2(failed, O_CLOEXEC);
    *child = fork();
    if (*child == 0) {
        execl(path, path, "wait", NULL);
        int error = errno;
        write(failed[1], &error, sizeof error);
        _exit(1);
    }
    close(failed[1]);
    int error = 0;
    read(failed[0], &error, sizeof error);
    close(failed[0]), close(ends[0]), close(ends[1]);
    return -error;
}
static void end(pid_t child) { kill(child, SIGKILL), waitpid(child, NULL, 0); }

int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1) {
        pause();
        return 0;
    }
    char place[] = "/tmp/busy-XXXXXX", path[64], script[64], link_[64];
    mkdtemp(place);
    snprintf(path, sizeof path, "%s/program", place), snprintf(script, sizeof script, "%s/script", place), snprintf(link_, sizeof link_, "%s/link", place);
    copy(path);
    pid_t child, second;
    printf("runs %d\n", run(path, &child));
    link(path, link_);
    printf("to write %d, both %d, truncated %d, by another name %d, read %d, path %d\n", opens(path, O_WRONLY), opens(path, O_RDWR), opens(path, O_RDONLY | O_TRUNC), opens(link_, O_WRONLY | O_APPEND), opens(path, O_RDONLY), opens(path, O_PATH));
    printf("truncate %d, created %d, mode %d\n", said(truncate(path, 0)), opens(path, O_WRONLY | O_CREAT), said(chmod(path, 0755)));
    end(child);
    printf("after it %d\n", opens(path, O_WRONLY));
    int writer = open(path, O_WRONLY | O_CLOEXEC);
    printf("written to: %d\n", run(path, &child)), waitpid(child, NULL, 0);
    int same = dup(writer);
    close(writer);
    printf("still: %d\n", run(path, &child)), waitpid(child, NULL, 0);
    close(same);
    printf("no more: %d\n", run(path, &child));
    if ((second = fork()) == 0) pause(), _exit(0);
    printf("renamed %d, removed %d\n", said(rename(link_, path)), said(unlink(path)));
    end(child), end(second);

    int fd = open(script, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    dprintf(fd, "#!/bin/sh\nexit 0\n");
    printf("script written to: %d\n", run(script, &child)), waitpid(child, NULL, 0);
    close(fd);
    printf("script: %d\n", run(script, &child)), waitpid(child, NULL, 0);
    unlink(script), rmdir(place);
    return 0;
}
