// Requests on a stopped thread: memory, registers, signals; and what is refused.
#include "tracing.h"

static volatile long word = 0x1122334455667788;
static char text[] = "as it was";

static void body(void) {
    syscall(SYS_getppid);
    syscall(SYS_write, 1, text, strlen(text));
    syscall(SYS_write, 1, "\n", 1);
    printf("word %lx\n", word);
    fflush(stdout);
    syscall(1000, 1, 2, 3, 4, 5, 6);
    raise(SIGUSR1);
    __builtin_trap();
}

static volatile int caught;
static void handler(int signal) { caught = signal; }

static void refuse(const char *what, long result) {
    printf("%s: %ld %s\n", what, result, result < 0 ? strerror(errno) : "");
    errno = 0;
}

int main(void) {
    struct user_regs_struct registers;
    siginfo_t info;
    uint64_t mask = 0;
    signal(SIGUSR1, handler);
    pid_t pid = traced(body);

    refuse("attach twice", ptrace(PTRACE_ATTACH, pid, 0, 0));
    refuse("attach to itself", ptrace(PTRACE_ATTACH, getpid(), 0, 0));
    refuse("attach to nobody", ptrace(PTRACE_ATTACH, 99999, 0, 0));
    refuse("seize with an address", ptrace(PTRACE_SEIZE, pid, 1, 0));
    refuse("not traced", ptrace(PTRACE_CONT, getppid(), 0, 0));
    refuse("interrupt of one not seized", ptrace(PTRACE_INTERRUPT, pid, 0, 0));
    refuse("listen of one not seized", ptrace(PTRACE_LISTEN, pid, 0, 0));
    refuse("signal 65", ptrace(PTRACE_CONT, pid, 0, 65));
    refuse("no such request", ptrace(9999, pid, 0, 0));
    refuse("bad options", ptrace(PTRACE_SETOPTIONS, pid, 0, 1 << 30));
    refuse("peek at nothing", (errno = 0, ptrace(PTRACE_PEEKDATA, pid, 8, 0)));
    refuse("poke at nothing", ptrace(PTRACE_POKEDATA, pid, 8, 0));
    refuse("user area, unaligned", ptrace(PTRACE_PEEKUSER, pid, 3, 0));
    refuse("user area, behind", ptrace(PTRACE_PEEKUSER, pid, 4096, 0));
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);

    errno = 0;
    printf("word %lx\n", ptrace(PTRACE_PEEKDATA, pid, &word, 0));
    CHECK(ptrace(PTRACE_POKEDATA, pid, &word, 0x42L) == 0);
    CHECK(ptrace(PTRACE_POKEDATA, pid, text, *(long *)"AS IT IS") == 0);
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0);
    printf("siginfo %d code %d\n", info.si_signo, info.si_code);
    CHECK(ptrace(PTRACE_GETSIGMASK, pid, sizeof mask, &mask) == 0);
    printf("mask %lx\n", (long)mask);

    // Every call, in and out, until the signal.
    for (;;) {
        CHECK(ptrace(PTRACE_SYSCALL, pid, 0, 0) == 0);
        int status = next(pid, 0);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80)) {
            printf("then %s\n", told(status));
            break;
        }
        CHECK(ptrace(PTRACE_GETREGS, pid, 0, &registers) == 0);
        struct { uint8_t op, pad[3]; uint32_t arch; uint64_t ip, sp, a, b, c, d, e, f, g; } call;
        long size = ptrace(0x420e, pid, sizeof call, &call);
        long number = registers.orig_rax;
        int is_entry = call.op == 1;
        long message = 0;
        CHECK(ptrace(PTRACE_GETEVENTMSG, pid, 0, &message) == 0);
        printf("call %ld op %d size %ld arch %x message %ld ip %d sp %d cs %llx ss %llx\n", number, call.op, size, call.arch, message,
               call.ip == registers.rip, call.sp == registers.rsp, registers.cs, registers.ss);
        if (is_entry) {
            printf("  in: rax %lld, number %d, arguments %d\n", (long long)registers.rax, call.a == (uint64_t)number,
                   call.b == registers.rdi && call.c == registers.rsi && call.d == registers.rdx && call.e == registers.r10 && call.f == registers.r8 && call.g == registers.r9);
            // The first write becomes another call, the second none.
            static int writes;
            if (number == SYS_write && ++writes == 1) {
                registers.rdx = 5;
                CHECK(ptrace(PTRACE_SETREGS, pid, 0, &registers) == 0);
            } else if (number == SYS_getppid) {
                CHECK(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), -1L) == 0);
            }
        } else {
            if (number == 1000 || number == -1 || number == SYS_write)
                printf("  out: rax %lld error %d rcx %d\n", (long long)registers.rax, (int)(uint8_t)call.b, registers.rcx == registers.rip);
        }
    }
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0);
    printf("siginfo %d code %d from it %d\n", info.si_signo, info.si_code, info.si_pid == pid);

    // Register sets.
    CHECK(ptrace(PTRACE_GETREGS, pid, 0, &registers) == 0);
    struct user_regs_struct set;
    struct iovec vector = {&set, sizeof set + 100};
    refuse("odd size", ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vector));
    vector.iov_len = sizeof set + 104;
    CHECK(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vector) == 0);
    printf("set of %zu, the same %d\n", vector.iov_len, !memcmp(&set, &registers, sizeof set));
    refuse("no such set", ptrace(PTRACE_GETREGSET, pid, 0x777, &vector));
    static struct user_fpregs_struct floating, again;
    static char state[8192];
    CHECK(ptrace(PTRACE_GETFPREGS, pid, 0, &floating) == 0);
    vector = (struct iovec){state, sizeof state};
    CHECK(ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &vector) == 0);
    printf("extended state %d, mxcsr %x\n", vector.iov_len > 512, floating.mxcsr);
    floating.xmm_space[0] = 0x1234;
    CHECK(ptrace(PTRACE_SETFPREGS, pid, 0, &floating) == 0);
    CHECK(ptrace(PTRACE_GETFPREGS, pid, 0, &again) == 0);
    printf("xmm0 %x\n", again.xmm_space[0]);
    floating.mxcsr = 0xFFFFFFFF;
    refuse("bad mxcsr", ptrace(PTRACE_SETFPREGS, pid, 0, &floating));
    refuse("code segment of the kernel", ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, cs), 0x10L));
    refuse("base in the kernel", ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, fs_base), -1L));

    // Suppressed; then a fault, told and delivered.
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    next(pid, "trap");
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0);
    CHECK(ptrace(PTRACE_GETREGS, pid, 0, &registers) == 0);
    printf("siginfo %d code %d at rip %d\n", info.si_signo, info.si_code, (uint64_t)info.si_addr == registers.rip);
    CHECK(ptrace(PTRACE_CONT, pid, 0, info.si_signo) == 0);
    int status = next(pid, 0);
    printf("end: killed by %d\n", WTERMSIG(status));
    return 0;
}
