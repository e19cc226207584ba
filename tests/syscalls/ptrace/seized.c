// PTRACE_SEIZE, INTERRUPT, LISTEN and DETACH; group stops; what a tracer's end does; signals of stops.
#include "tracing.h"
#include <fcntl.h>
#include <poll.h>

static int ready[2];

static pid_t sleeper(void) {
    CHECK(pipe(ready) == 0);
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        close(ready[1]);
        char byte;
        // Waits in a call that a stop interrupts, and that goes on.
        long got = read(ready[0], &byte, 1);
        _exit(got == 1 ? byte : 99);
    }
    close(ready[0]);
    return pid;
}

static void status_line(pid_t pid, const char *key) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    CHECK(file);
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key))) {
            if (!strcmp(key, "TracerPid:")) printf("traced by this %d\n", atoi(line + strlen(key)) == getpid());
            else printf("%s", line);
        }
    fclose(file);
}

static void handler(int signal) { (void)signal; }

int main(void) {
    siginfo_t info = {0};
    pid_t pid = sleeper();
    CHECK(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
    status_line(pid, "TracerPid:");
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == -1 && errno == ESRCH);
    CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
    next(pid, "interrupted");
    status_line(pid, "State:");
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0);
    printf("siginfo %d code %x\n", info.si_signo, info.si_code);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);

    // A group stop, listened to until it ends.
    CHECK(kill(pid, SIGSTOP) == 0);
    next(pid, "signal");
    CHECK(ptrace(PTRACE_CONT, pid, 0, SIGSTOP) == 0);
    next(pid, "group stop");
    CHECK(ptrace(PTRACE_LISTEN, pid, 0, 0) == 0);
    CHECK(waitpid(pid, 0, WNOHANG | __WALL) == 0);
    CHECK(kill(pid, SIGCONT) == 0);
    next(pid, "its end");
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    next(pid, "signal");
    CHECK(ptrace(PTRACE_CONT, pid, 0, SIGCONT) == 0);
    CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
    next(pid, "interrupted");
    CHECK(ptrace(PTRACE_DETACH, pid, 0, 0) == 0);
    status_line(pid, "TracerPid:");
    CHECK(write(ready[1], "\5", 1) == 1);
    next(pid, "end");

    // Attached, and let go with a signal that ends it.
    pid = sleeper();
    CHECK(ptrace(PTRACE_ATTACH, pid, 0, 0) == 0);
    CHECK(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT | __WALL) == 0);
    printf("waitid: code %d status %d\n", info.si_code, info.si_status);
    next(pid, "attached");
    CHECK(ptrace(PTRACE_DETACH, pid, 0, SIGTERM) == 0);
    next(pid, "end");

    // A tracer that is not the parent: it hears of the end first. Then one that dies, without and with PTRACE_O_EXITKILL.
    for (int round = 0; round < 3; round++) {
        pid = sleeper();
        int told[2];
        CHECK(pipe(told) == 0);
        pid_t tracer = fork();
        if (!tracer) {
            close(ready[1]);
            CHECK(ptrace(PTRACE_SEIZE, pid, 0, round == 2 ? PTRACE_O_EXITKILL : 0) == 0);
            if (round == 0) {
                CHECK(write(told[1], "x", 1) == 1);
                next(pid, "to the tracer");
                fflush(stdout);
                _exit(0);
            }
            CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
            next(pid, "to the tracer");
            fflush(stdout);
            _exit(0);
        }
        char byte;
        if (round == 0) CHECK(read(told[0], &byte, 1) == 1);
        else CHECK(waitpid(tracer, 0, 0) == tracer);
        if (round < 2) CHECK(write(ready[1], "\6", 1) == 1);
        if (round == 0) CHECK(waitpid(tracer, 0, 0) == tracer);
        next(pid, "to the parent");
        close(told[0]);
        close(told[1]);
        close(ready[1]);
    }

    // SIGKILL ends a thread in any stop; its tracer's SIGCHLD says what a stop is.
    pid = sleeper();
    signal(SIGCHLD, handler);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, 0);
    CHECK(ptrace(PTRACE_SEIZE, pid, 0, 0) == 0);
    CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
    CHECK(sigwaitinfo(&set, &info) == SIGCHLD);
    printf("SIGCHLD: code %d status %d it %d\n", info.si_code, info.si_status, info.si_pid == pid);
    next(pid, "interrupted");
    CHECK(kill(pid, SIGKILL) == 0);
    next(pid, "end");
    return 0;
}
