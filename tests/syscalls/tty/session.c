// Controlling terminals: who gets one, who is signalled, who must wait.
#include "pair.h"
#include <sys/prctl.h>

static int master;
static volatile sig_atomic_t came[65];
static void note(int signal) { came[signal]++; }

static void catch_all(int flags) {
    int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGCONT, SIGTTIN, SIGTTOU, SIGWINCH};
    for (unsigned index = 0; index < sizeof signals / sizeof *signals; index++) {
        struct sigaction action = {.sa_handler = note, .sa_flags = flags};
        sigaction(signals[index], &action, NULL);
    }
}

static void told(const char *what) {
    printf("%s:", what);
    for (int signal = 1; signal < 65; signal++) if (came[signal]) { printf(" %d", signal); came[signal] = 0; }
    printf("\n");
    fflush(stdout);
}

// Returns when the parent has ended: its terminal and the groups that it kept from being orphans are dealt with by then.
static void until_orphaned(pid_t parent) { while (getppid() == parent) usleep(1000); }

// Returns when all have ended who have the pipe's other end, which the caller gives up.
static void until_closed(int ends[2]) {
    char byte;
    close(ends[1]);
    while (read(ends[0], &byte, 1) != 0);
}

// Runs `part` as the leader of a session of its own, and tells how it ended; then whom it left are waited for.
static void in_session(const char *name, void (*part)(void)) {
    printf("== %s\n", name);
    fflush(stdout);
    master = open_master();
    pid_t pid = fork();
    if (pid == 0) { setsid(); part(); fflush(stdout); _exit(0); }
    int status;
    waitpid(pid, &status, 0);
    printf("ended %x\n", status);
    close(master);
    while (wait(NULL) > 0);
}

static int acquire(void) {
    int slave = open_slave(master, O_RDWR);
    if (slave < 0) perror("slave");
    return slave;
}

static void acquiring(void) {
    result("no terminal", open("/dev/tty", O_RDWR));
    int slave = open_slave(master, O_RDWR | O_NOCTTY);
    result("noctty", open("/dev/tty", O_RDWR));
    result("gsid", tcgetsid(slave));
    result("only writing", open_slave(master, O_WRONLY) < 0 ? -1 : 0);
    result("no tty", open("/dev/tty", O_RDWR));
    result("sctty", ioctl(slave, TIOCSCTTY, 0));
    result("sctty twice", ioctl(slave, TIOCSCTTY, 0));
    int tty = open("/dev/tty", O_RDWR);
    printf("tty %d sid %d pgrp %d\n", tty >= 0, tcgetsid(tty) == getpid(), tcgetpgrp(tty) == getpid());
    int value; ioctl(master, TIOCGPGRP, &value); printf("by master %d\n", value == getpid());
    int other = open_master(), second = open_slave(other, O_RDWR);
    result("second", tcgetsid(second));
    result("sctty second", ioctl(second, TIOCSCTTY, 0));
    write(tty, "x", 1); show_read("master", master, 10);
    pid_t pid = fork();
    if (pid == 0) {
        printf("child sid %d\n", tcgetsid(tty) == getppid());
        result("not leader", ioctl(second, TIOCSCTTY, 0));
        setsid();
        result("after setsid", open("/dev/tty", O_RDWR));
        result("gsid", tcgetsid(slave));
        result("sctty of another", ioctl(slave, TIOCSCTTY, 0));
        fflush(stdout); _exit(0);
    }
    waitpid(pid, NULL, 0);
    result("bad group", tcsetpgrp(tty, -1)); result("no group", tcsetpgrp(tty, 999999)); result("other session", tcsetpgrp(tty, 1));
    catch_all(SA_RESTART);
    result("notty", ioctl(tty, TIOCNOTTY)); told("told");
    result("gone", open("/dev/tty", O_RDWR)); result("gsid", tcgetsid(slave)); result("notty", ioctl(slave, TIOCNOTTY));
}

static void typing(void) {
    catch_all(SA_RESTART);
    int slave = acquire();
    write(master, "\x03", 1); settle(slave); told("interrupt");
    write(master, "\x1c", 1); settle(slave); told("quit");
    write(master, "\x1a", 1); settle(slave); told("suspend");
    struct winsize size = {10, 20, 0, 0};
    ioctl(slave, TIOCSWINSZ, &size); told("size"); ioctl(slave, TIOCSWINSZ, &size); told("same size");
    ioctl(master, TIOCSIG, SIGINT); told("tiocsig"); result("tiocsig", ioctl(master, TIOCSIG, SIGHUP));
    pid_t pid = fork();
    if (pid == 0) { setpgid(0, 0); for (;;) pause(); }
    setpgid(pid, pid);
    struct termios settings; tcgetattr(slave, &settings);
    result("spgrp", tcsetpgrp(slave, pid)); printf("fg %d\n", tcgetpgrp(slave) == pid);
    signal(SIGTTOU, SIG_IGN);
    write(master, "\x03", 1); settle(slave); told("not me");
    result("back", tcsetpgrp(slave, getpid()));
    kill(pid, SIGKILL); waitpid(pid, NULL, 0);
}

