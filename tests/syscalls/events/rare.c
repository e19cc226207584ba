// Rare calls: sharing taken apart, memory policies on one node, waiting for several words, protection keys, a filter's data.
#include "events.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>

static volatile int apart_tid;

static void *apart(void *unused)
{
    apart_tid = syscall(SYS_gettid);
    SAY(syscall(SYS_unshare, CLONE_FILES | CLONE_FS));
    SAY(syscall(SYS_unshare, CLONE_VM));
    close(60);
    chdir("/proc");
    umask(011);
    return unused;
}

static void sharing(void)
{
    dup2(1, 60);
    umask(022);
    pthread_t thread;
    pthread_create(&thread, NULL, apart, NULL);
    pthread_join(thread, NULL);
    // It is joined before the host's kernel has let go of it.
    while (syscall(SYS_tgkill, getpid(), apart_tid, 0) == 0)
        sched_yield();
    char where[256];
    printf("kept %d %o %d\n", fcntl(60, F_GETFD) >= 0, umask(022), strcmp(getcwd(where, sizeof where), "/proc") != 0);
    SAY(syscall(SYS_unshare, 0));
    SAY(syscall(SYS_unshare, 0x40000000000ul));
    SAY(syscall(SYS_unshare, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD));
    SAY(syscall(SYS_setns, -1, 0));
}

static void policies(void)
{
    unsigned long node = 1, far = 4, none = 0, got = 9;
    int mode = -1;
    SAY(syscall(SYS_get_mempolicy, &mode, &got, 64, 0, 0)); printf("%d %lu\n", mode, got);
    SAY(syscall(SYS_set_mempolicy, 3, &node, 64)); SAY(syscall(SYS_get_mempolicy, &mode, &got, 64, 0, 0)); printf("%d %lu\n", mode, got);
    SAY(syscall(SYS_get_mempolicy, &mode, NULL, 0, 0, 1)); printf("%d\n", mode);
    SAY(syscall(SYS_set_mempolicy, 2, &none, 64)); SAY(syscall(SYS_set_mempolicy, 0, &node, 64)); SAY(syscall(SYS_set_mempolicy, 77, &node, 64)); SAY(syscall(SYS_set_mempolicy, 2, &far, 64)); SAY(syscall(SYS_set_mempolicy, 2, bad, 64));
    SAY(syscall(SYS_set_mempolicy, 1, NULL, 0)); SAY(syscall(SYS_get_mempolicy, &mode, NULL, 0, 0, 0)); printf("%d\n", mode);
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); *page = 1;
    SAY(syscall(SYS_get_mempolicy, &mode, NULL, 0, page, 3)); printf("%d\n", mode); SAY(syscall(SYS_get_mempolicy, &mode, NULL, 0, page, 0)); SAY(syscall(SYS_get_mempolicy, &mode, &got, 64, 0, 4)); printf("%lu\n", got & 1); SAY(syscall(SYS_get_mempolicy, &mode, NULL, 0, 0, 64));
    printf("%ld\n", syscall(SYS_mbind, page, 8192, 2, &node, 64, 0)); SAY(syscall(SYS_mbind, page + 1, 8192, 2, &node, 64, 0)); SAY(syscall(SYS_mbind, page, 4096, 2, &node, 64, 99));
    SAY(syscall(SYS_set_mempolicy, 0, NULL, 0));
}

struct waiter { uint64_t value, address; uint32_t flags, reserved; };
static uint32_t words[2];
static void *wakes(void *unused)
{
    pause_ms(20);
    __atomic_store_n(&words[1], 1, __ATOMIC_SEQ_CST);
    while (syscall(SYS_futex, &words[1], FUTEX_WAKE_PRIVATE, 1, 0, 0, 0) == 0 && words[0] == 0) pause_ms(1);
    return unused;
}

static void several_words(void)
{
    struct waiter waiters[2] = {{0, (uintptr_t)&words[0], 2 | FUTEX_PRIVATE_FLAG, 0}, {0, (uintptr_t)&words[1], 2 | FUTEX_PRIVATE_FLAG, 0}};
    pthread_t thread;
    pthread_create(&thread, NULL, wakes, NULL);
    long woken = syscall(449, waiters, 2, 0, NULL, CLOCK_MONOTONIC);
    printf("woken %ld\n", woken == -1 && errno == EAGAIN ? 1 : woken);
    words[0] = 1;
    pthread_join(thread, NULL);
    SAY(syscall(449, waiters, 2, 0, NULL, CLOCK_MONOTONIC));
    SAY(syscall(449, waiters, 0, 0, NULL, CLOCK_MONOTONIC));
    struct timespec past = {0, 0};
    waiters[0].value = waiters[1].value = 1;
    SAY(syscall(449, waiters, 2, 0, &past, CLOCK_MONOTONIC));
    void *head; size_t len = 0;
    SAY(syscall(SYS_get_robust_list, 0, &head, &len)); printf("%zu\n", len); SAY(syscall(SYS_get_robust_list, 0, bad, &len));
    SAY(syscall(331, 15)); SAY(syscall(330, 1, 0));
}

static void on_sys(int signal, siginfo_t *info, void *unused)
{
    printf("signal %d code %d errno %d call %d arch %x\n", signal, info->si_code, info->si_errno, info->si_syscall, info->si_arch);
    (void)unused;
}

static void filtered(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP | 77),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 88),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog fprog = {sizeof program / sizeof *program, program};
    struct sigaction action = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
    SAY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); SAY(prctl(PR_GET_SECCOMP)); SAY(prctl(PR_SET_SECCOMP, 9, 0)); SAY(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &fprog)); SAY(prctl(PR_GET_SECCOMP));
    syscall(SYS_getppid);
    SAY(syscall(SYS_getpgrp));
    if (fork() == 0) { prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); write(1, "strict\n", 7); syscall(SYS_getuid); _exit(0); }
    int status; wait(&status); printf("killed by %d\n", WTERMSIG(status));
}

int main(void)
{
    SAY(syscall(SYS_sched_setattr, 0, &(struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t times[3]; }){48, 6, 0, 0, 0, {10, 20, 30}}, 0));
    sharing();
    policies();
    several_words();
    filtered();
    return 0;
}
