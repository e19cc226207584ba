/* sched_yield(2), which the stub answers when one just before found nobody: threads that spin on it get on, registers and signals are as on the host. */
#include "fast.h"
#include <sched.h>

#define THREADS 6
#define TURNS 100
static volatile int turn, ticks;
static volatile long sum;
static int lock;

static void on_tick(int signal) { ticks += signal != 0; }

/* Everybody waits for everybody else, with more threads than processors. */
static void *take_turns(void *argument) {
    int own = (int)(intptr_t)argument;
    for (int i = 0; i < TURNS; i++) {
        while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) % THREADS != own) sched_yield();
        __atomic_add_fetch(&turn, 1, __ATOMIC_RELEASE);
    }
    return 0;
}
static void *contend(void *argument) {
    for (int i = 0; i < 2000; i++) {
        while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE)) sched_yield();
        sum++;
        __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    }
    return argument;
}
static void together(void *(*run)(void *)) {
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) MUST(pthread_create(&threads[i], 0, run, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], 0);
}
/* A call changes rax, rcx and r11 alone. */
static void registers(void) {
    for (long i = 0; i < 20000; i++) {
        register long r8 __asm__("r8") = i + 1, r9 __asm__("r9") = i + 2, r10 __asm__("r10") = i + 3;
        long rdi = i + 4, rsi = i + 5, rdx = i + 6, result;
        __asm__ volatile("call sched_yield" : "=a"(result), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r8), "+r"(r9), "+r"(r10) : : "rcx", "r11", "memory", "cc");
        MUST(result == 0 && rdi == i + 4 && rsi == i + 5 && rdx == i + 6 && r8 == i + 1 && r9 == i + 2 && r10 == i + 3);
    }
}
int main(void) {
    for (int i = 0; i < OFTEN; i++) MUST(syscall(SYS_getuid) == 0 && syscall(SYS_sched_yield) == 0);
    registers();
    puts("registers ok");
    struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    signal(SIGALRM, on_tick);
    MUST(setitimer(ITIMER_REAL, &often, 0) == 0);
    while (ticks < 300) registers();
    MUST(setitimer(ITIMER_REAL, &never, 0) == 0);
    puts("signals ok");
    together(take_turns);
    MUST(turn == THREADS * TURNS);
    puts("turns ok");
    together(contend);
    MUST(sum == THREADS * 2000);
    puts("lock ok");
    for (int i = 0; i < 20; i++) {
        int status;
        pid_t child = fork();
        if (!child) {
            for (int j = 0; j < 1000; j++) MUST(sched_yield() == 0);
            _exit(7);
        }
        MUST(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    }
    puts("children ok");
    return 0;
}