static int slave_of_background;
static int background(int (*part)(void), int orphaned) {
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) { setpgid(0, 0); if (orphaned) until_orphaned(parent); fflush(stdout); int code = part(); fflush(stdout); _exit(code); }
    setpgid(pid, pid);
    return pid;
}
static int reads(void) { char byte; ssize_t count = read(slave_of_background, &byte, 1); return count == 1 ? byte : errno; }
static int writes(void) { return write(slave_of_background, "w", 1) == 1 ? 0 : errno; }
static int sets(void) { struct termios settings; tcgetattr(slave_of_background, &settings); return tcsetattr(slave_of_background, TCSANOW, &settings) ? errno : 0; }
static int groups(void) { return tcsetpgrp(slave_of_background, getpid()) ? errno : 0; }
static int ignoring_read(void) { signal(SIGTTIN, SIG_IGN); return reads(); }
static int ignoring_write(void) { signal(SIGTTOU, SIG_IGN); return writes(); }
static int ignoring_group(void) { signal(SIGTTOU, SIG_IGN); return groups(); }
static int handled_read(void) { struct sigaction action = {.sa_handler = note}; sigaction(SIGTTIN, &action, NULL); int code = reads(); return code + came[SIGTTIN] * 64; }

static void backgrounds(void) {
    int slave = slave_of_background = acquire(), status;
    struct { const char *name; int (*part)(void); int tostop; } parts[] = {
        {"read", reads, 0}, {"write", writes, 0}, {"write tostop", writes, 1}, {"set", sets, 0}, {"group", groups, 0},
        {"ignoring read", ignoring_read, 0}, {"ignoring write", ignoring_write, 1}, {"ignoring group", ignoring_group, 0}, {"handled read", handled_read, 0}};
    signal(SIGTTOU, SIG_IGN);
    for (unsigned index = 0; index < sizeof parts / sizeof *parts; index++) {
        struct termios settings; tcgetattr(slave, &settings);
        settings.c_lflag = (settings.c_lflag & ~TOSTOP) | (parts[index].tostop ? TOSTOP : 0);
        tcsetattr(slave, TCSANOW, &settings);
        fflush(stdout);
        signal(SIGTTOU, SIG_DFL);
        pid_t pid = background(parts[index].part, 0);
        waitpid(pid, &status, WUNTRACED); printf("%s: %x", parts[index].name, status);
        signal(SIGTTOU, SIG_IGN);
        if (WIFSTOPPED(status)) {
            tcsetpgrp(slave, pid);
            write(master, "A\n", 2);
            kill(-pid, SIGCONT);
            waitpid(pid, &status, WUNTRACED); printf(" then %x", status);
        }
        tcsetpgrp(slave, getpid());
        tcflush(slave, TCIFLUSH);
        printf("\n");
    }
}

// The parent of the background process is in another session: its group is orphaned.
static int orphan_part(void) { int got = reads(); printf("orphan read %s\n", strerror(got)); printf("orphan set %d\n", sets()); return 0; }
static void orphans(void) {
    slave_of_background = acquire();
    int ends[2];
    pipe(ends);
    pid_t pid = fork();
    if (pid == 0) { background(orphan_part, 1); _exit(0); }
    waitpid(pid, NULL, 0);
    until_closed(ends);
}

static void leader_ends(void) {
    int slave = acquire(), ends[2];
    pipe(ends);
    pid_t leader = getpid(), pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        catch_all(0);
        write(ends[1], "x", 1);
        until_orphaned(leader);
        told("foreground at the leader's end");
        result("tty", open("/dev/tty", O_RDWR));
        result("gsid", tcgetsid(slave));
        result("write", write(slave, "x", 1));
        fflush(stdout);
        _exit(0);
    }
    setpgid(pid, pid);
    signal(SIGTTOU, SIG_IGN);
    tcsetpgrp(slave, pid);
    char byte; read(ends[0], &byte, 1);
}

static void master_closes(void) {
    catch_all(0);
    int slave = acquire(), ends[2];
    pipe(ends);
    pid_t leader = getpid(), pid = fork();
    if (pid == 0) {
        close(master);
        setpgid(0, 0);
        write(ends[1], "x", 1);
        until_orphaned(leader);
        told("foreground at the leader's end"); _exit(0);
    }
    setpgid(pid, pid); signal(SIGTTOU, SIG_IGN); tcsetpgrp(slave, pid);
    char byte; read(ends[0], &byte, 1);
    // The parent has the last of it, and closes it when told.
    close(master);
    kill(getppid(), SIGUSR1);
    while (!came[SIGHUP]) usleep(1000);
    told("leader");
    result("read", read(slave, ends, 1)); result("write", write(slave, "x", 1)); result("tty", open("/dev/tty", O_RDWR));
}

static void close_master(int signal) { (void)signal; close(master); }

static void stopped_orphans(void) {
    int ends[2];
    acquire();
    pipe(ends);
    pid_t pid = fork();
    if (pid == 0) {
        pid_t inner = fork();
        if (inner == 0) { catch_all(SA_RESTART); kill(getpid(), SIGSTOP); told("orphan"); _exit(0); }
        setpgid(inner, inner);
        int status; waitpid(inner, &status, WUNTRACED); printf("stopped %x\n", status); fflush(stdout);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    until_closed(ends);
}

int main(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    in_session("acquiring", acquiring);
    in_session("typing", typing);
    in_session("background", backgrounds);
    in_session("orphans", orphans);
    in_session("leader ends", leader_ends);
    signal(SIGUSR1, close_master);
    in_session("master closes", master_closes);
    in_session("stopped orphans", stopped_orphans);
    return 0;
}
