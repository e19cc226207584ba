/* numbers ATTACK: every call number, by every entry into the host's kernel, from our own code and from the stub's instructions. */
#include "attack.h"

static pid_t self;

/* A child that a call made has no part in the attack. */
static void leave_if_copy(void) {
    if (syscall(SYS_getpid) != self)
        syscall(SYS_exit_group, 0);
}

static long int80(long nr) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

/* Arguments as no program has them. */
static void fill(int pattern, long *args) {
    long sets[][6] = {
        {0, 0, 0, 0, 0, 0},
        {-1, -1, -1, -1, -1, -1},
        {3, (long)area, 4096, (long)area + 8192, (long)area, 16},
        {(long)0xFFFF800000000000, (long)0xFFFF800000000000, (long)0xFFFF800000000000, 8, 8, 8},
        {3, (long)edge - 3, 1L << 62, (long)edge - 1, (long)edge - 7, (long)edge - 9},
        {3, STUB, 64, STUB + PAGE, STUB + 2 * PAGE, CHANNEL},
        {(long)area, 0x0000800000000000, 0x7FFFFFFFFFFFFFFF, -4096, 1, 0x7FFFFFFFFFF8},
        {-100, (long)edge - 100, (long)read_only, (long)read_only, (long)read_only, (long)read_only},
        {(long)edge - 20, (long)edge - 20, 1 << 30, 0x80000000, 1L << 32, -(1L << 32)},
        {1, (long)area, 1025, 1 << 30, (long)area, (long)read_only},
    };
    memcpy(args, sets[pattern], sizeof sets[pattern]);
}

static void open_some(void) {
    int pair[2];
    open("/dev/zero", O_RDWR), open("/proc/self/status", O_RDONLY), open("/", O_RDONLY | O_DIRECTORY);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
}

static void call_rest(void *argument) {
    int pattern = *(int *)argument;
    self = getpid();
    open_some();
    while (shared->at <= LAST_CALL) {
        long args[6], nr = shared->at++;
        fill(pattern, args);
        syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
        leave_if_copy();
        shared->answered++;
    }
}

static void all_numbers(void) {
    for (int pattern = 0; pattern < 10; pattern++) {
        shared->at = 0;
        while (shared->at <= LAST_CALL)
            attempt(call_rest, &pattern, 60);
    }
}

static void other_entries(void *argument) {
    (void)argument;
    self = getpid();
    while (shared->at <= LAST_CALL) {
        long nr = shared->at++;
        shared->wrong += int80(nr) != -ENOSYS;
        leave_if_copy();
        shared->wrong += syscall(0x40000000 | nr, 0, 0, 0, 0, 0, 0) != -1 || errno != ENOSYS;
        leave_if_copy();
        shared->answered += 2;
    }
}

static void entries(void) {
    while (shared->at <= LAST_CALL)
        attempt(other_entries, 0, 1000);
}

/* The stub's own instructions: jumped to with any number, and left by a fault, a return or an alarm. */
static sigjmp_buf back;
static uint64_t regs[16], target;
static uint64_t *private_stack;

static void on_fault(int signal) {
    (void)signal;
    siglongjmp(back, 1);
}

static void landed(void) {
    siglongjmp(back, 2);
}

static __attribute__((noinline)) void jump(void) {
    __asm__ volatile("lea %0, %%rcx\n"
                     "mov 8(%%rcx), %%rdi\n mov 16(%%rcx), %%rsi\n mov 24(%%rcx), %%rdx\n mov 32(%%rcx), %%r10\n mov 40(%%rcx), %%r8\n mov 48(%%rcx), %%r9\n"
                     "mov 56(%%rcx), %%rbx\n mov 64(%%rcx), %%rbp\n mov 72(%%rcx), %%r12\n mov 80(%%rcx), %%r13\n mov 88(%%rcx), %%r15\n mov (%%rcx), %%rax\n"
                     "mov %1, %%r11\n mov %2, %%rsp\n jmp *%%r11"
                     :
                     : "m"(regs), "m"(target), "m"(private_stack)
                     : "memory", "rcx", "r11");
}

static uint64_t sites[64];
static size_t site_count;

static void find_sites(void) {
    const unsigned char *code = (void *)STUB;
    for (size_t at = 0; at + 1 < PAGE && site_count < COUNT(sites); at++)
        if (code[at] == 0x0F && code[at + 1] == 0x05)
            sites[site_count++] = STUB + at;
}

static void jump_to_rest(void *argument) {
    const long *range = argument;
    self = getpid();
    open_some();
    stack_t alternate = {.ss_sp = map(1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE), .ss_size = 1 << 16};
    sigaltstack(&alternate, 0);
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK | SA_NODEFER};
    int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGALRM, SIGSYS};
    private_stack = (uint64_t *)((char *)map(1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE) + (1 << 15));
    while (shared->at < range[1]) {
        long nr = range[0] + shared->at++;
        if (nr == SYS_rt_sigsuspend || nr == SYS_pause)
            continue;
        for (size_t each = 0; each < COUNT(signals); each++)
            sigaction(signals[each], &action, 0);
        int pattern = (int)(nr % 10);
        long args[6];
        fill(pattern, args);
        for (int each = 0; each < 64; each++)
            private_stack[each] = (uint64_t)landed;
        regs[0] = (uint64_t)nr;
        memcpy(&regs[1], args, sizeof args);
        regs[7] = (uint64_t)area, regs[8] = (uint64_t)area + 256, regs[9] = 2, regs[10] = (uint64_t)area + 1024, regs[11] = (uint64_t)area;
        if (sigsetjmp(back, 1) == 0) {
            struct itimerval soon = {{0, 1000}, {0, 1000}};
            setitimer(ITIMER_REAL, &soon, 0);
            jump();
        }
        leave_if_copy();
        shared->answered++;
    }
}

