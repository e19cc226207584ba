/* fork, vfork and exec between fast calls: nobody speaks in another's name. */
#include "fast.h"
#include <spawn.h>

extern char **environ;
static int zero;

static void child_of(int depth, int seed) {
    /* Its own descriptors: what it closes, its parent keeps. */
    int own = pattern(seed, 4096);
    for (int i = 0; i < 120; i++) round_of_calls(own, seed, zero);
    if (depth > 0) {
        pid_t child = fork();
        MUST(child >= 0);
        if (!child) {
            close(own);
            child_of(depth - 1, seed + 1);
            _exit(0);
        }
        for (int i = 0; i < 120; i++) round_of_calls(own, seed, zero);
        int status;
        MUST(waitpid(child, &status, 0) == child && status == 0);
    }
    for (int i = 0; i < 120; i++) round_of_calls(own, seed, zero);
    close(own);
}
int main(int argc, char **argv) {
    zero = open("/dev/zero", O_RDONLY);
    if (argc > 1) {
        int file = pattern(9, 4096);
        for (int i = 0; i < 60; i++) round_of_calls(file, 9, zero);
        return 7;
    }
    int file = pattern(2, 4096), status;
    for (int i = 0; i < OFTEN; i++) round_of_calls(file, 2, zero);
    child_of(3, 20);
    puts("fork ok");
    for (int i = 0; i < 20; i++) {
        pid_t child = vfork();
        if (!child) {
            /* Runs in this memory, with this thread's base register, and closes what is not its parent's to lose. */
            char byte;
            for (int j = 0; j < 20; j++) if (pread(file, &byte, 1, 0) != 1) _exit(3);
            close(file);
            if (pread(file, &byte, 1, 0) != -1) _exit(4);
            if (i % 2) _exit(7);
            execl("/proc/self/exe", "again", "again", (char *)0);
            _exit(5);
        }
        MUST(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
        for (int j = 0; j < 60; j++) round_of_calls(file, 2, zero);
    }
    puts("vfork ok");
    for (int i = 0; i < 10; i++) {
        pid_t child;
        char *arguments[] = {"again", "again", 0};
        MUST(posix_spawn(&child, "/proc/self/exe", 0, 0, arguments, environ) == 0);
        for (int j = 0; j < 60; j++) round_of_calls(file, 2, zero);
        MUST(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    }
    puts("spawn ok");
    return 0;
    (void)argv;
}
