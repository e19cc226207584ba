/* Two signals at once, thousands of times: each handler's end asks where its frame lies while the thread may still be on its way to sleep. */
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t alarms, others;
static void on_alarm(int signal) { (void)signal; alarms++; }
static void on_other(int signal) { (void)signal; others++; }

int main(void) {
    struct itimerval soon = {.it_value = {.tv_usec = 1}};
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, 0);
    action.sa_handler = on_other;
    sigaction(SIGUSR1, &action, 0);
    for (int i = 0; i < 5000; i++) {
        setitimer(ITIMER_REAL, &soon, 0);
        kill(getpid(), SIGUSR1);
        while (others <= i || alarms <= i)
            usleep(10);
    }
    printf("%d %d\n", (int)alarms, (int)others);
    return 0;
}
