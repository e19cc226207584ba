#include "events.h"

static sigjmp_buf back;
static volatile int depth, order, has_raised;
static char stack[65536];

static void show_mask(const char *what)
{
    sigset_t set;
    sigprocmask(SIG_SETMASK, NULL, &set);
    printf("%s:", what);
    for (int signal = 1; signal < 65; signal++)
        if (sigismember(&set, signal) == 1)
            printf(" %d", signal);
    puts("");
}

static void on_nested(int signal)
{
    depth++;
    printf("enter %d depth %d\n", signal, depth);
    show_mask("mask");
    if (signal == SIGUSR1 && depth == 1 && !has_raised) {
        has_raised = 1;
        raise(SIGUSR1);
        raise(SIGUSR2);
        puts("after raise");
    }
    printf("leave %d\n", signal);
    depth--;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    printf("fault %d code %d addr %p\n", signal, info->si_code, info->si_addr);
    siglongjmp(back, 1);
}

static void on_stack(int signal)
{
    char here;
    printf("on the other stack %d\n", &here > stack && &here < stack + sizeof stack);
    stack_t now_on;
    sigaltstack(NULL, &now_on);
    printf("flags %d\n", now_on.ss_flags);
    errno = 0;
    int result = sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
    printf("change it %d %d\n", result, errno);
}

static void on_info(int signal, siginfo_t *info, void *context)
{
    printf("%d: signal %d code %d own %d uid %d value %d\n", order++, signal, info->si_code, info->si_pid == getpid(), info->si_uid, info->si_value.sival_int);
}

static void on_mask_change(int signal, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    sigaddset(&frame->uc_sigmask, SIGWINCH);
}

static void set(int signal, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(signal, &action, NULL);
}

static int deeper(int n)
{
    volatile char room[4096];
    room[0] = n;
    return n < 1 << 30 ? deeper(n + 1) + room[0] : 0;
}

static void on_overflow(int signal, siginfo_t *info, void *context)
{
    printf("overflow %d code %d\n", signal, info->si_code);
    siglongjmp(back, 1);
}

int main(void)
{
    set(SIGUSR1, on_nested, 0);
    set(SIGUSR2, on_nested, 0);
    raise(SIGUSR1);
    puts("-- SA_NODEFER");
    set(SIGUSR1, on_nested, SA_NODEFER);
    has_raised = 0;
    raise(SIGUSR1);
    puts("-- SA_RESETHAND");
    set(SIGUSR1, on_nested, SA_RESETHAND);
    depth = 5;
    raise(SIGUSR1);
    depth = 0;
    struct sigaction was;
    sigaction(SIGUSR1, NULL, &was);
    printf("default again %d\n", was.sa_handler == SIG_DFL);
    puts("-- sa_mask");
    struct sigaction action = {.sa_handler = on_nested};
    sigfillset(&action.sa_mask);
    sigaction(SIGUSR2, &action, NULL);
    sigaction(SIGUSR2, NULL, &was);
    printf("mask has KILL %d\n", sigismember(&was.sa_mask, SIGKILL));
    raise(SIGUSR2);
    puts("-- faults");
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGBUS, &fault, NULL);
    sigaction(SIGFPE, &fault, NULL);
    sigaction(SIGILL, &fault, NULL);
    sigaction(SIGTRAP, &fault, NULL);
    for (int i = 0; i < 2; i++)
        if (sigsetjmp(back, 1) == 0)
            *(volatile int *)0x1234 = 1;
    char *page = mmap((void *)0x700000000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (sigsetjmp(back, 1) == 0)
        *(volatile char *)(page + 8) = 1;
    int file = memfd_create("short", 0);
    char *mapped = mmap((void *)0x700000010000, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
    if (sigsetjmp(back, 1) == 0)
        printf("%d\n", *(volatile char *)mapped);
    if (sigsetjmp(back, 1) == 0)
        *(volatile char *)0xdead000000000000 = 1;
    volatile int zero = 0;
    if (sigsetjmp(back, 1) == 0) {
        siginfo_t *unused = NULL;
        (void)unused;
        printf("%d\n", 1 / zero);
    }
    show_mask("after siglongjmp");
    puts("-- alternate stack");
    SAY(sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = 100}, NULL));
    SAY(sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL));
    set(SIGUSR1, on_stack, SA_ONSTACK);
    raise(SIGUSR1);
    set(SIGUSR1, on_stack, 0);
    raise(SIGUSR1);
    struct sigaction overflow = {.sa_sigaction = on_overflow, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &overflow, NULL);
    for (int i = 0; i < 2; i++)
        if (sigsetjmp(back, 1) == 0)
            deeper(0);
    puts("-- order and values");
    struct sigaction inform = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO};
    sigfillset(&inform.sa_mask);
    sigset_t all, old;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    for (int signal = SIGRTMIN; signal < SIGRTMIN + 3; signal++)
        sigaction(signal, &inform, NULL);
    sigaction(SIGUSR1, &inform, NULL);
    sigaction(SIGHUP, &inform, NULL);
    for (int i = 0; i < 3; i++)
        for (int signal = SIGRTMIN + 2; signal >= SIGRTMIN; signal--)
            sigqueue(getpid(), signal, (union sigval){.sival_int = i * 10 + signal - SIGRTMIN});
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    raise(SIGHUP);
    sigprocmask(SIG_SETMASK, &old, NULL);
    siginfo_t info = {0};
    info.si_code = SI_USER;
    SAY(syscall(SYS_rt_sigqueueinfo, getppid(), SIGUSR1, &info));
    info.si_code = SI_TKILL;
    SAY(syscall(SYS_rt_sigqueueinfo, getpid(), 65, &info));
    info.si_code = -60;
    info.si_value.sival_int = 60;
    SAY(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info));
    SAY(syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR1, &info));
    SAY(syscall(SYS_rt_tgsigqueueinfo, getpid(), 0, SIGUSR1, &info));
    SAY(syscall(SYS_rt_sigqueueinfo, 99999, SIGUSR1, &info));
    puts("-- a handler's change of the mask");
    struct sigaction change = {.sa_sigaction = on_mask_change, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR2, &change, NULL);
    raise(SIGUSR2);
    show_mask("mask");
    puts("-- ignored");
    signal(SIGUSR1, SIG_IGN);
    sigprocmask(SIG_SETMASK, &all, &old);
    raise(SIGUSR1);
    sigset_t pending;
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGUSR1));
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR1, SIG_IGN);
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, NULL);
    SAY(syscall(SYS_rt_sigaction, SIGKILL, &action, NULL, 8));
    SAY(syscall(SYS_rt_sigaction, 65, NULL, NULL, 8));
    SAY(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4));
    SAY(syscall(SYS_rt_sigprocmask, 7, &all, NULL, 8));
    SAY(syscall(SYS_rt_sigprocmask, 7, NULL, &old, 8));
    SAY(kill(99999, 0));
    SAY(kill(getpid(), 65));
    SAY(syscall(SYS_tgkill, getpid(), -1, 0));
    signal(SIGSEGV, SIG_DFL);
    pid_t child = fork();
    if (child == 0) {
        sigset_t segv;
        sigemptyset(&segv);
        sigaddset(&segv, SIGSEGV);
        sigaction(SIGSEGV, &fault, NULL);
        sigprocmask(SIG_BLOCK, &segv, NULL);
        *(volatile int *)0x1234 = 1;
        exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    printf("blocked fault kills %d\n", WTERMSIG(status));
    return 0;
}
