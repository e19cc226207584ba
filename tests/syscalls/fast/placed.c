/* A writer that calls densely, so that a server spins for it, and a reader that it wakes all the time: while that goes on, the reader may be kept off the
 * server's processor. It has children in between, which wait. What all of them may run on in the end, the test looks at from the host. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WRITES 20000
#define CHILDREN 8

static char data[512];

static void wait_for_ever(int never) {
    char byte;
    if (read(never, &byte, 1) <= 0) _exit(0);
}

int main(void) {
    int ends[2], never[2], ready[2];
    char byte = 1;
    if (pipe(ends) || pipe(never) || pipe(ready)) return 1;
    pid_t reader = fork();
    if (reader < 0) return 1;
    if (!reader) {
        long read_so_far = 0, count;
        int children = 0;
        close(ends[1]), close(never[1]);
        while ((count = read(ends[0], data, sizeof data)) > 0) {
            read_so_far += count;
            if (children < CHILDREN && read_so_far > (children + 1L) * WRITES * (long)sizeof data / (CHILDREN + 1)) {
                children++;
                if (!fork()) {
                    close(ends[0]);
                    wait_for_ever(never[0]);
                }
            }
        }
        if (write(ready[1], &byte, 1) != 1) _exit(1);
        wait_for_ever(never[0]);
    }
    close(ends[0]);
    for (int i = 0; i < WRITES; i++) {
        if (write(ends[1], data, sizeof data) != sizeof data) return 1;
        lseek(ends[1], 0, SEEK_CUR);
    }
    close(ends[1]);
    if (read(ready[0], &byte, 1) != 1) return 1;
    puts("done"), fflush(stdout);
    return read(0, &byte, 1) != 0;
}