static void stub_sites(void) {
    long ranges[][2] = {{0, LAST_CALL + 1}, {0x1FFE, 10}, {0x40000000, 12}};
    find_sites();
    if (site_count < 5)
        shared->wrong++;
    for (size_t site = 0; site < site_count; site++) {
        target = sites[site];
        for (size_t range = 0; range < COUNT(ranges); range++) {
            shared->at = 0;
            while (shared->at < ranges[range][1])
                attempt(jump_to_rest, ranges[range], 60);
        }
    }
}

/* Addresses that Linux once mapped for three calls. */
static void call_vsyscall(void *argument) {
    long (*entry)(void *, void *, void *) = *(void **)argument;
    shared->values[0] = entry(area, area + 64, area + 128);
    shared->answered++;
}

static void vsyscall(void) {
    for (uint64_t entry = 0xFFFFFFFFFF600000; entry < 0xFFFFFFFFFF601000 && entry; entry += 0x400)
        attempt(call_vsyscall, &entry, 1000);
    uint64_t inside = 0xFFFFFFFFFF600009;
    attempt(call_vsyscall, &inside, 1000);
}

/* 32-bit code: a far return to the other code segment, calls by all three instructions there, and back. */
static void put(unsigned char **at, const void *bytes, size_t len) {
    memcpy(*at, bytes, len);
    *at += len;
}

static unsigned char *low;

static void enter_32(const unsigned char *code) {
    /* mov rsp, [low + 8]; pop what was pushed; ret */
    unsigned char leave[] = {0x48, 0x8B, 0x24, 0x25, 0, 0, 0, 0, 0x41, 0x5F, 0x41, 0x5E, 0x41, 0x5D, 0x41, 0x5C, 0x5D, 0x5B, 0xC3};
    uint32_t save = (uint32_t)(uintptr_t)low + 8;
    memcpy(leave + 4, &save, 4);
    memcpy(low + 64, leave, sizeof leave);
    __asm__ volatile("lea 1f(%%rip), %%rax\n push %%rax\n push %%rbx\n push %%rbp\n push %%r12\n push %%r13\n push %%r14\n push %%r15\n"
                     "mov %%rsp, (%1)\n mov $0x2b, %%eax\n mov %%eax, %%ds\n mov %%eax, %%es\n lea 4096(%2), %%rsp\n"
                     "push $0x23\n push %0\n lretq\n 1:"
                     :
                     : "r"(code), "r"((uint64_t)save), "r"(low + 4096)
                     : "memory", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
}

static void put_return(unsigned char **at) {
    uint32_t to = (uint32_t)(uintptr_t)low + 64;
    put(at, "\xEA", 1), put(at, &to, 4), put(at, "\x33\0", 2); /* ljmp 0x33:to */
}

static void calls_in_32(void *argument) {
    (void)argument;
    unsigned char *at = low + 2 * PAGE;
    uint32_t results = (uint32_t)(uintptr_t)low + 16 * PAGE;
    self = getpid();
    for (uint32_t nr = 0; nr <= LAST_CALL; nr++) {
        uint32_t to = results + 4 * nr;
        put(&at, "\xB8", 1), put(&at, &nr, 4);             /* mov eax, nr */
        put(&at, "\x31\xDB\x31\xC9\x31\xD2\xCD\x80", 8);   /* no arguments; int 0x80 */
        put(&at, "\xA3", 1), put(&at, &to, 4);             /* mov [to], eax */
    }
    put_return(&at);
    enter_32(low + 2 * PAGE);
    leave_if_copy();
    for (int nr = 0; nr <= LAST_CALL; nr++) {
        int result;
        memcpy(&result, low + 16 * PAGE + 4 * nr, 4);
        shared->wrong += result != -ENOSYS;
        shared->answered++;
    }
}

static void instruction_in_32(void *argument) {
    unsigned char *at = low + 2 * PAGE;
    self = getpid();
    put(&at, "\xB8\x14\0\0\0\x89\xE5", 7); /* mov eax, 20; mov ebp, esp */
    put(&at, argument, 2);
    put_return(&at);
    enter_32(low + 2 * PAGE);
    leave_if_copy();
    shared->answered++;
}

static volatile long ticks;

static void on_tick(int signal) {
    (void)signal;
    ticks++;
    getppid();
}

static void signals_in_32(void *argument) {
    (void)argument;
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, 0);
    struct itimerval often = {{0, 300}, {0, 300}};
    setitimer(ITIMER_REAL, &often, 0);
    unsigned char *at = low + 2 * PAGE;
    put(&at, "\xB9\0\0\0\x02\x49\x75\xFD", 8); /* mov ecx, 0x2000000; dec ecx; jnz */
    put_return(&at);
    enter_32(low + 2 * PAGE);
    shared->answered += ticks > 0;
}

static void mode_32(void) {
    low = mmap(0, 32 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    attempt(calls_in_32, 0, 2000);
    attempt(instruction_in_32, "\x0F\x34", 1000); /* sysenter */
    attempt(instruction_in_32, "\x0F\x05", 1000); /* syscall */
    attempt(signals_in_32, 0, 3000);
}

int main(int argc, char **argv) {
    static const struct attack ATTACKS[] = {{"numbers", all_numbers}, {"entries", entries}, {"stub", stub_sites}, {"vsyscall", vsyscall}, {"mode32", mode_32}};
    return argc < 2 ? 2 : run_attack(ATTACKS, COUNT(ATTACKS), argv[1]);
}
