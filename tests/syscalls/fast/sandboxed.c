/* A process as sshd's before authentication: no files, no descriptors, an empty root (where it may have one), and a filter that kills for all but a few calls. What is done to make it
 * faster, or to stop it and let it go on, makes no call that the filter sees. */
#include "fast.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#define ROUNDS 3000
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF(value, then) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1), BPF_STMT(BPF_RET | BPF_K, then)
#define ALLOWED(nr) IF(nr, SECCOMP_RET_ALLOW)

static void confine(void) {
    struct sock_filter code[] = {
        LOAD(nr), ALLOWED(SYS_read), ALLOWED(SYS_write), ALLOWED(SYS_poll), ALLOWED(SYS_getpid), ALLOWED(SYS_clock_gettime), ALLOWED(SYS_brk), ALLOWED(SYS_exit_group), ALLOWED(SYS_tgkill), ALLOWED(SYS_gettid),
        IF(SYS_getuid, SECCOMP_RET_ERRNO | 77), IF(SYS_stat, SECCOMP_RET_ERRNO | 78), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    char root[] = "/tmp/empty-XXXXXX";
    MUST(mkdtemp(root) && !chdir(root) && !rmdir(root) && (!chroot(".") || errno == EPERM));
    for (int i = 0; i < 3; i++) MUST(!setrlimit((int[]){RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_NPROC}[i], &(struct rlimit){i == 1, i == 1}));
    MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* Answers each byte with the next one; makes calls that need not wait, closely. */
static void serve(int fd) {
    struct timespec now;
    struct stat st;
    char byte;
    while (read(fd, &byte, 1) == 1) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        for (int i = 0; i < 4; i++) MUST(poll(&poll_fd, 1, 0) == 1);
        MUST(getpid() > 1 && !clock_gettime(CLOCK_MONOTONIC, &now));
        MUST(syscall(SYS_getuid) == -1 && errno == 77 && syscall(SYS_stat, "/", &st) == -1 && errno == 78);
        byte++;
        MUST(write(fd, &byte, 1) == 1);
    }
}

static void on_signal(int signal) { MUST(signal == SIGUSR1); }

/* raises: the child sends itself a signal in the end. stops: it is stopped now and then. */
static void run(const char *kind, int raises, int stops) {
    int ends[2], status;
    MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    pid_t child = fork();
    if (!child) {
        close(ends[0]);
        signal(SIGUSR1, on_signal);
        confine();
        serve(ends[1]);
        if (raises) syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGUSR1);
        _exit(7);
    }
    close(ends[1]);
    for (int i = 0; i < ROUNDS; i++) {
        char byte = (char)i, got = 0;
        MUST(write(ends[0], &byte, 1) == 1);
        if (stops && i % 500 == 0) {
            MUST(!kill(child, SIGSTOP) && waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
            MUST(!kill(child, SIGCONT));
        }
        if (read(ends[0], &got, 1) != 1 || got != (char)(byte + 1)) { printf("%s: ends in round %d\n", kind, i); break; }
    }
    close(ends[0]);
    MUST(waitpid(child, &status, 0) == child);
    printf("%s: status %x\n", kind, status & ~0x80);
    fflush(stdout);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    run("calls", 0, 0);
    run("stopped", 0, 1);
    /* A handler's own return is seen: it kills. */
    run("handler", 1, 0);
    return 0;
}
