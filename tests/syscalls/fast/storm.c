/* Signals at every instruction of a fast call: handlers that return, that call, and that jump away. */
#include "fast.h"

static volatile sig_atomic_t ticks;
static sigjmp_buf back;
static volatile sig_atomic_t may_jump;
static int file, zero;

static void count(int signal) { ticks++; (void)signal; }
static void calls(int signal, siginfo_t *info, void *context) {
    char byte = 1;
    int kept = errno;
    struct stat st;
    if (pread(zero, &byte, 1, 0) != 1 || byte || fstat(file, &st) || st.st_size != 4096) _exit(9);
    errno = kept;
    ticks++;
    (void)signal, (void)info, (void)context;
}
static void jumps(int signal) {
    ticks++;
    if (may_jump) siglongjmp(back, 1);
    (void)signal;
}
static void storm(const char *name, void (*handler)(int), int flags, int wanted) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    MUST(sigaction(SIGALRM, &action, 0) == 0);
    struct itimerval often = {{0, 150}, {0, 150}}, never = {{0, 0}, {0, 0}};
    ticks = 0;
    MUST(setitimer(ITIMER_REAL, &often, 0) == 0);
    while (ticks < wanted) {
        if (sigsetjmp(back, 1) == 0) {
            may_jump = 1;
            for (int i = 0; i < 20; i++) round_of_calls(file, 3, zero);
        }
        may_jump = 0;
    }
    MUST(setitimer(ITIMER_REAL, &never, 0) == 0);
    printf("%s ok\n", name);
    fflush(stdout);
}
int main(void) {
    static char stack[1 << 16];
    file = pattern(3, 4096);
    zero = open("/dev/zero", O_RDONLY);
    MUST(zero >= 0);
    for (int i = 0; i < OFTEN; i++) round_of_calls(file, 3, zero);
    storm("return", count, 0, 600);
    storm("return, restarting", count, SA_RESTART, 600);
    storm("jump", jumps, 0, 600);
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    MUST(sigaltstack(&alternate, 0) == 0);
    storm("call", (void (*)(int))calls, SA_SIGINFO | SA_ONSTACK, 600);
    return 0;
}
