/* What programs need that attack the sentry they run in: to die at once on a host, and to end all that they started. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STUB 0x500000000000UL /* crates/platform/src/loader.rs: code, data, table */

/* Made on a host, these calls would hurt it: there is no stub there, and the program dies of this. */
static void need_a_sentry(void) {
    (void)*(volatile char *)STUB;
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Its descendants and the orphans of those, which come to it. A process that is being killed can still fork: until none is left. */
static void end_all(void) {
    char path[64], text[4096];
    for (int tries = 0; tries < 1000; tries++) {
        snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
        int fd = open(path, O_RDONLY);
        ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        close(fd);
        text[len < 0 ? 0 : len] = 0;
        for (char *word = strtok(text, " \n"); word; word = strtok(0, " \n"))
            if (atoi(word) > 1)
                kill(atoi(word), SIGKILL);
        while (waitpid(-1, 0, WNOHANG | __WALL) > 0)
            ;
        if (waitpid(-1, 0, WNOHANG | __WALL) < 0 && errno == ECHILD)
            return;
        usleep(1000);
    }
}
