/* Signals that come while a call faults at the program's bad pointer, or with another one: a handler sees an instruction pointer of the program's own, and its calls disturb none. */
#include "fast.h"
#include <ucontext.h>

#define TICKS 400

extern char __executable_start, etext;
static volatile sig_atomic_t ticks, outside;
static greg_t seen;

static greg_t interrupted(void *context) {
    return ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
}
static void look(int signal, siginfo_t *info, void *context) {
    int before = errno;
    char text[64];
    greg_t ip = interrupted(context);
    if (ip < (greg_t)&__executable_start || ip >= (greg_t)&etext) outside++;
    MUST(access("/", X_OK) == 0);
    MUST(readlink("/proc/self/exe", text, sizeof text) > 0);
    MUST(readlink("/", text, sizeof text) == -1 && errno == EINVAL);
    ticks++;
    errno = before;
    (void)signal, (void)info;
}
static void faulting_calls(void) {
    static char *volatile bad = (char *)8;
    char text[64];
    struct stat st;
    MUST(access(bad, X_OK) == -1 && errno == EFAULT);
    MUST(access("/absent", F_OK) == -1 && errno == ENOENT);
    MUST(readlink("/proc/self/exe", bad, 100) == -1 && errno == EFAULT);
    MUST(readlink("/absent", text, sizeof text) == -1 && errno == ENOENT);
    MUST(syscall(SYS_stat, "/", bad) == -1 && errno == EFAULT);
    MUST(stat("/", &st) == 0 && S_ISDIR(st.st_mode));
}
/* Of two that are let through at once, the second one's handler interrupts the first one's at its first instruction. */
static void first(int signal, siginfo_t *info, void *context) {
    MUST(signal == SIGUSR1 && info->si_signo == SIGUSR1);
    printf("first %d\n", (int)(interrupted(context) >= (greg_t)&__executable_start && interrupted(context) < (greg_t)&etext));
}
static void second(int signal, siginfo_t *info, void *context) {
    MUST(signal == SIGUSR2 && info->si_signo == SIGUSR2);
    seen = interrupted(context);
    printf("second %d\n", seen == (greg_t)first && ((ucontext_t *)context)->uc_mcontext.gregs[REG_RDI] == SIGUSR1);
}
/* A fault of the program's own, at which a signal may come as well: that waits for the end of its handler. */
static char *page;
static void mend(int signal, siginfo_t *info, void *context) {
    MUST(info->si_addr == page);
    MUST(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
    (void)signal, (void)context;
}
static void handle(int signal, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    if (signal == SIGSEGV) sigaddset(&action.sa_mask, SIGALRM);
    MUST(sigaction(signal, &action, 0) == 0);
}
int main(void) {
    sigset_t both, none;
    setvbuf(stdout, 0, _IONBF, 0);
    handle(SIGUSR1, first);
    handle(SIGUSR2, second);
    sigemptyset(&none);
    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    for (int i = 0; i < 3; i++) {
        MUST(sigprocmask(SIG_BLOCK, &both, 0) == 0);
        MUST(raise(SIGUSR2) == 0 && raise(SIGUSR1) == 0);
        MUST(sigprocmask(SIG_SETMASK, &none, 0) == 0);
    }
    for (int i = 0; i < OFTEN; i++) faulting_calls();
    page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(page != MAP_FAILED);
    handle(SIGSEGV, mend);
    handle(SIGALRM, look);
    struct itimerval often = {{0, 150}, {0, 150}}, never = {{0, 0}, {0, 0}};
    MUST(setitimer(ITIMER_REAL, &often, 0) == 0);
    while (ticks < TICKS) {
        MUST(mprotect(page, 4096, PROT_NONE) == 0);
        *(volatile char *)page = 1;
        faulting_calls();
    }
    MUST(setitimer(ITIMER_REAL, &never, 0) == 0);
    printf("outside %d\n", (int)outside);
    return 0;
}
