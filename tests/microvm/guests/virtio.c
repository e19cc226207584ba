#include "virtio.h"

u32 reg(volatile u8 *device, u32 offset) { return *(volatile u32 *)(device + offset); }
void set_reg(volatile u8 *device, u32 offset, u32 value) { *(volatile u32 *)(device + offset) = value; }

volatile u8 *find_nth_device(u32 kind, u32 number) {
    for (u64 slot = 0; slot < 19; slot++) {
        volatile u8 *device = (volatile u8 *)(0xc0001000 + slot * 0x1000);
        if (reg(device, 0) == 0x74726976 && reg(device, 4) == 2 && reg(device, 8) == kind && !number--) return device;
    }
    return 0;
}

volatile u8 *find_device(u32 kind) { return find_nth_device(kind, 0); }

static void set_address(volatile u8 *device, u32 offset, volatile void *address) {
    set_reg(device, offset, (u32)(u64)address);
    set_reg(device, offset + 4, (u32)((u64)address >> 32));
}

int start_device(volatile u8 *device, u32 features, struct queue *queues, u32 count) {
    set_reg(device, 0x70, 0);
    set_reg(device, 0x70, 1);
    set_reg(device, 0x70, 3);
    set_reg(device, 0x24, 0);
    set_reg(device, 0x20, features);
    set_reg(device, 0x24, 1);
    set_reg(device, 0x20, 1); /* VERSION_1 */
    set_reg(device, 0x70, 11);
    if (reg(device, 0x70) != 11) return 0;
    for (u32 i = 0; i < count; i++) {
        struct queue *queue = queues + i;
        queue->device = device;
        queue->number = i;
        queue->seen = 0;
        queue->available.index = 0;
        queue->used.index = 0;
        set_reg(device, 0x30, i);
        set_reg(device, 0x38, QUEUE_SIZE);
        set_address(device, 0x80, queue->descriptors);
        set_address(device, 0x90, &queue->available);
        set_address(device, 0xa0, &queue->used);
        set_reg(device, 0x44, 1);
    }
    set_reg(device, 0x70, 15);
    return reg(device, 0x70) == 15;
}

void describe(struct queue *queue, u16 index, const volatile void *address, u32 length, u16 flags, u16 next) {
    queue->descriptors[index].address = (u64)address;
    queue->descriptors[index].length = length;
    queue->descriptors[index].flags = flags;
    queue->descriptors[index].next = next;
}

void offer(struct queue *queue, u16 head) {
    queue->available.ring[queue->available.index % QUEUE_SIZE] = head;
    __sync_synchronize();
    queue->available.index++;
    __sync_synchronize();
}

void ring(struct queue *queue) { set_reg(queue->device, 0x50, queue->number); }

int has_used(struct queue *queue) { return queue->used.index != queue->seen; }

u32 wait_used(struct queue *queue, u16 *head) {
    while (!has_used(queue)) {}
    u32 at = queue->seen++ % QUEUE_SIZE;
    *head = queue->used.ring[at].id;
    return queue->used.ring[at].length;
}
