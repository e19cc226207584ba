/* Console: sends every byte back, letters in upper case, until it reads '!'. */
#include "virtio.h"

static struct queue queues[2];
static volatile u8 incoming[8][256], outgoing[256];

/* The same, as an agent's machine would begin: the guest speaks first. */
static void speak(void) {
    u16 sent;
    outgoing[0] = 0;
    describe(queues + 1, 0, outgoing, 1, 0, 0);
    offer(queues + 1, 0);
    ring(queues + 1);
    wait_used(queues + 1, &sent);
}

void test_console(int speaks_first) {
    volatile u8 *device = find_device(3);
    if (!device || !start_device(device, 0, queues, 2)) { print("no console\n"); return; }
    for (u16 i = 0; i < 8; i++) {
        describe(queues, i, incoming[i], sizeof incoming[i], WRITE, 0);
        offer(queues, i);
    }
    ring(queues);
    if (speaks_first) speak();
    print("ready\n");
    for (;;) {
        u16 head, sent;
        u32 length = wait_used(queues, &head);
        int is_last = 0;
        for (u32 i = 0; i < length; i++) {
            u8 byte = incoming[head][i];
            is_last |= byte == '!';
            outgoing[i] = byte >= 'a' && byte <= 'z' ? byte - 32 : byte;
        }
        describe(queues + 1, 0, outgoing, length, 0, 0);
        offer(queues + 1, 0);
        ring(queues + 1);
        wait_used(queues + 1, &sent);
        if (is_last) return;
        offer(queues, head);
        ring(queues);
    }
}
