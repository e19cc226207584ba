/* tracing ATTACK: a tracer and its tracee against the sentry. Tracers that are killed at any point; registers of any value, into the stub too; the stub's pages. */
#include "attack.h"
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/user.h>

enum { ROUNDS = 25, OPERATIONS = 60 };
static const uint64_t WORDS[] = {0, 1, STUB, STUB + 2, STUB + 0x100, STUB + PAGE, STUB + 2 * PAGE, CHANNEL, 0x7FFFFFFFEFFF, 0x7FFFFFFFF000, 0xFFFF800000000000, -1, 0x23, 0x33, 0x100, 0x3000, 231, 15, 56, 435, 0x2001, 0x2002, 0x2004};

/* What a tracee does: calls, threads, children, signals, faults. */
static void *spin(void *argument) {
    for (int round = 0; round < 20; round++)
        syscall(SYS_getppid), sched_yield();
    return argument;
}

static void live(void) {
    for (int round = 0; round < 50; round++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, spin, 0) == 0)
            pthread_join(thread, 0);
        pid_t child = round % 3 ? fork() : vfork();
        if (child == 0)
            _exit(0);
        waitpid(child, 0, 0);
        raise(SIGCONT), kill(getpid(), SIGURG);
        write(nothing, area, 10), access("/nowhere", 0);
        if (round % 7 == 0 && fork() == 0)
            execl("/bin/true", "true", (char *)0), _exit(1);
    }
}

/* Any request, with any value: to a thread that may stand in a stop or not. */
static void meddle(pid_t pid, uint64_t *state, int with_registers) {
    static const int RESUMES[] = {PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP, PTRACE_LISTEN, PTRACE_INTERRUPT, PTRACE_DETACH, PTRACE_SYSCALL, PTRACE_CONT};
    static const int LOOKS[] = {PTRACE_GETSIGINFO, PTRACE_SETSIGINFO, PTRACE_GETEVENTMSG, PTRACE_GETFPREGS, PTRACE_SETFPREGS, PTRACE_GETREGS, PTRACE_SETOPTIONS, 0x420e, PTRACE_PEEKUSER};
    static char buffer[8192];
    struct user_regs_struct registers;
    for (int each = 0; each < 3; each++)
        ptrace(LOOKS[next(state) % COUNT(LOOKS)], pid, next(state) % 4096 & ~7, next(state) % 4 ? (uint64_t)buffer : WORDS[next(state) % COUNT(WORDS)]);
    ptrace(PTRACE_POKEDATA, pid, area + next(state) % 4096, next(state));
    if (with_registers && ptrace(PTRACE_GETREGS, pid, 0, &registers) == 0) {
        uint64_t *words = (uint64_t *)&registers;
        for (unsigned each = next(state) % 4; each; each--)
            words[next(state) % (sizeof registers / 8)] = next(state) % 4 ? WORDS[next(state) % COUNT(WORDS)] : next(state);
        ptrace(PTRACE_SETREGS, pid, 0, &registers);
        struct iovec state_of = {buffer, sizeof buffer};
        if (ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &state_of) == 0) {
            buffer[next(state) % 600] ^= 1 << next(state) % 8;
            ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &state_of);
        }
    }
    ptrace(RESUMES[next(state) % (COUNT(RESUMES) - !with_registers)], pid, 0, next(state) % 8 ? 0 : next(state) % 66);
}

static void trace(pid_t pid, uint64_t *state, int with_registers) {
    const long OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_TRACEVFORKDONE;
    ptrace(next(state) % 2 ? PTRACE_SEIZE : PTRACE_ATTACH, pid, 0, next(state) & OPTIONS);
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    for (int each = 0; each < OPERATIONS; each++) {
        int status;
        pid_t found = waitpid(-1, &status, WNOHANG | __WALL);
        meddle(found > 0 ? found : pid, state, with_registers);
        sched_yield();
        shared->at++, shared->answered++;
    }
}

static void round_of(void *argument) {
    uint64_t state = ((uint64_t *)argument)[0] * 0x9E3779B97F4A7C15 | 1;
    int with_registers = ((uint64_t *)argument)[1];
    pid_t tracee = fork();
    if (tracee == 0)
        live(), _exit(0);
    pid_t tracer = fork();
    if (tracer == 0)
        trace(tracee, &state, with_registers), _exit(0);
    struct timespec moment = {0, (long)(next(&state) % 4000000)};
    if (next(&state) % 2)
        nanosleep(&moment, 0), kill(tracer, SIGKILL);
    waitpid(tracer, 0, 0);
    if (next(&state) % 2)
        kill(tracee, SIGCONT);
    kill(tracee, SIGKILL);
    waitpid(tracee, 0, 0);
    shared->at++;
}

static void rounds(int with_registers) {
    for (uint64_t round = 0; round < ROUNDS; round++)
        attempt(round_of, (uint64_t[]){round, with_registers}, 20000), end_all();
    /* All of this ends by itself, or by SIGKILL. */
    shared->wrong += shared->hung != 0;
}

static void tracers(void) { rounds(0); }
static void registers(void) { rounds(1); }

/* No page of the stub is a debugger's to read or write. */
static void pages(void) {
    pid_t pid = fork();
    if (pid == 0) {
        for (int round = 0; round < 100; round++)
            syscall(SYS_getppid), write(nothing, area, 1);
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP), _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int memory = open(path, O_RDWR);
    for (uint64_t at = STUB - 8; at < STUB + 3 * PAGE; at += 8) {
        long word;
        int is_seen = syscall(SYS_ptrace, PTRACE_PEEKDATA, pid, at, &word) == 0 || pread(memory, &word, 8, (off_t)at) > 0;
        int is_set = ptrace(PTRACE_POKEDATA, pid, at, 0x0B0F0B0F0B0F0B0F) == 0 || pwrite(memory, &word, 8, (off_t)at) > 0;
        shared->wrong += is_seen || is_set, shared->answered++;
    }
    close(memory);
    ptrace(PTRACE_CONT, pid, 0, 0);
    waitpid(pid, &status, 0);
    shared->wrong += !WIFEXITED(status);
    /* Who may not be looked into may not be traced, without the capability for that. */
    prctl(PR_SET_DUMPABLE, 0);
    if ((pid = fork()) == 0)
        _exit(prctl(PR_CAPBSET_READ, 19) == 0 && ptrace(PTRACE_SEIZE, getppid(), 0, 0) == 0);
    waitpid(pid, &status, 0);
    shared->wrong += status != 0;
}

int main(int argc, char **argv) {
    static const struct attack ATTACKS[] = {{"tracers", tracers}, {"registers", registers}, {"pages", pages}};
    return argc < 2 ? 2 : run_attack(ATTACKS, COUNT(ATTACKS), argv[1]);
}
