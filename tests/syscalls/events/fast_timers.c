// Timers faster than their handlers can run: the program goes on all the same, and is rung as long as they are set.
#include "events.h"

static volatile sig_atomic_t rings;

static void on_signal(int signal)
{
    (void)signal;
    rings++;
}

// Some 10 ms of work, if nothing disturbs it.
static unsigned work(void)
{
    unsigned sum = 1;
    for (int i = 0; i < 10000000; i++)
        sum = sum * 1664525 + 1013904223;
    return sum;
}

// Both come to an end.
static unsigned work_and_ring(void)
{
    unsigned sum;
    do
        sum = work();
    while (rings < 20);
    return sum;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGRTMIN, &action, NULL);
    const int intervals_us[] = {20, 50, 200};
    for (int i = 0; i < 3; i++) {
        struct itimerval often = {{0, intervals_us[i]}, {0, intervals_us[i]}};
        rings = 0;
        setitimer(ITIMER_REAL, &often, NULL);
        unsigned sum = work_and_ring();
        setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
        printf("%d us: %u\n", intervals_us[i], sum);
    }
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    struct itimerspec often = {{0, 20000}, {0, 20000}};
    rings = 0;
    timer_settime(timer, 0, &often, NULL);
    unsigned sum = work_and_ring();
    timer_delete(timer);
    printf("by timer_settime: %u\n", sum);
    // Another signal is not held back by the rest.
    struct itimerval fast = {{0, 20}, {0, 20}};
    setitimer(ITIMER_REAL, &fast, NULL);
    for (int i = 0; i < 200; i++)
        raise(SIGRTMIN);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    // A call that waits is interrupted by what became due in the rest.
    setitimer(ITIMER_REAL, &fast, NULL);
    for (int i = 0; i < 200; i++)
        printf("%s", pause() == -1 && errno == EINTR ? "" : "WRONG\n");
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    return 0;
}
