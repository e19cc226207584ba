// Calls with random numbers and arguments, pointers that lead somewhere, nowhere and across the end of a mapping among them. argv: a seed, how many processes.
// Only for inside of a sandbox.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (1 << 20)

static long argument(char *memory) {
    switch (rand() % 8) {
    case 0: case 1: case 2: return (long)(memory + rand() % SIZE);
    case 3: return (long)(memory + SIZE - rand() % 9);
    case 4: case 5: return rand() % 64;
    case 6: return -1 - rand() % 4096;
    default: return (long)rand() << 32 | rand();
    }
}

static void call_at_random(void) {
    char *memory = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < SIZE / 2; i++) memory[i] = rand();
    for (int i = SIZE / 2; i < SIZE; i += 8) *(long *)(memory + i) = argument(memory);
    for (int i = 0; i < 400; i++) {
        long a[6];
        int number = rand() % 470;
        for (int j = 0; j < 6; j++) a[j] = argument(memory);
        if (number != SYS_exit && number != SYS_exit_group) syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    _exit(0);
}

int main(int argc, char **argv) {
    for (int k = 0; k < atoi(argv[2]); k++) {
        pid_t pid = fork();
        srand(atoi(argv[1]) * 1000 + k);
        if (pid == 0) {
            setpgid(0, 0);
            call_at_random();
        }
        // It may block signals, stop itself or wait for ever.
        for (int i = 0; i < 50 && waitpid(pid, 0, WNOHANG) == 0; i++) usleep(10000);
        kill(pid, SIGKILL);
        waitpid(pid, 0, 0);
    }
    puts("done");
    return 0;
}
