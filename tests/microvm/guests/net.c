/* Network: sends every frame of the test's type back (one with a question mark with the card's address behind that), or carries frames between two cards. */
#include "virtio.h"

#define RECEIVE (port->queues + 0)
#define TRANSMIT (port->queues + 1)
#define HEADER 12
/* Less than a frame: each takes several buffers (VIRTIO_NET_F_MRG_RXBUF). */
#define BUFFER 512
#define MERGEABLE (1 << 15)
#define MAC (1 << 5)

struct port {
    struct queue queues[2];
    u8 buffers[QUEUE_SIZE][BUFFER] __attribute__((aligned(BUFFER)));
};
static struct port ports[2];

static volatile u8 *start(struct port *port, u32 number) {
    volatile u8 *device = find_nth_device(1, number);
    if (!device || !start_device(device, (MERGEABLE | MAC) & reg(device, 0x10), port->queues, 2)) {
        print("no network device\n");
        return 0;
    }
    for (u16 i = 0; i < QUEUE_SIZE; i++) {
        describe(RECEIVE, i, port->buffers[i], BUFFER, WRITE, 0);
        offer(RECEIVE, i);
    }
    ring(RECEIVE);
    return device;
}

struct frame { u16 heads[QUEUE_SIZE]; u32 lengths[QUEUE_SIZE]; u32 count; };

static void take(struct port *port, struct frame *frame) {
    frame->lengths[0] = wait_used(RECEIVE, frame->heads);
    frame->count = *(u16 *)(port->buffers[frame->heads[0]] + 10);
    for (u32 i = 1; i < frame->count; i++) frame->lengths[i] = wait_used(RECEIVE, frame->heads + i);
}

/* Sends the frame from where it lies, then gives its buffers back. */
static void send(struct port *from, struct port *port, const struct frame *frame) {
    u16 head;
    for (u16 i = 0; i < frame->count; i++) {
        int last = i + 1U == frame->count;
        describe(TRANSMIT, i, from->buffers[frame->heads[i]], frame->lengths[i], last ? 0 : NEXT, i + 1);
    }
    offer(TRANSMIT, 0);
    ring(TRANSMIT);
    wait_used(TRANSMIT, &head);
    for (u16 i = 0; i < frame->count; i++) offer(from->queues, frame->heads[i]);
    ring(from->queues);
}

void test_net_echo(void) {
    volatile u8 *device = start(ports, 0);
    if (!device) return;
    u8 mac[6];
    for (int i = 0; i < 6; i++) mac[i] = device[0x100 + i];
    print("mac ");
    print_hex(mac, 6);
    print("\n");
    for (;;) {
        struct frame frame;
        take(ports, &frame);
        u8 *bytes = ports->buffers[frame.heads[0]] + HEADER;
        for (int i = 0; i < 6; i++) {
            u8 byte = bytes[i];
            bytes[i] = bytes[6 + i];
            bytes[6 + i] = byte;
        }
        int is_ours = bytes[12] == 0x88 && bytes[13] == 0xb5;
        if (is_ours && bytes[14] == '!') return;
        if (is_ours && bytes[14] == '?')
            for (int i = 0; i < 6; i++) bytes[15 + i] = device[0x100 + i];
        if (is_ours) {
            send(ports, ports, &frame);
        } else {
            for (u16 i = 0; i < frame.count; i++) offer(ports->queues, frame.heads[i]);
            ring(ports->queues);
        }
    }
}

void test_net_bridge(void) {
    if (!start(ports, 0) || !start(ports + 1, 1)) return;
    print("ready\n");
    for (u32 side = 0;; side ^= 1) {
        struct frame frame;
        if (!has_used(ports[side].queues)) continue;
        take(ports + side, &frame);
        send(ports + side, ports + (side ^ 1), &frame);
    }
}

/* Sends `count` frames of `size` bytes, from memory behind this program, then says how many cycles each took. */
void test_net_speed(u64 count, u64 size) {
    struct port *port = ports;
    volatile u8 *payload = (volatile u8 *)(16ull << 20);
    if (!size) size = 1514;
    u16 head;
    if (!start(port, 0)) return;
    payload[HEADER + 12] = 0x88;
    payload[HEADER + 13] = 0xb5;
    u64 before = now();
    for (u64 i = 0; i < count; i++) {
        describe(TRANSMIT, 0, payload, HEADER + size, 0, 0);
        offer(TRANSMIT, 0);
        ring(TRANSMIT);
        wait_used(TRANSMIT, &head);
    }
    print("cycles ");
    print_number((now() - before) / count);
    print("\n");
}
