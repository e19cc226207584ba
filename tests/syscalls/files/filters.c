/* seccomp(2) of a program's own: what its filters answer for calls, inheritance, checks of the program. */
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

static int install(struct sock_filter *code, int n, int flags) {
    struct sock_fprog p = {n, code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}

static int answer(int nr, unsigned action) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install(code, 4, 0);
}

static void on_sys(int s, siginfo_t *i, void *c) { (void)c; printf("trap %d code %d nr %d arch %x\n", s, i->si_code, i->si_syscall, i->si_arch); }

static int wait_for(void) { int st; wait(&st); return WIFSIGNALED(st) ? 1000 + WTERMSIG(st) : WEXITSTATUS(st); }

int main(int argc, char **argv) {
    if (argc > 1) { errno = 0; printf("after exec: %ld %d\n", (long)mkdir("/dev/shm/x", 0), errno); return 0; }
    drop_capabilities();
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW), bad[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 3), allow}, far[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), allow},
        over[] = {BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), allow}, endless[] = {BPF_STMT(BPF_LD | BPF_IMM, 1)}, mod[] = {BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), allow}, zero[] = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), allow}, unset[] = {BPF_STMT(BPF_LD | BPF_MEM, 3), allow}, byte[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), allow}, shift[] = {BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), allow};
    T(install(bad, 2, 0)); T(install(far, 2, 0)); T(install(over, 2, 0)); T(install(endless, 1, 0)); T(install(mod, 2, 0)); T(install(zero, 2, 0)); T(install(unset, 2, 0)); T(install(byte, 2, 0)); T(install(shift, 2, 0)); T(install(&allow, 0, 0)); T(install(&allow, 5000, 0)); T(install(&allow, 1, 0x1000)); T(syscall(SYS_seccomp, 1, 0, 1)); T(syscall(SYS_seccomp, 9, 0, 0)); T(syscall(SYS_seccomp, 0, 1, 0));
    unsigned act = SECCOMP_RET_TRAP; T(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &act)); act = 5; T(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &act)); unsigned short sizes[3]; T(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, sizes)); printf("%d %d %d\n", sizes[0], sizes[1], sizes[2]);
    T(prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    T(install(&allow, 1, 0)); T(prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    T(answer(SYS_mkdir, SECCOMP_RET_ERRNO | 77)); T(mkdir("/dev/shm/x", 0)); T(answer(SYS_rmdir, SECCOMP_RET_ERRNO)); T(rmdir("/dev/shm/none")); T(answer(SYS_mkdir, SECCOMP_RET_ERRNO | 5)); T(mkdir("/dev/shm/x", 0)); T(answer(SYS_symlink, SECCOMP_RET_TRACE)); T(symlink("a", "b")); T(answer(SYS_symlink, SECCOMP_RET_LOG)); T(symlink("a", "/none/b"));
    fflush(stdout);
    if (!fork()) { execl("/proc/self/exe", "x", "y", NULL); execl(argv[0], "x", "y", NULL); perror("exec"); _exit(1); }
    T(wait_for());
    struct sigaction sa = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO}; sigaction(SIGSYS, &sa, NULL);
    T(answer(SYS_link, SECCOMP_RET_TRAP | 3)); T(syscall(SYS_link, "a", "b"));
    fflush(stdout);
    if (!fork()) { signal(SIGSYS, SIG_IGN); link("a", "b"); _exit(3); }
    T(wait_for() == 1000 + SIGSYS);
    fflush(stdout);
    if (!fork()) { answer(SYS_unlink, SECCOMP_RET_KILL_PROCESS); unlink("a"); _exit(3); }
    T(wait_for());
    fflush(stdout);
    if (!fork()) { answer(SYS_unlink, SECCOMP_RET_KILL_THREAD); unlink("a"); _exit(3); }
    T(wait_for());
    fflush(stdout);
    if (!fork()) { prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0); _exit(errno); }
    T(wait_for());
    return 0;
}
