// Who a new process belongs to, when others end at the same moment; and which stopped groups an end hangs up.
#include "events.h"

static void *sleeps(void *unused)
{
    for (;;) pause_ms(1);
    return unused;
}

// Threads that still call while another ends their process, and a sibling that is forked at that moment.
static void ends_of_many_threads(void)
{
    int missing = 0;
    for (int turn = 0; turn < 60; turn++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            for (int each = 0; each < 8; each++) pthread_create(&thread, NULL, sleeps, NULL);
            _exit(7);
        }
        int status;
        if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7) missing++;
    }
    printf("lost children: %d\n", missing);
}

// A parent that is killed at once leaves its child to the reaper.
static void killed_parent(void)
{
    int ends[2], orphans = 0;
    pipe(ends);
    for (int turn = 0; turn < 40; turn++) {
        pid_t child = fork();
        if (child == 0) {
            if (fork() == 0) {
                write(ends[1], "o", 1);
                _exit(0);
            }
            kill(getpid(), SIGKILL);
        }
        waitpid(child, NULL, 0);
    }
    close(ends[1]);
    for (char byte; read(ends[0], &byte, 1) == 1;) orphans++;
    printf("orphans that ran: %d\n", orphans);
    close(ends[0]);
}

static volatile sig_atomic_t hung_up;
static void on_hangup(int unused) { hung_up = 1; (void)unused; }

// A group that was orphaned before hears nothing of another member's end; one that becomes orphaned is hung up.
static void orphaned_groups(int was_orphaned)
{
    int ends[2];
    pipe(ends);
    pid_t leader = fork();
    if (leader == 0) {
        setpgid(0, 0);
        if (was_orphaned) setsid();
        signal(SIGHUP, on_hangup);
        if (fork() == 0) {
            signal(SIGHUP, on_hangup);
            raise(SIGSTOP);
            char told = hung_up ? 'h' : 'c';
            write(ends[1], &told, 1);
            _exit(0);
        }
        siginfo_t info;
        waitid(P_ALL, 0, &info, WSTOPPED | WNOWAIT);
        if (was_orphaned) {
            pid_t short_lived = fork();
            if (short_lived == 0) _exit(0);
            waitpid(short_lived, NULL, 0);
            printf("leader hung up: %d\n", hung_up);
            kill(0, SIGCONT);
            wait(NULL);
        }
        _exit(0);
    }
    waitpid(leader, NULL, 0);
    char told = '-';
    close(ends[1]);
    read(ends[0], &told, 1);
    close(ends[0]);
    printf("orphaned before %d: %c\n", was_orphaned, told);
}

int main(void)
{
    // Orphans are then adopted from another session, even if this is process 1.
    if (fork() > 0) {
        int status;
        while (wait(&status) > 0) {}
        return 0;
    }
    setsid();
    ends_of_many_threads();
    killed_parent();
    orphaned_groups(0);
    orphaned_groups(1);
    return 0;
}
