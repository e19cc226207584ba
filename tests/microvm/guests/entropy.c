#include "virtio.h"

static struct queue queue;
static volatile u8 bytes[64];

void test_entropy(void) {
    volatile u8 *device = find_device(4);
    u16 head;
    if (!device || !start_device(device, 0, &queue, 1)) { print("no entropy device\n"); return; }
    describe(&queue, 0, bytes, 64, WRITE, 0);
    offer(&queue, 0);
    ring(&queue);
    print_number(wait_used(&queue, &head));
    print(" ");
    print_hex(bytes, 64);
    print("\n");
}
