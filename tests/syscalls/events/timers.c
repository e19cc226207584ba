#include "events.h"

static volatile sig_atomic_t count, last_value, last_code, last_overrun, last_thread;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    count++;
    last_value = info->si_value.sival_int;
    last_code = info->si_code;
    last_overrun = info->si_overrun;
    last_thread = syscall(SYS_gettid);
}

static double used(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

// Computes until a timer of 20 ms CPU time has rung five times: no sooner than that time was used, however late a busy machine tells.
static const char *rings_with_use(void)
{
    count = 0;
    double begun = used();
    while (count < 5 && used() - begun < 10) {}
    return count >= 5 && used() - begun > 0.06 ? "as expected" : "WRONG";
}

static void wait_for(int wanted, int ms)
{
    for (int i = 0; i < ms / 5 && count < wanted; i++)
        usleep(5000);
}

static timer_t made;

static void *other(void *unused)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 5};
    event._sigev_un._tid = syscall(SYS_gettid);
    SAY(timer_create(CLOCK_MONOTONIC, &event, &made));
    SAY(timer_settime(made, 0, &(struct itimerspec){{0, 0}, {0, 20000000}}, NULL));
    count = 0;
    for (int i = 0; i < 400 && count < 1; i++)
        usleep(5000);
    printf("in that thread %d, value %d\n", last_thread == syscall(SYS_gettid), last_value);
    SAY(timer_delete(made));
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    int signals[] = {SIGALRM, SIGVTALRM, SIGPROF, SIGRTMIN, SIGRTMIN + 1};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &action, NULL);
    // alarm and ITIMER_REAL are one.
    SAY(alarm(10));
    SAY(alarm(0));
    SAY(alarm(0));
    struct itimerval old, often = {{0, 20000}, {0, 20000}};
    SAY(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {5, 0}}, NULL));
    SAY(getitimer(ITIMER_REAL, &old));
    printf("left %s\n", near(old.it_value.tv_sec + old.it_value.tv_usec / 1e6, 4, 5));
    SAY(alarm(0));
    SAY(setitimer(ITIMER_REAL, &often, &old));
    printf("old %ld\n", old.it_value.tv_sec);
    wait_for(5, 3000);
    printf("rang %s, code %d\n", near(count, 5, 30), last_code);
    SAY(setitimer(ITIMER_REAL, &(struct itimerval){0}, &old));
    printf("interval %ld\n", (long)old.it_interval.tv_usec);
    int before = count;
    usleep(60000);
    printf("no more %d\n", count - before);
    SAY(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 1000000}}, NULL));
    SAY(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {-1, 0}}, NULL));
    SAY(setitimer(3, &often, NULL));
    SAY(getitimer(3, &old));
    SAY(setitimer(ITIMER_REAL, bad, NULL));
    SAY(getitimer(ITIMER_REAL, bad));
    // CPU time.
    count = 0;
    SAY(setitimer(ITIMER_VIRTUAL, &often, NULL));
    usleep(100000);
    printf("asleep %s\n", near(count, 0, 1));
    SAY(getitimer(ITIMER_VIRTUAL, &old));
    SAY(setitimer(ITIMER_VIRTUAL, &(struct itimerval){0}, NULL));
    SAY(setitimer(ITIMER_PROF, &often, NULL));
    printf("computing %s\n", rings_with_use());
    SAY(setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL));
    // A fork has no timers; an exec'd program keeps interval timers (not seen here).
    SAY(alarm(100));
    pid_t child = fork();
    if (child == 0)
        exit(alarm(0));
    int status;
    waitpid(child, &status, 0);
    printf("in the child %d\n", status);
    alarm(0);

    // POSIX timers.
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 4711};
    struct itimerspec spec = {{0, 0}, {0, 30000000}}, was;
    SAY(timer_create(CLOCK_MONOTONIC, &event, &timer));
    count = 0;
    SAY(timer_gettime(timer, &was));
    printf("unarmed %ld %ld\n", was.it_value.tv_sec, was.it_value.tv_nsec);
    SAY(timer_settime(timer, 0, &spec, NULL));
    wait_for(1, 3000);
    printf("rang %d value %d code %d overrun %d\n", count, last_value, last_code, last_overrun);
    SAY(timer_gettime(timer, &was));
    printf("after %ld %ld\n", was.it_value.tv_sec, was.it_value.tv_nsec);
    // Absolute, in the past.
    SAY(timer_settime(timer, TIMER_ABSTIME, &(struct itimerspec){{0, 0}, {1, 0}}, NULL));
    wait_for(2, 3000);
    printf("rang %d\n", count);
    // Overruns while blocked.
    sigset_t block, none;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &block, NULL);
    SAY(timer_settime(timer, 0, &(struct itimerspec){{0, 10000000}, {0, 10000000}}, NULL));
    pause_ms(105);
    sigset_t pending;
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGRTMIN));
    siginfo_t info;
    SAY(sigwaitinfo(&block, &info) - SIGRTMIN);
    printf("overruns %s, same %d, value %d\n", near(info.si_overrun, 8, 60), info.si_overrun == timer_getoverrun(timer), info.si_value.sival_int);
    SAY(timer_settime(timer, 0, &(struct itimerspec){0}, &was));
    printf("interval %ld\n", was.it_interval.tv_nsec);
    SAY(sigtimedwait(&block, &info, &(struct timespec){0, 30000000}));
    // A pending signal of a deleted timer is void.
    SAY(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1}}, NULL));
    pause_ms(20);
    SAY(timer_delete(timer));
    SAY(sigtimedwait(&block, &info, &(struct timespec){0, 0}));
    SAY(timer_delete(timer));
    SAY(timer_gettime(timer, &was));
    SAY(timer_getoverrun((timer_t)4000));
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    // No event: SIGALRM, with the timer's own number as its value.
    count = 0;
    int number = -1;
    SAY(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &number));
    SAY(syscall(SYS_timer_settime, number, 0, &spec, NULL));
    wait_for(1, 3000);
    printf("value is the number %d\n", last_value == number);
    SAY(syscall(SYS_timer_delete, number));
    event.sigev_notify = SIGEV_NONE;
    SAY(timer_create(CLOCK_BOOTTIME, &event, &timer));
    SAY(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {10, 0}}, NULL));
    SAY(timer_gettime(timer, &was));
    printf("left %s\n", near(was.it_value.tv_sec + was.it_value.tv_nsec / 1e9, 9, 10));
    SAY(timer_delete(timer));
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = 65;
    SAY(timer_create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_signo = SIGRTMIN;
    SAY(timer_create(77, &event, &timer));
    SAY(timer_create(CLOCK_MONOTONIC_RAW, &event, &timer));
    // CPU time of the process and of the thread.
    clockid_t clocks[] = {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (int i = 0; i < 2; i++) {
        SAY(timer_create(clocks[i], &event, &timer));
        SAY(timer_settime(timer, 0, &(struct itimerspec){{0, 20000000}, {0, 20000000}}, NULL));
        printf("computing %s\n", rings_with_use());
        SAY(timer_delete(timer));
    }
    pthread_t thread;
    pthread_create(&thread, NULL, other, NULL);
    pthread_join(thread, NULL);
    struct timex clock_state = {0};
    printf("adjtimex %d\n", adjtimex(&clock_state) >= 0);
    return 0;
}
