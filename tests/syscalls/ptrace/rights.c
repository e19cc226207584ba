// Who may trace whom, and what a tracer's hand reaches: registers that no program may have, and pages that are not to be written.
// For a root with the capabilities that docker gives: CAP_SYS_PTRACE is none of them.
#include "tracing.h"
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { USER = 1000, OTHER = 1001, PAGE = 4096 };

#define DOCKER 0xA80425FBu

static void reduce_to_docker(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct own[2] = {{DOCKER, DOCKER, 0}, {0, 0, 0}};
    for (int each = 0; each < 41; each++)
        if (each > 31 || !(DOCKER >> each & 1)) prctl(PR_CAPBSET_DROP, each, 0, 0, 0);
    CHECK(syscall(SYS_capset, &header, own) == 0);
}

static void become(uid_t uid, gid_t gid) {
    CHECK(setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0);
}

// Whether that succeeds, told in words.
static void tell(const char *what, long result) {
    printf("%s: %s\n", what, result == 0 ? "yes" : strerrorname_np(errno));
    fflush(stdout);
}

static void plain(void) { become(USER, USER), prctl(PR_SET_DUMPABLE, 1); }
static void undumpable(void) { become(USER, USER), prctl(PR_SET_DUMPABLE, 0); }
static void of_another_group(void) { become(USER, OTHER), prctl(PR_SET_DUMPABLE, 1); }
static void of_another_user(void) { become(OTHER, USER), prctl(PR_SET_DUMPABLE, 1); }
static void with_one_saved(void) {
    CHECK(setresgid(USER, USER, USER) == 0 && setresuid(USER, USER, OTHER) == 0);
    prctl(PR_SET_DUMPABLE, 1);
}

static void stronger(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct one[2] = {{0, 1 << CAP_CHOWN, 0}, {0, 0, 0}};
    prctl(PR_SET_KEEPCAPS, 1);
    become(USER, USER);
    CHECK(syscall(SYS_capset, &header, one) == 0);
    prctl(PR_SET_DUMPABLE, 1);
}

// A user without capabilities, of a child that root made what it is.
static void attaching(void) {
    static const struct { const char *name; void (*prepare)(void); } CASES[] = {{"alike", plain}, {"undumpable", undumpable}, {"another group", of_another_group},
        {"another user", of_another_user}, {"another saved user", with_one_saved}, {"more capabilities", stronger}};
    for (unsigned each = 0; each < sizeof CASES / sizeof *CASES; each++) {
        int made[2], over[2], status;
        char byte;
        CHECK(pipe(made) == 0 && pipe(over) == 0);
        pid_t tracer = fork();
        if (tracer == 0) {
            pid_t pid = fork();
            if (pid == 0) {
                close(over[1]), close(made[0]);
                CASES[each].prepare();
                CHECK(write(made[1], "", 1) == 1 && read(over[0], &byte, 1) == 0);
                _exit(0);
            }
            close(made[1]);
            CHECK(read(made[0], &byte, 1) == 1);
            plain();
            struct iovec here = {&byte, 1}, there = {&made, 1};
            tell(CASES[each].name, process_vm_readv(pid, &here, 1, &there, 1, 0) < 0);
            tell("to be traced", ptrace(PTRACE_SEIZE, pid, 0, 0));
            _exit(0);
        }
        CHECK(waitpid(tracer, &status, 0) == tracer && status == 0);
        for (int end = 0; end < 2; end++) close(made[end]), close(over[end]);
    }
}

// Of its own child, which makes itself traced with more rights than its parent has; Linux: cap_ptrace_traceme().
static void asking_to_be_traced(void) {
    int ends[2];
    char byte;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(read(ends[0], &byte, 1) == 1);
        tell("root by a user", ptrace(PTRACE_TRACEME, 0, 0, 0));
        become(USER, USER);
        tell("a user by a user", ptrace(PTRACE_TRACEME, 0, 0, 0));
        _exit(0);
    }
    become(USER, USER);
    write(ends[1], "", 1);
    next(pid, "it");
}

static void body(void) { getppid(); }

