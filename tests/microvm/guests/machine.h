/* Ports, printing, and the commands of the test guest. */
#ifndef MACHINE_H
#define MACHINE_H
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

static inline void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory"); }
static inline u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory"); return value; }

static inline u64 now(void) {
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}

void print(const char *text);
void print_bytes(const volatile u8 *bytes, u32 count);
void print_hex(const volatile u8 *bytes, u32 count);
void print_number(u64 value);

/* Word `index` of the command line's `name=a,b,...` as a number, or 0. */
u64 number_option(const char *command_line, const char *name);

void test_block(void);
void test_block_hostile(void);
void test_block_speed(u64 count, u64 size, u64 kind);
void test_entropy(void);
void test_vsock_echo(void);
void test_vsock_connect(void);
void test_balloon(void);
void test_pmem(void);
void test_hotplug(void);
void test_reporting(void);
void test_hinting(void);
void test_console(int speaks_first);
void test_net_echo(void);
void test_net_bridge(void);
void test_net_speed(u64 count, u64 size);
/* A machine to be copied; with `reports` it tells what it is when it sees that it was. */
void test_state(u64 mib, int reports);
#endif
