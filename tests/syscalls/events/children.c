#include "events.h"

static volatile int count, last_code, last_status, last_pid;

static void on_child(int signal, siginfo_t *info, void *context)
{
    count++;
    last_code = info->si_code;
    last_status = info->si_status;
    last_pid = info->si_pid;
}

// The signal may come after the wait has returned.
static void until(int wanted)
{
    for (int i = 0; i < 1000 && count < wanted; i++)
        pause_ms(1);
}

static pid_t ends(int code)
{
    pid_t child = fork();
    if (child == 0)
        _exit(code);
    return child;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    int status;
    pid_t child = ends(5);
    SAY(waitpid(child, &status, 0) == child);
    until(1);
    printf("signals %d code %d status %d pid %d\n", count, last_code, last_status, last_pid == child);
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    until(2);
    printf("code %d status %d\n", last_code, last_status);
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    until(3);
    printf("code %d status %d\n", last_code, last_status);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    until(4);
    printf("code %d status %d\n", last_code, last_status);
    puts("-- SA_NOCLDWAIT: the signal comes, the zombie does not");
    action.sa_flags |= SA_NOCLDWAIT;
    sigaction(SIGCHLD, &action, NULL);
    count = 0;
    child = ends(1);
    SAY(waitpid(child, &status, 0));
    until(1);
    printf("signals %d\n", count);
    puts("-- SA_NOCLDSTOP");
    action.sa_flags = SA_SIGINFO | SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, NULL);
    count = 0;
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    printf("signals %d\n", count);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    until(1);
    printf("signals %d\n", count);
    puts("-- SIG_IGN");
    signal(SIGCHLD, SIG_IGN);
    child = ends(1);
    SAY(wait(&status));
    signal(SIGCHLD, SIG_DFL);
    puts("-- sigwait for a child with the default disposition");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    child = ends(9);
    siginfo_t info;
    SAY(sigwaitinfo(&set, &info));
    printf("code %d status %d pid %d\n", info.si_code, info.si_status, info.si_pid == child);
    wait(&status);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    return 0;
}
