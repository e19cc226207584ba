/* Threads that come and go on the same stacks, and so with the same base register, more than there are slots. */
#include "fast.h"

static int zero;

static void *calls(void *argument) {
    int seed = (int)(intptr_t)argument, own = pattern(seed, 4096);
    for (int i = 0; i < 150; i++) round_of_calls(own, seed, zero);
    close(own);
    return argument;
}
int main(void) {
    zero = open("/dev/zero", O_RDONLY);
    for (int round = 0; round < 12; round++) {
        pthread_t threads[24];
        int count = round % 2 ? 24 : 3;
        for (int i = 0; i < count; i++) MUST(pthread_create(&threads[i], 0, calls, (void *)(intptr_t)(round * 24 + i)) == 0);
        for (int i = 0; i < count; i++) pthread_join(threads[i], 0);
        calls((void *)1);
    }
    puts("ok");
    return 0;
}
