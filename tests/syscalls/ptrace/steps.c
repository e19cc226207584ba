// One instruction at a time, breakpoints, and registers that are set.
#include "tracing.h"

extern char start[], over[], spot[];
__asm__(".text\n.globl start, over, spot\nstart:\n push %rbx\n mov $3, %ecx\n1: dec %ecx\n jnz 1b\n mov $110, %eax\n syscall\n nop\nspot: mov $1, %eax\n pop %rbx\n ret\nover:\n");

static volatile long result;
static void handler(int signal) { (void)signal; }

static void body(void) {
    signal(SIGUSR1, handler);
    raise(SIGUSR2);
    result = ((long (*)(void))start)();
    raise(SIGUSR1);
    printf("result %ld\n", result);
    fflush(stdout);
}

static unsigned long rip(pid_t pid) { return ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip), 0); }

int main(void) {
    pid_t pid = traced(body);
    siginfo_t info;
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    next(pid, "ready");
    // A breakpoint at the function, in code that nobody may write.
    errno = 0;
    long was = ptrace(PTRACE_PEEKTEXT, pid, start, 0);
    CHECK(errno == 0 && was == *(long *)start);
    CHECK(ptrace(PTRACE_POKETEXT, pid, start, (was & ~0xFFL) | 0xCC) == 0);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    next(pid, "breakpoint");
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0);
    printf("code %d, at %ld\n", info.si_code, (long)(rip(pid) - (unsigned long)start));
    CHECK(ptrace(PTRACE_POKETEXT, pid, start, was) == 0);
    CHECK(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rip), start) == 0);
    for (int step = 0; step < 40; step++) {
        CHECK(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
        int status = next(pid, 0);
        unsigned long at = rip(pid);
        CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0);
        long flags = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, eflags), 0);
        if (at < (unsigned long)start || at >= (unsigned long)over) { printf("back: %s\n", told(status)); break; }
        printf("step to %ld: %s, code %d, trap flag %d\n", (long)(at - (unsigned long)start), told(status), info.si_code, !!(flags & 0x100));
        if (at == (unsigned long)spot + 5) CHECK(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), 99L) == 0);
    }
    // Into a handler.
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    next(pid, "signal");
    CHECK(ptrace(PTRACE_SINGLESTEP, pid, 0, SIGUSR1) == 0);
    next(pid, "stepped");
    printf("in the handler %d\n", rip(pid) == (unsigned long)handler);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    next(pid, "end");
    return 0;
}
