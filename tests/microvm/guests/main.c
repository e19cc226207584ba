/* The test guest: runs the test that its command line names, then resets the machine. */
#include "machine.h"

#define BOOT_TIMER ((volatile u8 *)0xc0000000)

void print(const char *text) {
    while (*text) out8(0x3f8, *text++);
}

void print_bytes(const volatile u8 *bytes, u32 count) {
    while (count--) out8(0x3f8, *bytes++);
}

void print_hex(const volatile u8 *bytes, u32 count) {
    for (; count--; bytes++) {
        out8(0x3f8, "0123456789abcdef"[*bytes >> 4]);
        out8(0x3f8, "0123456789abcdef"[*bytes & 15]);
    }
}

void print_number(u64 value) {
    char digits[21];
    int at = 20;
    digits[at] = 0;
    do digits[--at] = '0' + value % 10; while (value /= 10);
    print(digits + at);
}

static const char *find(const char *text, const char *word) {
    for (; *text; text++) {
        int i = 0;
        while (word[i] && text[i] == word[i]) i++;
        if (!word[i]) return text + i;
    }
    return 0;
}

u64 number_option(const char *command_line, const char *name) {
    const char *at = find(command_line, name);
    u64 value = 0;
    while (at && *at >= '0' && *at <= '9') value = value * 10 + (*at++ - '0');
    return value;
}

static void echo_serial(void) {
    print("ready\n");
    for (;;) {
        while (!(in8(0x3fd) & 1)) {}
        u8 byte = in8(0x3f8);
        if (byte == '!') return;
        out8(0x3f8, byte - 'a' + 'A');
    }
}

/* Waits for Ctrl+Alt+Del on the keyboard controller. */
static void wait_for_keys(void) {
    print("ready\n");
    for (int keys = 0; keys < 4; keys++) {
        while (!(in8(0x64) & 1)) {}
        u8 code = in8(0x60);
        print_hex(&code, 1);
    }
}

/* What a kernel without a test to run does: nothing, until Ctrl+Alt+Del. */
static void idle(void) {
    for (int keys = 0; keys < 4; keys++) {
        while (!(in8(0x64) & 1)) {}
        in8(0x60);
    }
}

/* More than a small pipe and the monitor's backlog hold. */
static void flood(void) {
    for (int i = 0; i < 9000; i++) print("0123456789abcdef0123456789abcde\n");
}

/* Port 0x80 has no device: what is left is the way out and back. */
static void leave(u64 count) {
    while (count--) out8(0x80, 0);
}

static void count_for_ever(void) {
    for (u64 i = 0;; i++) {
        print_number(i);
        print("\n");
        for (volatile int spin = 0; spin < 2000; spin++) {}
    }
}

static void touch(u64 mib) {
    for (u64 page = 0; page < mib * 256; page++) *(volatile u8 *)(0x1000000 + page * 4096) = 1;
    print("touched\n");
    for (;;) in8(0x64);
}

static u8 sum(const u8 *table, u32 length) {
    u8 total = 0;
    while (length--) total += *table++;
    return total;
}

static void say_table(const u8 *table) {
    u32 length = *(const u32 *)(table + 4);
    print_bytes(table, 4);
    print(sum(table, length) ? " bad sum\n" : " good\n");
}

/* Follows the ACPI tables from the RSDP (ACPI 6.5 5.2.5) to the DSDT. */
static void walk_acpi(const u8 *rsdp) {
    print_bytes(rsdp, 8);
    print(sum(rsdp, 20) || sum(rsdp, 36) ? " bad sum\n" : " good\n");
    const u8 *xsdt = (const u8 *)*(const u64 *)(rsdp + 24);
    say_table(xsdt);
    for (u32 at = 36; at < *(const u32 *)(xsdt + 4); at += 8) {
        const u8 *table = (const u8 *)*(const u64 *)(xsdt + at);
        say_table(table);
        if (table[0] == 'F') say_table((const u8 *)*(const u64 *)(table + 140));
    }
}

void guest_main(const char *command_line, const u8 *initrd, u64 initrd_size, const u8 *rsdp) {
    *BOOT_TIMER = 123;
    /* First, because start times are measured with it: ring 0 may be emulated, and each of these searches takes 0.1 ms then. */
    if (find(command_line, "test=serial")) echo_serial();
    else if (find(command_line, "test=hello")) print("hello\n");
    else if (find(command_line, "test=commandline")) print(command_line);
    else if (find(command_line, "test=initrd")) print_bytes(initrd, initrd_size);
    else if (find(command_line, "test=acpi")) walk_acpi(rsdp);
    else if (find(command_line, "test=block-hostile")) test_block_hostile();
    else if (find(command_line, "test=block-speed")) test_block_speed(number_option(command_line, "count="), number_option(command_line, "size="), number_option(command_line, "kind="));
    else if (find(command_line, "test=block")) test_block();
    else if (find(command_line, "test=entropy")) test_entropy();
    else if (find(command_line, "test=vsock-echo")) test_vsock_echo();
    else if (find(command_line, "test=vsock-connect")) test_vsock_connect();
    else if (find(command_line, "test=balloon")) test_balloon();
    else if (find(command_line, "test=net-echo")) test_net_echo();
    else if (find(command_line, "test=net-bridge")) test_net_bridge();
    else if (find(command_line, "test=net-speed")) test_net_speed(number_option(command_line, "count="), number_option(command_line, "size="));
    else if (find(command_line, "test=exits")) leave(number_option(command_line, "count="));
    else if (find(command_line, "test=pmem")) test_pmem();
    else if (find(command_line, "test=hotplug")) test_hotplug();
    else if (find(command_line, "test=reporting")) test_reporting();
    else if (find(command_line, "test=hinting")) test_hinting();
    else if (find(command_line, "test=console")) test_console(0);
    else if (find(command_line, "test=agent")) test_console(1);
    else if (find(command_line, "test=keys")) wait_for_keys();
    else if (find(command_line, "test=count")) count_for_ever();
    else if (find(command_line, "test=state")) test_state(number_option(command_line, "mib="), find(command_line, "test=state-fork") != 0);
    else if (find(command_line, "test=touch")) touch(number_option(command_line, "mib="));
    else if (find(command_line, "test=flood")) flood();
    else if (!find(command_line, "test=")) idle();
    else print("no such test\n");
    out8(0x64, 0xfe);
    for (;;) __asm__ volatile("hlt");
}
