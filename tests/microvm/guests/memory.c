/* Memory from outside: a file as memory (pmem), memory that is plugged in (virtio-mem), pages that are given back. */
#include "virtio.h"

static struct queue queues[3];
static u64 tables[2][512] __attribute__((aligned(4096)));
static volatile u8 message[64];

static u64 config64(volatile u8 *device, u32 offset) {
    return reg(device, 0x100 + offset) | (u64)reg(device, 0x104 + offset) << 32;
}

/* The boot's page tables end at 1 GiB. Maps two GiB more at `start`, by pages of 2 MiB. */
static void map(u64 start) {
    volatile u64 *directory = (volatile u64 *)0xa000;
    u64 gib = start >> 30;
    for (u64 table = 0; table < 2; table++) {
        for (u64 page = 0; page < 512; page++) tables[table][page] = (gib + table) << 30 | page << 21 | 0x83;
        directory[gib + table] = (u64)tables[table] | 3;
    }
    __asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory");
}

static void say(const char *what, u64 number) {
    print(what);
    print(" ");
    print_number(number);
    print("\n");
}

static u32 flush(void) {
    u16 head;
    *(volatile u32 *)message = 0;
    *(volatile u32 *)(message + 8) = 77;
    describe(queues, 0, message, 4, NEXT, 1);
    describe(queues, 1, message + 8, 4, WRITE, 0);
    offer(queues, 0);
    ring(queues);
    wait_used(queues, &head);
    return *(volatile u32 *)(message + 8);
}

void test_pmem(void) {
    volatile u8 *device = find_device(27);
    if (!device || !start_device(device, 0, queues, 1)) { print("no pmem\n"); return; }
    volatile u8 *start = (volatile u8 *)config64(device, 0);
    say("size", config64(device, 8));
    map((u64)start);
    print_bytes(start, 16);
    print("\n");
    for (int i = 0; i < 64; i++) start[4096 + i] = 'A' + i % 26;
    say("flush", flush());
    print_bytes(start + 4096, 4);
    print("\n");
}

/* Asks virtio-mem; the answer's kind, and the state behind it. */
static u32 ask(u16 kind, u64 address, u16 count, u16 *state) {
    u16 head;
    *(volatile u64 *)message = kind;
    *(volatile u64 *)(message + 8) = address;
    *(volatile u64 *)(message + 16) = count;
    describe(queues, 0, message, 24, NEXT, 1);
    describe(queues, 1, message + 32, 10, WRITE, 0);
    offer(queues, 0);
    ring(queues);
    wait_used(queues, &head);
    if (state) *state = *(volatile u16 *)(message + 40);
    return *(volatile u16 *)(message + 32);
}

void test_hotplug(void) {
    volatile u8 *device = find_device(24);
    u16 state;
    if (!device || !start_device(device, reg(device, 0x10) & 2, queues, 1)) { print("no memory device\n"); return; }
    u64 block = config64(device, 0), address = config64(device, 16);
    say("block", block);
    say("plug before it is asked for", ask(0, address, 1, 0));
    print("ready\n");
    while (!config64(device, 48)) {}
    u64 count = config64(device, 48) / block;
    say("plug", ask(0, address, count, 0));
    say("plugged", config64(device, 40) / block);
    say("plug too much", ask(0, address + count * block, 1, 0));
    say("plug again", ask(0, address, 1, 0));
    say("plug elsewhere", ask(0, address - block, 1, 0));
    map(address);
    u64 good = 0;
    for (u64 at = 0; at < count * block; at += 1 << 20) *(volatile u64 *)(address + at) = at + 7;
    for (u64 at = 0; at < count * block; at += 1 << 20) good += *(volatile u64 *)(address + at) == at + 7;
    say("good", good);
    say("unplug", ask(1, address, 1, 0));
    say("state", ask(3, address, 2, &state));
    say("mixed", state);
    say("plug", ask(0, address, 1, 0));
    say("content", *(volatile u64 *)(address + (1 << 20)));
    print("wait\n");
    while (config64(device, 48)) {}
    say("unplug all", ask(2, 0, 0, 0));
    say("plugged", config64(device, 40));
}

#define PAGES ((volatile u8 *)0x2000000)
#define NR_PAGES 4096

static void touch_pages(void) {
    for (u64 page = 0; page < NR_PAGES; page++) PAGES[page << 12] = 1;
    print("touched\n");
    while (!(in8(0x3fd) & 1)) {}
    in8(0x3f8);
}

void test_reporting(void) {
    volatile u8 *device = find_device(5);
    u16 head;
    if (!device || !start_device(device, 1 << 5, queues, 3)) { print("no reporting\n"); return; }
    touch_pages();
    for (u16 i = 0; i < 4; i++) describe(queues + 2, i, PAGES + ((u64)i << 22), 1 << 22, WRITE | (i < 3 ? NEXT : 0), i + 1);
    offer(queues + 2, 0);
    ring(queues + 2);
    wait_used(queues + 2, &head);
    say("reported", PAGES[4096]);
    for (;;) in8(0x64);
}

static void send(u32 command) {
    u16 head;
    *(volatile u32 *)message = command;
    describe(queues + 2, 0, message, 4, 0, 0);
    offer(queues + 2, 0);
    ring(queues + 2);
    wait_used(queues + 2, &head);
}

void test_hinting(void) {
    volatile u8 *device = find_device(5);
    u16 head;
    if (!device || !start_device(device, 1 << 3, queues, 3)) { print("no hinting\n"); return; }
    touch_pages();
    print("ready\n");
    while (reg(device, 0x108) < 2) {}
    send(reg(device, 0x108));
    describe(queues + 2, 0, PAGES, NR_PAGES << 12, WRITE, 0);
    offer(queues + 2, 0);
    ring(queues + 2);
    wait_used(queues + 2, &head);
    send(0);
    say("hinted", reg(device, 0x108));
    for (;;) in8(0x64);
}
