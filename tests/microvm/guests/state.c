/* A guest to be copied: it keeps a pattern in its memory and a disk in use, and does what single letters on the serial port say. */
#include "virtio.h"

#define PAGES ((volatile u64 *)0x1000000)
#define GENERATION ((volatile u8 *)0xff000)
static struct queue disk_queue;
static volatile struct { u32 kind, reserved; u64 sector; } disk_header;
static volatile u8 sector[512], disk_status;
static u64 pages, round;

static u64 pattern(u64 page) { return (page + 1) * 0x9e3779b97f4a7c15 + round; }

static void write_pages(u64 step) {
    for (u64 page = 0; page < pages; page += step) PAGES[page * 512] = pattern(page);
}

/* How many of every `step`th page hold what this round wrote. */
static u64 right_pages(u64 step) {
    u64 right = 0;
    for (u64 page = 0; page < pages; page += step) right += PAGES[page * 512] == pattern(page);
    return right;
}

static void say_pages(u64 step) {
    print_number(right_pages(step));
    print("\n");
}

static void say_sector(void) {
    u16 head;
    if (!disk_queue.device) { print("no disk\n"); return; }
    disk_header.kind = 0;
    disk_header.sector = 0;
    describe(&disk_queue, 0, &disk_header, 16, NEXT, 1);
    describe(&disk_queue, 1, sector, 512, NEXT | WRITE, 2);
    describe(&disk_queue, 2, &disk_status, 1, WRITE, 0);
    offer(&disk_queue, 0);
    ring(&disk_queue);
    wait_used(&disk_queue, &head);
    print_bytes(sector, 16);
    print("\n");
}

/* Whether the interrupt of the generation id waits at the first interrupt controller, which keeps it although it is masked. */
static void say_interrupt(void) {
    out8(0x20, 0x0a);
    print(in8(0x20) & 8 ? "told\n" : "not told\n");
}

static u64 time_stamp(void) {
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}

/* What a copy sees of itself; then it writes, which nobody else must see. */
static void report(void) {
    print_hex(GENERATION, 16);
    print(" ");
    print_number(right_pages(1));
    round++;
    write_pages(4);
    print(" ");
    print_number(right_pages(4));
    out8(0x20, 0x0a);
    print(in8(0x20) & 8 ? " told\n" : " not told\n");
}

void test_state(u64 mib, int reports) {
    volatile u8 *device = find_device(2);
    u64 last = time_stamp(), generation = *(volatile u64 *)GENERATION;
    pages = mib * 256;
    write_pages(1);
    if (device) start_device(device, 0, &disk_queue, 1);
    print("ready\n");
    for (;;) {
        while (!(in8(0x3fd) & 1)) {
            if (!reports || *(volatile u64 *)GENERATION == generation) continue;
            generation = *(volatile u64 *)GENERATION;
            report();
        }
        switch (in8(0x3f8)) {
        case 'c': say_pages(1); break;
        case 'q': say_pages(4); break;
        case 'n': round++; write_pages(4); print("written\n"); break;
        case 'd': say_sector(); break;
        case 'g': print_hex(GENERATION, 16); print("\n"); break;
        case 'i': say_interrupt(); break;
        case 't': print(time_stamp() > last ? "later\n" : "earlier\n"); last = time_stamp(); break;
        case 'o': print("ok\n"); break;
        case '!': return;
        }
    }
}
