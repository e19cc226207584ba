/* Inflates to the size the device asks for, with pages from 32 MiB on. */
#include "virtio.h"

static struct queue queues[2];
static u32 numbers[256];

void test_balloon(void) {
    volatile u8 *device = find_device(5);
    u16 head;
    if (!device || !start_device(device, 0, queues, 2)) { print("no balloon\n"); return; }
    u32 page = 0x2000, done = 0;
    for (;;) {
        u32 wanted = reg(device, 0x100);
        if (done == wanted) continue;
        for (; done < wanted; done += 256) {
            for (int i = 0; i < 256; i++, page++) {
                *(volatile u8 *)((u64)page << 12) = 1;
                numbers[i] = page;
            }
            describe(queues, 0, numbers, sizeof numbers, 0, 0);
            offer(queues, 0);
            ring(queues);
            wait_used(queues, &head);
        }
        set_reg(device, 0x104, done);
        print("inflated ");
        print_number(done);
        print("\n");
    }
}
