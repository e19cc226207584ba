/* /proc/PID/cmdline and environ are the program's memory: what it writes over its arguments is its title. setproctitle(3bsd). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void show(const char *what, int pid, const char *file) {
    char path[64], bytes[16384];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    int fd = open(path, O_RDONLY);
    ssize_t count = read(fd, bytes, sizeof bytes);
    close(fd);
    printf("%s: %s %zd \"", what, file, count);
    for (ssize_t i = 0; i < count && i < 60; i++) putchar(bytes[i] ? bytes[i] : '|');
    printf("\"\n");
    fflush(stdout);
}
#define SHOW(what) show(what, getpid(), "cmdline"), show(what, getpid(), "environ")

int main(int argc, char **argv, char **env) {
    if (argc != 3) {
        char large[5000] = "LARGE=";
        memset(large + 6, 'x', sizeof large - 7);
        execve("/proc/self/exe", (char *[]){"name", "first", "second", NULL}, (char *[]){"ONE=1", "TWO=22", large, NULL});
        return 1;
    }
    int status, ends[2];
    char *end = argv[2] + strlen(argv[2]) + 1;
    SHOW("begins");
    argv[1][0] = 'F';
    env[0][4] = '9';
    SHOW("changed");
    memset(argv[0], 0, end - argv[0]);
    strcpy(argv[0], "short");
    SHOW("short");
    /* Ends where the arguments ended, with no byte 0 there: goes on in the environment. */
    memset(argv[0], 'a', end - argv[0]);
    SHOW("as long");
    strcpy(argv[0], "a title that is longer than the arguments were");
    SHOW("longer");
    if (pipe(ends)) return 1;
    pid_t child = fork();
    if (!child) {
        char byte;
        close(ends[1]);
        _exit(read(ends[0], &byte, 1));
    }
    strcpy(argv[0], "the parent's own title, which is another");
    show("child", child, "cmdline");
    SHOW("parent");
    close(ends[1]);
    waitpid(child, &status, 0);
    if (!(child = fork())) _exit(0);
    siginfo_t info;
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    show("zombie", child, "cmdline");
    memset(argv[0], 't', 4500);
    SHOW("longer than a page");
    return 0;
}
