/* futex(2) at a patched site: what a wait answers, what it lets through, and that none is missed, by threads, processes and handlers. */
#include "fast.h"

static long futex(void *at, int op, unsigned value, const struct timespec *limit, unsigned bits) {
    return syscall(SYS_futex, at, op, value, limit, 0, bits);
}
static void tell(const char *what, long result) { printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : result == 0 ? "0" : "1"); }

static _Alignas(8) volatile unsigned word, other;

static void *echo(void *argument) {
    for (int i = 0; i < 3000; i++) {
        while (!word) futex((void *)&word, 0, 0, 0, 0);
        word = 0;
        futex((void *)&word, 1, 1, 0, 0);
    }
    return argument;
}
/* Wakes without a change of the word, until the waiter says that it was woken. */
static void *wake(void *argument) {
    while (!other) futex((void *)&word, 1, 1, 0, 0);
    return argument;
}
static void handler(int signal) { (void)signal; other = 1; }

int main(void) {
    pthread_t thread;
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct timespec wrong = {0, 2000000000}, moment = {0, 1000000};
    munmap(pages + 4096, 4096);
    for (int i = 0; i < OFTEN; i++) MUST(syscall(SYS_getppid) >= 0);
    for (int turn = 0; turn < 2; turn++) {
        word = 1;
        tell("another value", futex((void *)&word, 0, 0, 0, 0));
        tell("another value, private", futex((void *)&word, 128, 0, 0, 0));
        tell("another value, a set of bits", futex((void *)&word, 9, 0, 0, 1));
        tell("no bits", futex((void *)&word, 9, 0, 0, 0));
        tell("unaligned", futex((char *)&word + 1, 0, 0, 0, 0));
        tell("no memory", futex(pages + 4096, 0, 0, 0, 0));
        tell("nowhere", futex((void *)0x800000000000, 128, 0, 0, 0));
        tell("wrong time", futex((void *)&word, 0, 0, &wrong, 0));
        tell("a clock that a wait has not", futex((void *)&word, 256, 0, 0, 0));
        tell("time is over", futex((void *)&word, 0, 1, &moment, 0));
        tell("no such operation", futex((void *)&word, 77, 1, 0, 0));
        tell("nobody to wake", futex((void *)&word, 1, 1, 0, 0));
        word = 0;
        MUST(pthread_create(&thread, 0, echo, 0) == 0);
        for (int i = 0; i < 3000; i++) {
            word = 1;
            futex((void *)&word, 1, 1, 0, 0);
            while (word) futex((void *)&word, 0, 1, 0, 0);
        }
        pthread_join(thread, 0);
        other = 0;
        MUST(pthread_create(&thread, 0, wake, 0) == 0);
        tell("woken", futex((void *)&word, 0, 0, 0, 0));
        other = 1;
        pthread_join(thread, 0);
    }
    /* A handler ends the wait, or the call that comes after it. */
    struct sigaction action = {.sa_handler = handler};
    struct itimerval soon = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, 0);
    other = 0;
    setitimer(ITIMER_REAL, &soon, 0);
    tell("interrupted", futex((void *)&word, 0, 0, 0, 0));
    setitimer(ITIMER_REAL, &never, 0);
    MUST(other == 1);
    /* Two processes, one word. */
    unsigned *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (!child) {
        for (unsigned i = 1; i <= 500; i++) {
            while (__atomic_load_n(shared, __ATOMIC_SEQ_CST) != 2 * i - 1) futex(shared, 0, 2 * i - 2, 0, 0);
            __atomic_store_n(shared, 2 * i, __ATOMIC_SEQ_CST);
            futex(shared, 1, 1, 0, 0);
        }
        _exit(0);
    }
    for (unsigned i = 1; i <= 500; i++) {
        __atomic_store_n(shared, 2 * i - 1, __ATOMIC_SEQ_CST);
        futex(shared, 1, 1, 0, 0);
        while (__atomic_load_n(shared, __ATOMIC_SEQ_CST) != 2 * i) futex(shared, 0, 2 * i - 1, 0, 0);
    }
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
    puts("ok");
    return 0;
}
