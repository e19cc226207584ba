/* A driver's side of virtio over MMIO: polling, one request at a time. */
#ifndef VIRTIO_H
#define VIRTIO_H
#include "machine.h"

#define QUEUE_SIZE 16
struct descriptor { u64 address; u32 length; u16 flags; u16 next; };
struct queue {
    volatile struct descriptor descriptors[QUEUE_SIZE];
    volatile struct { u16 flags, index, ring[QUEUE_SIZE], used_event; } available;
    volatile struct { u16 flags, index; struct { u32 id, length; } ring[QUEUE_SIZE]; u16 available_event; } used __attribute__((aligned(4)));
    volatile u8 *device;
    u32 number;
    u16 seen;
} __attribute__((aligned(16)));

#define NEXT 1
#define WRITE 2

u32 reg(volatile u8 *device, u32 offset);
void set_reg(volatile u8 *device, u32 offset, u32 value);
/* The first device of this kind, or 0. */
volatile u8 *find_device(u32 kind);
volatile u8 *find_nth_device(u32 kind, u32 number);
/* From reset to DRIVER_OK; `features` of page 0 are accepted. Returns 0 if the device refuses. */
int start_device(volatile u8 *device, u32 features, struct queue *queues, u32 count);
void describe(struct queue *queue, u16 index, const volatile void *address, u32 length, u16 flags, u16 next);
void offer(struct queue *queue, u16 head);
void ring(struct queue *queue);
/* Waits for the next used element; its length comes back and its head in *head. */
u32 wait_used(struct queue *queue, u16 *head);
int has_used(struct queue *queue);
#endif
