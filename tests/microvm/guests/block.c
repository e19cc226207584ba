/* Block: reads, writes, flush, identity; then requests no driver makes. */
#include "virtio.h"

static struct queue queue;
static volatile struct { u32 kind, reserved; u64 sector; } header;
static volatile u8 data[4096] __attribute__((aligned(4096)));
static volatile u8 status;

static u8 request(u32 kind, u64 sector, volatile u8 *buffer, u32 length) {
    u16 head;
    header.kind = kind;
    header.sector = sector;
    status = 0xff;
    describe(&queue, 0, &header, 16, NEXT, length ? 1 : 2);
    describe(&queue, 1, buffer, length, NEXT | (kind == 1 ? 0 : WRITE), 2);
    describe(&queue, 2, &status, 1, WRITE, 0);
    offer(&queue, 0);
    ring(&queue);
    wait_used(&queue, &head);
    return status;
}

static void say(const char *what, u8 result) {
    print(what);
    print(" ");
    print_number(result);
    print("\n");
}

static volatile u8 *start(u32 features) {
    volatile u8 *device = find_device(2);
    if (!device) { print("no block device\n"); return 0; }
    if (!start_device(device, features & reg(device, 0x10), &queue, 1)) { print("refused\n"); return 0; }
    return device;
}

void test_block(void) {
    volatile u8 *device = start(1 << 9 | 1 << 5);
    if (!device) return;
    print("capacity ");
    print_number(reg(device, 0x100));
    print("\n");
    say("read", request(0, 0, data, 512));
    print_bytes(data, 16);
    print("\n");
    for (int i = 0; i < 1024; i++) data[i] = 'A' + i % 26;
    say("write", request(1, 2, data, 1024));
    say("flush", request(4, 0, data, 0));
    say("id", request(8, 0, data, 20));
    print_bytes(data, 4);
    print("\n");
    say("behind the end", request(0, reg(device, 0x100), data, 512));
    say("half a sector", request(0, 0, data, 100));
    say("no such request", request(77, 0, data, 512));
}

static void broken(const char *name, void (*make)(void)) {
    volatile u8 *device = start(0);
    if (!device) return;
    make();
    offer(&queue, 0);
    ring(&queue);
    /* DEVICE_NEEDS_RESET */
    say(name, reg(device, 0x70) >> 6 & 1);
}

static void loop(void) {
    describe(&queue, 0, &header, 16, NEXT, 1);
    describe(&queue, 1, data, 16, NEXT, 0);
}
static void outside(void) { describe(&queue, 0, (void *)0xfffffffffffff000, 8192, WRITE, 0); }
static void device_window(void) { describe(&queue, 0, (void *)0xc0001000, 512, WRITE, 0); }
static void order(void) {
    describe(&queue, 0, &status, 1, WRITE | NEXT, 1);
    describe(&queue, 1, &header, 16, 0, 0);
}
static void far_index(void) { queue.available.index += 1000; }
static void no_index(void) { describe(&queue, 0, &header, 16, NEXT, 40000); }

void test_block_hostile(void) {
    broken("loop", loop);
    broken("outside", outside);
    broken("device window", device_window);
    broken("order", order);
    broken("far index", far_index);
    broken("no such descriptor", no_index);
    start(0);
    say("read after all that", request(0, 0, data, 512));
}

/* `count` reads (or writes, kind 1) of `size` bytes from the first MiB, into memory behind this program. */
void test_block_speed(u64 count, u64 size, u64 kind) {
    volatile u8 *buffer = (volatile u8 *)(16ull << 20);
    if (!start(0)) return;
    if (!size) size = 4096;
    u64 before = now();
    for (u64 i = 0; i < count; i++) request(kind, i * size % (1 << 20) / 512, buffer, size);
    print("cycles ");
    print_number((now() - before) / count);
    print("\n");
}
