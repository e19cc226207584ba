#include "events.h"

static void on_signal(int signal)
{
    printf("signal %d\n", signal);
}

static void arm(int ms)
{
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {ms / 1000, ms % 1000 * 1000}}, NULL);
}

int main(void)
{
    struct timespec left = {77, 77}, two = {2, 0}, short_time = {0, 30000000};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    double start = now();
    SAY(nanosleep(&short_time, &left));
    printf("slept %s, left untouched %ld\n", near(now() - start, 0.03, 2), left.tv_sec);
    arm(50);
    SAY(nanosleep(&two, &left));
    printf("left %s\n", near(left.tv_sec + left.tv_nsec / 1e9, 1, 1.951));
    arm(50);
    SAY(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &two, &left));
    printf("left %s\n", near(left.tv_sec + left.tv_nsec / 1e9, 1, 1.951));
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += 2;
    left.tv_sec = 99;
    arm(50);
    SAY(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &at, &left));
    printf("absolute leaves it: %ld\n", left.tv_sec);
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_nsec += 20000000;
    if (at.tv_nsec > 999999999) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    SAY(syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &at, NULL));
    SAY(syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, &short_time, NULL));
    SAY(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &short_time, NULL));
    SAY(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC_RAW, 0, &short_time, NULL));
    SAY(syscall(SYS_clock_nanosleep, 77, 0, &short_time, NULL));
    SAY(syscall(SYS_nanosleep, &(struct timespec){0, 1000000000}, NULL));
    SAY(syscall(SYS_nanosleep, &(struct timespec){-1, 0}, NULL));
    SAY(syscall(SYS_nanosleep, bad, NULL));
    SAY(syscall(SYS_nanosleep, &(struct timespec){0, 0}, bad));
    // A stop makes no sleep longer.
    pid_t child = fork();
    if (child == 0) {
        start = now();
        struct timespec half = {0, 500000000};
        int result = nanosleep(&half, NULL);
        double slept = now() - start;
        int outcome = result == 0 && slept > 0.49 && slept < 0.75 ? 0 : 1;
        if (outcome)
            printf("child slept %f\n", slept);
        start = now();
        result = poll(NULL, 0, 500);
        slept = now() - start;
        if (result != 0 || slept < 0.49 || slept > 0.75) {
            printf("child polled %d %f\n", result, slept);
            outcome |= 2;
        }
        start = now();
        struct epoll_event got;
        errno = 0;
        result = epoll_wait(epoll_create1(0), &got, 1, 3000);
        slept = now() - start;
        printf("epoll_wait after a stop %d %d\n", result, errno);
        exit(outcome);
    }
    for (int i = 0; i < 3; i++) {
        pause_ms(i ? 300 : 150);
        kill(child, SIGSTOP);
        pause_ms(200);
        kill(child, SIGCONT);
    }
    int status;
    waitpid(child, &status, 0);
    printf("status %x\n", status);
    // CPU time.
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    clockid_t own;
    SAY(clock_getcpuclockid(0, &own));
    SAY(clock_gettime(own, &used));
    pthread_getcpuclockid(pthread_self(), &own);
    SAY(clock_gettime(own, &used));
    SAY(clock_getres(own, &used));
    printf("resolution %ld %ld\n", used.tv_sec, used.tv_nsec);
    SAY(clock_getcpuclockid(getpid(), &own));
    SAY(clock_gettime(own, &used));
    SAY(clock_gettime(-99999 * 8 | 2, &used));
    for (int clock = 0; clock < 14; clock++) {
        errno = 0;
        int result = clock_getres(clock, &used);
        printf("clock_getres %d: %d %d %ld\n", clock, result, errno, result ? 0 : used.tv_nsec);
    }
    return 0;
}
