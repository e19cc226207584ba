/* What one trap from a program to another process costs, by mechanism: the figures behind docs/decisions on the sentry's platform.
 *
 *   gcc -O2 -o /tmp/spike bench/spikes/trap_mechanisms.c && /tmp/spike
 *
 * Each row: minimum and median of ROUNDS batches, in ns per call. The program's side and the kernel's side are two processes, as they would be.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define ROUNDS 15
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
enum mode { VALUE, CONTINUE, READ64, WRITE64, SURGERY, CHILDREN };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
static int compare(const void *a, const void *b) {
    return *(double *)a < *(double *)b ? -1 : 1;
}
static void measure(const char *name, int batch, void (*call)(void)) {
    double times[ROUNDS];
    for (int i = 0; i < batch / 10 + 1; i++) call();
    for (int r = 0; r < ROUNDS; r++) {
        double start = now();
        for (int i = 0; i < batch; i++) call();
        times[r] = (now() - start) / batch;
    }
    qsort(times, ROUNDS, sizeof *times, compare);
    printf("%-58s %9.0f %9.0f\n", name, times[0], times[ROUNDS / 2]);
    fflush(stdout);
}
static void call_getppid(void) { syscall(SYS_getppid); }
static void call_uname(void) { syscall(SYS_getpgid, 0); }

static int filter(unsigned action, int number, unsigned flags) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
static void on_sigsys(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = 7;
}
static int receive_fd(int socket) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(socket, &message, 0) != 1) exit(1);
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}
static void send_fd(int socket, int fd) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(socket, &message, 0) != 1) exit(1);
}
static char target[4096];

/* The kernel's side: answers notifications until the program ends. */
static void serve(int listener, enum mode mode) {
    struct seccomp_notif request;
    struct seccomp_notif_resp answer;
    char buffer[4096];
    for (;;) {
        memset(&request, 0, sizeof request);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) < 0) {
            if (errno == EINTR) continue;
            return;
        }
        memset(&answer, 0, sizeof answer);
        answer.id = request.id, answer.val = 7;
        struct iovec local = {buffer, 64}, remote = {target, 64};
        if (mode == CONTINUE) answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE, answer.val = 0;
        if (mode == READ64 && process_vm_readv(request.pid, &local, 1, &remote, 1, 0) != 64) _exit(3);
        if (mode == WRITE64 && process_vm_writev(request.pid, &local, 1, &remote, 1, 0) != 64) _exit(3);
        if (mode == CHILDREN) {
            char path[64];
            snprintf(path, sizeof path, "/proc/%d/task/%d/children", request.pid, request.pid);
            int fd = open(path, O_RDONLY);
            if (fd < 0 || read(fd, buffer, sizeof buffer) < 0) _exit(3);
            close(fd);
        }
        if (mode == SURGERY) {
            struct user_regs_struct registers;
            int status;
            if (ptrace(PTRACE_SEIZE, request.pid, 0, 0) || ptrace(PTRACE_INTERRUPT, request.pid, 0, 0)) _exit(4);
            ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
            if (waitpid(request.pid, &status, __WALL) != (pid_t)request.pid) _exit(5);
            ptrace(PTRACE_GETREGS, request.pid, 0, &registers);
            registers.rax = 7;
            ptrace(PTRACE_SETREGS, request.pid, 0, &registers);
            ptrace(PTRACE_DETACH, request.pid, 0, 0);
            continue;
        }
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) < 0 && errno != ENOENT) _exit(6);
    }
}
static void notified(const char *name, enum mode mode, int synchronous, int batch) {
    int pair[2], status;
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    pid_t program = fork();
    if (!program) {
        int listener = filter(SECCOMP_RET_USER_NOTIF, mode == CONTINUE ? SYS_getpgid : SYS_getpgid,
                              SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
        send_fd(pair[1], listener);
        close(listener);
        measure(name, batch, call_uname);
        _exit(0);
    }
    int listener = receive_fd(pair[0]);
    if (synchronous && ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1)) perror("SYNC_WAKE_UP");
    close(pair[1]), close(pair[0]);
    serve(listener, mode);
    waitpid(program, &status, 0);
    close(listener);
}
static volatile int *word;
static void call_spin(void) {
    word[0] = 1;
    while (__atomic_load_n(&word[0], __ATOMIC_ACQUIRE)) __builtin_ia32_pause();
}
static void spin(const char *name) {
    word = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t program = fork();
    if (!program) {
        measure(name, 100000, call_spin);
        word[1] = 1;
        _exit(0);
    }
    while (!word[1])
        if (__atomic_load_n(&word[0], __ATOMIC_ACQUIRE)) __atomic_store_n(&word[0], 0, __ATOMIC_RELEASE);
    waitpid(program, 0, 0);
}
static void in_child(void (*body)(void)) {
    pid_t child = fork();
    if (!child) body(), _exit(0);
    waitpid(child, 0, 0);
}
static void native(void) { measure("getppid, no filter", 100000, call_getppid); }
static void allowed(void) {
    filter(SECCOMP_RET_ERRNO | EPERM, SYS_acct, 0);
    measure("getppid, allowed by a filter", 100000, call_getppid);
}
static void trapped(void) {
    struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, 0);
    filter(SECCOMP_RET_TRAP, SYS_getpgid, 0);
    measure("SIGSYS, handler, sigreturn (no other process)", 20000, call_uname);
}
static void dispatched(void) {
    static char selector = 1;
    extern char etext, __executable_start;
    (void)etext, (void)__executable_start;
    struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, 0);
    if (prctl(59, 1, 0, 0, &selector)) return (void)puts("syscall user dispatch: not here");
    selector = 0;
    (void)selector;
    measure("syscall user dispatch armed, selector allows", 100000, call_getppid);
}
static void fork_exit(void) {
    pid_t child = fork();
    if (!child) _exit(0);
    waitpid(child, 0, 0);
}
int main(void) {
    printf("%-58s %9s %9s\n", "ns per call", "min", "median");
    in_child(native);
    in_child(allowed);
    in_child(dispatched);
    in_child(trapped);
    spin("spinning on a shared word, two busy cores");
    notified("notification, value, synchronous wake-up", VALUE, 1, 4000);
    notified("notification, value, no synchronous wake-up", VALUE, 0, 500);
    notified("notification, the host continues the call", CONTINUE, 1, 4000);
    notified("notification + process_vm_readv of 64 bytes", READ64, 1, 4000);
    notified("notification + process_vm_writev of 64 bytes", WRITE64, 1, 4000);
    notified("notification + /proc/PID/task/TID/children", CHILDREN, 1, 2000);
    notified("notification + ptrace: seize, stop, registers, detach", SURGERY, 1, 500);
    measure("fork + exit + wait", 200, fork_exit);
    return 0;
}
