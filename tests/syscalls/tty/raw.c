// VMIN and VTIME.
#include "pair.h"

static int master, slave;

static void set(int min, int time) {
    struct termios settings;
    tcgetattr(slave, &settings);
    cfmakeraw(&settings);
    settings.c_cc[VMIN] = min;
    settings.c_cc[VTIME] = time;
    tcsetattr(slave, TCSAFLUSH, &settings);
}

// Reads while a child types `text`, a byte each `pause_ms`; tells what came, and whether it took the tenths of a second that it must: a busy machine adds to them.
static void timed(int min, int time, const char *text, int pause_ms, size_t room, long tenths) {
    set(min, time);
    char bytes[100];
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        for (; *text; text++) { usleep(pause_ms * 1000); write(master, text, 1); }
        _exit(0);
    }
    ssize_t count = read(slave, bytes, room);
    clock_gettime(CLOCK_MONOTONIC, &end);
    long took_ms = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
    printf("min %d time %d %s: ", min, time, took_ms >= tenths * 100 - 20 ? "not before its time" : "early");
    show("read", bytes, count);
    waitpid(pid, NULL, 0);
}

static void note(int signal) { (void)signal; }

int main(void) {
    master = open_master();
    slave = open_slave(master, O_RDWR | O_NOCTTY);
    timed(1, 0, "a", 200, 10, 2);
    timed(3, 0, "abc", 100, 10, 3);
    timed(3, 0, "ab", 100, 2, 2);
    timed(0, 0, "", 0, 10, 0);
    timed(0, 3, "", 0, 10, 3);
    timed(0, 20, "a", 200, 10, 2);
    timed(5, 8, "ab", 100, 10, 10);
    timed(2, 20, "ab", 200, 10, 4);
    set(5, 0);
    fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK);
    show("nonblock", "", read(slave, (char[10]){0}, 10));
    write(master, "ab", 2); usleep(20000);
    struct pollfd poll_for = {.fd = slave, .events = POLLIN};
    printf("poll %d\n", poll(&poll_for, 1, 0));
    char bytes[10]; show("nonblock", bytes, read(slave, bytes, 10));
    set(0, 0); show("nonblock min 0", bytes, read(slave, bytes, 10));
    fcntl(slave, F_SETFL, O_RDWR);
    set(1, 0);
    struct sigaction action = {.sa_handler = note};
    sigaction(SIGALRM, &action, NULL);
    pid_t other = fork();
    if (other == 0) { usleep(100000); kill(getppid(), SIGALRM); _exit(0); }
    show("interrupted", bytes, read(slave, bytes, 10));
    // More than the reader's side holds: the writer waits.
    pid_t pid = fork();
    if (pid == 0) { char many[40000]; memset(many, 'z', sizeof many); _exit(write(master, many, sizeof many) == sizeof many ? 0 : 1); }
    long total = 0; char room[4096];
    while (total < 40000) { ssize_t count = read(slave, room, sizeof room); if (count <= 0) break; total += count; }
    int status; waitpid(pid, &status, 0); printf("total %ld %x\n", total, status);
    pid = fork();
    if (pid == 0) { char many[200000]; memset(many, 'z', sizeof many); _exit(write(slave, many, sizeof many) == sizeof many ? 0 : 1); }
    total = 0;
    while (total < 200000) { ssize_t count = read(master, room, sizeof room); if (count <= 0) break; total += count; }
    waitpid(pid, &status, 0); printf("total %ld %x\n", total, status);
    return 0;
}
