/* Who forks and waits a few times is held on its processor while its next child is made, which is held there as well. Neither that child nor its creator calls
 * anything then. What both may run on in the end, the test looks at from the host; a byte of a file that they share with it ends them. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 20

int main(int count, char **arguments) {
    int file = count == 2 ? open(arguments[1], O_RDWR) : -1;
    volatile char *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED) return 1;
    for (int i = 0; i < ROUNDS; i++) {
        pid_t child = fork();
        if (!child) _exit(0);
        if (waitpid(child, 0, 0) != child) return 1;
    }
    pid_t child = fork();
    if (child < 0) return 1;
    if (!child) shared[1] = 1;
    while (!shared[0]) {}
    if (!child) _exit(7);
    int status;
    if (waitpid(child, &status, 0) != child) return 1;
    return !WIFEXITED(status) || WEXITSTATUS(status) != 7;
}
