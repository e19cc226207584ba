#include "events.h"

static volatile int hits[4], ready;
static pthread_t threads[3];
static int ids[3];

static void on_signal(int signal)
{
    int tid = syscall(SYS_gettid);
    for (int i = 0; i < 3; i++)
        if (ids[i] == tid) {
            hits[i]++;
            return;
        }
    hits[3]++;
}

static void *sleeper(void *number)
{
    ids[(long)number] = syscall(SYS_gettid);
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    for (;;)
        pause();
    return NULL;
}

static void clean(void *what)
{
    printf("cleaned %s\n", (char *)what);
}

static void *reader(void *unused)
{
    int p[2];
    char buf[1];
    pipe(p);
    pthread_cleanup_push(clean, "reader");
    read(p[0], buf, 1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *computer(void *unused)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    for (;;) {}
    return NULL;
}

static void *waiter(void *set)
{
    int signal = 0;
    sigwait(set, &signal);
    return (void *)(long)signal;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    for (long i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, sleeper, (void *)i);
    while (ready < 3)
        usleep(1000);
    for (int i = 0; i < 5; i++) {
        pthread_kill(threads[i % 3], SIGUSR1);
        pause_ms(10);
    }
    pthread_kill(pthread_self(), SIGUSR1);
    printf("%d %d %d %d\n", hits[0], hits[1], hits[2], hits[3]);
    // For the process: who does not block it.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR1);
    pause_ms(50);
    printf("in all %d, here %d\n", hits[0] + hits[1] + hits[2], hits[3]);
    for (int i = 0; i < 3; i++) {
        void *result;
        pthread_cancel(threads[i]);
        pthread_join(threads[i], &result);
        printf("cancelled %d\n", result == PTHREAD_CANCELED);
    }
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, reader, NULL);
    pause_ms(30);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    printf("cancelled %d\n", result == PTHREAD_CANCELED);
    pthread_create(&thread, NULL, computer, NULL);
    pause_ms(30);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    printf("cancelled %d\n", result == PTHREAD_CANCELED);
    pthread_create(&thread, NULL, waiter, &set);
    pause_ms(30);
    kill(getpid(), SIGUSR1);
    pthread_join(thread, &result);
    printf("waited for %ld\n", (long)result);
    // Pending for a thread alone.
    pthread_kill(pthread_self(), SIGUSR1);
    sigset_t pending;
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGUSR1));
    siginfo_t info;
    SAY(sigwaitinfo(&set, &info));
    printf("code %d own %d\n", info.si_code, info.si_pid == getpid());
    // A stop and a continuation of all threads, seen by the parent.
    pid_t child = fork();
    if (child == 0) {
        pthread_create(&thread, NULL, computer, NULL);
        pause();
    }
    int status;
    pause_ms(50);
    kill(child, SIGSTOP);
    SAY(waitpid(child, &status, WUNTRACED) == child);
    printf("stopped %d by %d\n", WIFSTOPPED(status), WSTOPSIG(status));
    kill(child, SIGCONT);
    SAY(waitpid(child, &status, WCONTINUED) == child);
    printf("continued %d\n", WIFCONTINUED(status));
    kill(child, SIGTERM);
    SAY(waitpid(child, &status, 0) == child);
    printf("killed by %d\n", WTERMSIG(status));
    return 0;
}