static void registers(void) {
    pid_t pid = traced(body);
    struct user_regs_struct own, set;
    CHECK(ptrace(PTRACE_GETREGS, pid, 0, &own) == 0);
    set = own, set.eflags |= 0x3200, set.eflags ^= 0x40;
    CHECK(ptrace(PTRACE_SETREGS, pid, 0, &set) == 0 && ptrace(PTRACE_GETREGS, pid, 0, &set) == 0);
    printf("flags %llx\n", own.eflags ^ set.eflags);
    static const struct { size_t at; uint64_t value; } CASES[] = {{offsetof(struct user_regs_struct, cs), 0x10}, {offsetof(struct user_regs_struct, ss), 0x18},
        {offsetof(struct user_regs_struct, cs), 0}, {offsetof(struct user_regs_struct, fs_base), 0xFFFF800000000000}, {offsetof(struct user_regs_struct, gs_base), 0x7FFFFFFFF000},
        {offsetof(struct user_regs_struct, fs), 0x30}, {3, 0}, {sizeof(struct user), 0}};
    for (unsigned each = 0; each < sizeof CASES / sizeof *CASES; each++)
        tell("register", ptrace(PTRACE_POKEUSER, pid, CASES[each].at, CASES[each].value));
    // An address that none is.
    set = own, set.rip = 0x800000000000;
    CHECK(ptrace(PTRACE_SETREGS, pid, 0, &set) == 0 && ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    int status = next(pid, "no address");
    if (WIFSTOPPED(status)) {
        CHECK(ptrace(PTRACE_CONT, pid, 0, WSTOPSIG(status)) == 0);
        next(pid, "and then");
    }
}

// Code is the same by both ways to read it, also where calls were made often.
static void code(void) {
    for (int calls = 0; calls < 100; calls++) getppid();
    pid_t pid = traced(body);
    uint64_t words[4] = {0};
    struct iovec here = {words, sizeof words}, there = {getppid, sizeof words};
    CHECK(process_vm_readv(pid, &here, 1, &there, 1, 0) == sizeof words);
    int same = 0;
    for (int each = 0; each < 4; each++)
        same += (uint64_t)ptrace(PTRACE_PEEKTEXT, pid, (uint64_t *)getppid + each, 0) == words[each];
    printf("words alike: %d, makes a call: %d\n", same, memmem(words, sizeof words, "\x0f\x05", 2) != 0);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    next(pid, "it");
}

// Breakpoints are written to what no program may write; a file never changes by that.
static void pages(void) {
    char name[] = "/dev/shm/pagesXXXXXX";
    int file = mkstemp(name);
    unlink(name);
    char filled[PAGE], now[PAGE];
    memset(filled, 'a', PAGE);
    CHECK(file >= 0 && write(file, filled, PAGE) == PAGE);
    static const struct { const char *name; int protection, flags; } CASES[] = {{"private", PROT_READ, MAP_PRIVATE}, {"private, executable", PROT_READ | PROT_EXEC, MAP_PRIVATE},
        {"private, none", PROT_NONE, MAP_PRIVATE}, {"private, writable", PROT_READ | PROT_WRITE, MAP_PRIVATE}, {"shared", PROT_READ, MAP_SHARED},
        {"anonymous", PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS}};
    void *mapped[6];
    for (int each = 0; each < 6; each++)
        CHECK((mapped[each] = mmap(0, PAGE, CASES[each].protection, CASES[each].flags, CASES[each].flags & MAP_ANONYMOUS ? -1 : file, 0)) != MAP_FAILED);
    pid_t pid = traced(body);
    for (int each = 0; each < 6; each++) {
        tell(CASES[each].name, ptrace(PTRACE_POKEDATA, pid, mapped[each], 0x6262626262626262));
        long word = 0;
        tell("and read", syscall(SYS_ptrace, PTRACE_PEEKDATA, pid, mapped[each], &word));
        printf("%lx, here still %d\n", word, CASES[each].protection == PROT_NONE || *(char *)mapped[each] != 'b');
    }
    CHECK(pread(file, now, PAGE, 0) == PAGE);
    printf("file unchanged: %d\n", memcmp(now, filled, PAGE) == 0);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    next(pid, "it");
}

// A tracer that ends, in any of its stops, leaves what it traced to go on.
static void abandoned(void) {
    fflush(stdout);
    for (int round = 0; round < 8; round++) {
        pid_t tracee = fork();
        if (tracee == 0) {
            for (;;) getppid();
        }
        pid_t tracer = fork();
        if (tracer == 0) {
            CHECK(ptrace(PTRACE_SEIZE, tracee, 0, round & 1 ? PTRACE_O_EXITKILL : 0) == 0 && ptrace(PTRACE_INTERRUPT, tracee, 0, 0) == 0);
            next(tracee, 0);
            for (int calls = round >> 1; calls; calls--) {
                CHECK(ptrace(PTRACE_SYSCALL, tracee, 0, 0) == 0);
                next(tracee, 0);
            }
            raise(SIGKILL);
        }
        next(tracer, "tracer");
        if (!(round & 1)) {
            // It runs, and can be traced again.
            CHECK(ptrace(PTRACE_SEIZE, tracee, 0, 0) == 0 && ptrace(PTRACE_INTERRUPT, tracee, 0, 0) == 0);
            next(tracee, "again");
            kill(tracee, SIGKILL);
        }
        next(tracee, "tracee");
    }
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    reduce_to_docker();
    attaching();
    registers();
    code();
    pages();
    abandoned();
    asking_to_be_traced();
    return 0;
}
