// Children that end at once: who they are, how they ended and what they used is known although nobody waits for their native end.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "events.h"

enum { MANY = 150, THREADS = 4, EACH = 30, MEMORY = 24 << 20 };

static int right_end(pid_t child, int code)
{
    int status;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == code;
}

static void *forks(void *argument)
{
    long right = 0;
    for (int i = 0; i < EACH; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(i);
        right += right_end(child, i);
    }
    return (void *)right;
}

static int has_memory(const struct rusage *usage)
{
    return usage->ru_maxrss > MEMORY / 2 / 1024;
}

int main(void)
{
    puts("-- one after the other, each known by its first look");
    int right = 0;
    for (int i = 0; i < MANY; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(i & 0x7F);
        right += getpgid(child) == getpgid(0) && right_end(child, i & 0x7F);
    }
    printf("%d\n", right);

    puts("-- all at once");
    int gate[2];
    pid_t children[MANY];
    char byte;
    SAY(pipe(gate));
    for (int i = 0; i < MANY; i++)
        if ((children[i] = fork()) == 0) {
            close(gate[1]);
            read(gate[0], &byte, 1);
            _exit(i & 0x7F);
        }
    close(gate[1]);
    right = 0;
    for (int i = MANY - 1; i >= 0; i--)
        right += right_end(children[i], i & 0x7F);
    printf("%d\n", right);
    SAY(wait(NULL));

    puts("-- killed before they could call");
    right = 0;
    for (int i = 0; i < MANY; i++) {
        int status;
        pid_t child = fork();
        if (child == 0)
            for (;;)
                pause();
        kill(child, SIGKILL);
        right += waitpid(-1, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    }
    printf("%d\n", right);

    puts("-- of several threads");
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, forks, NULL);
    long all = 0;
    for (int i = 0; i < THREADS; i++) {
        void *of_one;
        pthread_join(threads[i], &of_one);
        all += (long)of_one;
    }
    printf("%ld\n", all);

    puts("-- what they used");
    struct rusage usage;
    char *memory = malloc(MEMORY);
    for (volatile char *at = memory; at < memory + MEMORY; at += 4096)
        *at = 1;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    SAY(wait4(child, NULL, 0, &usage) == child);
    SAY(has_memory(&usage) && usage.ru_utime.tv_sec == 0);
    SAY(getrusage(RUSAGE_CHILDREN, &usage) == 0 && has_memory(&usage));
    child = fork();
    if (child == 0) {
        // Of a grandchild's, once it is waited for.
        if (fork() == 0)
            _exit(0);
        wait(NULL);
        _exit(0);
    }
    SAY(waitpid(child, NULL, 0) == child);
    SAY(getrusage(RUSAGE_CHILDREN, &usage) == 0 && has_memory(&usage));
    free(memory);
    SAY(getrusage(RUSAGE_CHILDREN, &usage) == 0 && has_memory(&usage));
    return 0;
}
