/* Blocking calls at fast sites: interrupted, restarted, ended by data. */
#include "fast.h"

static volatile sig_atomic_t ticks;
static void count(int signal) { ticks++; (void)signal; }
static int ends[2];

static void *feed(void *argument) {
    for (int i = 0; i < 40; i++) {
        int before = ticks;
        while (ticks < before + 2) usleep(200);
        MUST(write(ends[1], "x", 1) == 1);
    }
    return argument;
}
int main(void) {
    int zero = open("/dev/zero", O_RDONLY), file = pattern(4, 4096);
    char byte;
    for (int i = 0; i < OFTEN; i++) round_of_calls(file, 4, zero);
    MUST(pipe(ends) == 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    for (int restarting = 0; restarting < 2; restarting++) {
        struct sigaction action = {.sa_handler = count, .sa_flags = restarting ? SA_RESTART : 0};
        MUST(sigaction(SIGALRM, &action, 0) == 0);
        pthread_t thread;
        pthread_sigmask(SIG_BLOCK, &set, 0);
        MUST(pthread_create(&thread, 0, feed, 0) == 0);
        pthread_sigmask(SIG_UNBLOCK, &set, 0);
        struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};
        MUST(setitimer(ITIMER_REAL, &often, 0) == 0);
        int got = 0, interrupted = 0;
        while (got < 40) {
            ssize_t count = read(ends[0], &byte, 1);
            if (count == 1) got++;
            else { MUST(count == -1 && errno == EINTR); interrupted++; }
        }
        MUST(setitimer(ITIMER_REAL, &never, 0) == 0);
        pthread_join(thread, 0);
        printf("restarting %d: interrupted %s\n", restarting, interrupted ? "yes" : "no");
        fflush(stdout);
    }
    MUST(close(ends[0]) == 0);
    struct sigaction action = {.sa_handler = count};
    MUST(sigaction(SIGPIPE, &action, 0) == 0);
    for (int i = 0; i < 100; i++) {
        ticks = 0;
        MUST(write(ends[1], "x", 1) == -1 && errno == EPIPE);
        /* It has come before the call returned. */
        MUST(ticks == 1);
    }
    puts("pipe ok");
    return 0;
}
