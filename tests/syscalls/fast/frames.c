/* What a handler sees of a fast call: an instruction pointer of the program's own, with the call either not begun or over. */
#include "fast.h"
#include <ucontext.h>

extern char __executable_start, etext;
static volatile sig_atomic_t ticks, outside, wrong;

static void look(int signal, siginfo_t *info, void *context) {
    greg_t ip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    /* The vdso is not what this is about: nothing here asks for the time. */
    if (ip < (greg_t)&__executable_start || ip >= (greg_t)&etext) outside++;
    ticks++;
    (void)signal, (void)info;
}
int main(void) {
    int file = pattern(5, 4096), zero = open("/dev/zero", O_RDONLY);
    for (int i = 0; i < OFTEN; i++) round_of_calls(file, 5, zero);
    struct sigaction action = {.sa_sigaction = look, .sa_flags = SA_SIGINFO | SA_RESTART};
    MUST(sigaction(SIGALRM, &action, 0) == 0);
    struct itimerval often = {{0, 150}, {0, 150}}, never = {{0, 0}, {0, 0}};
    MUST(setitimer(ITIMER_REAL, &often, 0) == 0);
    for (int i = 0; ticks < 1500; i++) {
        round_of_calls(file, 5, zero);
        if (i % 64 < 32) idle();
    }
    MUST(setitimer(ITIMER_REAL, &never, 0) == 0);
    printf("outside %d\n", (int)outside);
    return 0;
}
