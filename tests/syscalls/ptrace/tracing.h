// What the programs here share: a tracee to begin with, and how a stop is told.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what) do { if (!(what)) { printf("line %d: %s: %s\n", __LINE__, #what, strerror(errno)); fflush(stdout); _exit(1); } } while (0)

static inline const char *told(int status) {
    static char text[128];
    if (WIFEXITED(status)) snprintf(text, sizeof text, "exited %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status)) snprintf(text, sizeof text, "killed by %d", WTERMSIG(status));
    else if (status == 0xFFFF) snprintf(text, sizeof text, "continued");
    else if (WIFSTOPPED(status)) snprintf(text, sizeof text, "stopped by %d, event %d", WSTOPSIG(status), status >> 16);
    else snprintf(text, sizeof text, "status %x", status);
    return text;
}

// The next change of that tracee, told if `label` is.
static inline int next(pid_t pid, const char *label) {
    int status = 0;
    pid_t found = waitpid(pid, &status, __WALL);
    CHECK(found == pid);
    if (label) printf("%s: %s\n", label, told(status));
    return status;
}

// A child that is traced by its own wish, and stands in its first stop.
static inline pid_t traced(void (*body)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGSTOP);
        body();
        _exit(7);
    }
    int status = next(pid, 0);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    return pid;
}
