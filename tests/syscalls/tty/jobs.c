// Stopping, continuing, and waiting for it.
#include "pair.h"

static volatile sig_atomic_t children;
static siginfo_t last;
static void child(int signal, siginfo_t *info, void *context) { (void)signal; (void)context; children++; last = *info; }

static void wait_for(const char *what, pid_t pid, int options) {
    int status = 0;
    pid_t got = waitpid(pid, &status, options);
    if (got < 0) printf("%s %s\n", what, strerror(errno));
    else printf("%s %d %x", what, got == pid, status), printf(" SIGCHLD %d code %d status %d\n", children, last.si_code, last.si_status);
    children = 0;
    fflush(stdout);
}

// SIGCHLD for going on and for the end may be one or two.
static void wait_quietly(const char *what, pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    printf("%s %x\n", what, status);
    children = 0;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = child, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    pid_t pid = fork();
    if (pid == 0) for (;;) pause();
    kill(pid, SIGSTOP);
    wait_for("stop", pid, WUNTRACED);
    wait_for("none", pid, WUNTRACED | WCONTINUED | WNOHANG);
    // It can be waited for before its signal has come.
    kill(pid, SIGCONT);
    while (!children) usleep(1000);
    wait_for("continue", pid, WCONTINUED);
    kill(pid, SIGSTOP); wait_for("stop", pid, WUNTRACED);
    kill(pid, SIGTERM); usleep(50000);
    wait_for("term waits", pid, WNOHANG);
    kill(pid, SIGCONT);
    wait_quietly("term", pid);

    // A busy one.
    pid = fork();
    if (pid == 0) { setpgid(0, 0); volatile long count = 0; for (;;) count++; }
    setpgid(pid, pid); usleep(20000);
    kill(pid, SIGTSTP); wait_for("busy", pid, WUNTRACED);
    kill(pid, SIGSTOP); usleep(20000); wait_for("again", pid, WUNTRACED | WNOHANG);
    kill(pid, SIGKILL); wait_for("kill", pid, 0);

    // A sleeper's time goes on while it is stopped; its calls are made again.
    pid = fork();
    if (pid == 0) { struct timespec time = {0, 200000000}; int result = nanosleep(&time, NULL); _exit(result ? 1 : 3); }
    usleep(20000);
    kill(pid, SIGSTOP); wait_for("sleeper", pid, WUNTRACED);
    usleep(300000);
    wait_for("held", pid, WNOHANG);
    kill(pid, SIGCONT); wait_quietly("slept", pid);

    // A reader gets what came while it was stopped.
    int ends[2]; pipe(ends);
    pid = fork();
    if (pid == 0) { char byte; _exit(read(ends[0], &byte, 1) == 1 ? byte : 99); }
    usleep(20000);
    kill(pid, SIGSTOP); wait_for("reader", pid, WUNTRACED);
    write(ends[1], "\x07", 1); usleep(20000); wait_for("held", pid, WNOHANG);
    kill(pid, SIGCONT); wait_quietly("read", pid);

    // waitid, and looking without taking.
    pid = fork();
    if (pid == 0) { raise(SIGSTOP); usleep(100000); _exit(5); }
    siginfo_t info = {0};
    result("waitid", waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT)); printf("%d %d\n", info.si_code, info.si_status);
    result("waitid", waitid(P_PID, pid, &info, WSTOPPED)); printf("%d %d\n", info.si_code, info.si_status);
    info.si_pid = 0; result("waitid", waitid(P_PID, pid, &info, WSTOPPED | WNOHANG)); printf("%d\n", info.si_pid);
    kill(pid, SIGCONT);
    result("waitid", waitid(P_PID, pid, &info, WCONTINUED)); printf("%d %d\n", info.si_code, info.si_status);
    usleep(200000); result("ended", waitid(P_PID, pid, &info, WCONTINUED)); result("waitid", waitid(P_PID, pid, &info, WEXITED)); printf("%d %d\n", info.si_code, info.si_status);

    // Groups.
    pid = fork();
    if (pid == 0) { setpgid(0, 0); for (;;) pause(); }
    result("setpgid", setpgid(pid, pid)); printf("%d\n", getpgid(pid) == pid);
    result("no such", setpgid(pid, 999999)); result("negative", setpgid(pid, -1));
    kill(-pid, SIGTSTP); int status; waitpid(pid, &status, WUNTRACED); printf("%x\n", status);
    kill(-pid, SIGCONT); kill(-pid, SIGINT); waitpid(pid, &status, 0); printf("%x\n", status);

    // No SIGCHLD for stops.
    action.sa_flags |= SA_NOCLDSTOP; sigaction(SIGCHLD, &action, NULL); children = 0;
    pid = fork();
    if (pid == 0) { raise(SIGSTOP); _exit(0); }
    waitpid(pid, &status, WUNTRACED); printf("%x %d\n", status, children); kill(pid, SIGCONT); waitpid(pid, &status, 0); printf("%x %d\n", status, children);
    return 0;
}
