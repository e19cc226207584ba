/* Signals and stops that find a program while it is being replaced by another: none ends it, and none is lost. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMES "40"
#define LAST 7

static void caught(int signal) { (void)signal; }

/* Executes itself so often, with a handler that each time is gone. */
static int go_on(char *self, int left) {
    char next[16];
    signal(SIGURG, caught);
    if (left == 0) return LAST;
    snprintf(next, sizeof next, "%d", left - 1);
    execl(self, self, next, NULL);
    return 1;
}

static pid_t started(char *self) {
    pid_t child = fork();
    if (child) return child;
    execl(self, self, TIMES, NULL);
    _exit(2);
}

static int signalled(pid_t child) {
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) kill(child, SIGURG);
    return status;
}

/* Every stop is told, and the program goes on behind each. */
static int stopped(pid_t child) {
    int status;
    for (;;) {
        kill(child, SIGSTOP);
        if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status)) return status;
        kill(child, SIGCONT);
        for (volatile int turn = 0, end = random() % 300000; turn < end; turn++);
    }
}

int main(int count, char **arguments) {
    if (count > 1) return go_on(arguments[0], atoi(arguments[1]));
    printf("signalled: %#x\n", signalled(started(arguments[0])));
    printf("stopped: %#x\n", stopped(started(arguments[0])));
    return 0;
}
