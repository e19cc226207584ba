/* Sockets: an echo service on port 52, and a connection to the host's port 700. */
#include "virtio.h"

#define RECEIVE (queues + 0)
#define TRANSMIT (queues + 1)
#define CAPACITY 65536
struct packet {
    u64 source_cid, target_cid;
    u32 source_port, target_port, length;
    u16 kind, operation;
    u32 flags, capacity, forwarded;
    u8 data[4096];
} __attribute__((packed));

static struct queue queues[3];
static struct packet incoming[8], outgoing;
static u32 forwarded;

static int start(void) {
    volatile u8 *device = find_device(19);
    if (!device || !start_device(device, 0, queues, 3)) { print("no vsock\n"); return 0; }
    for (u16 i = 0; i < 8; i++) {
        describe(RECEIVE, i, incoming + i, sizeof(struct packet), WRITE, 0);
        offer(RECEIVE, i);
    }
    ring(RECEIVE);
    print("ready\n");
    return 1;
}

static void send(u32 source_port, u32 target_port, u16 operation, u32 flags, u32 length) {
    u16 head;
    outgoing.source_cid = 3;
    outgoing.target_cid = 2;
    outgoing.source_port = source_port;
    outgoing.target_port = target_port;
    outgoing.length = length;
    outgoing.kind = 1;
    outgoing.operation = operation;
    outgoing.flags = flags;
    outgoing.capacity = CAPACITY;
    outgoing.forwarded = forwarded;
    describe(TRANSMIT, 0, &outgoing, 44 + length, 0, 0);
    offer(TRANSMIT, 0);
    ring(TRANSMIT);
    wait_used(TRANSMIT, &head);
}

void test_vsock_echo(void) {
    if (!start()) return;
    for (;;) {
        u16 head;
        wait_used(RECEIVE, &head);
        struct packet *packet = incoming + head;
        u32 port = packet->source_port;
        if (packet->operation == 1) {
            forwarded = 0;
            send(packet->target_port, port, packet->target_port == 52 ? 2 : 3, 0, 0);
        } else if (packet->operation == 5) {
            for (u32 i = 0; i < packet->length; i++) outgoing.data[i] = packet->data[i];
            forwarded += packet->length;
            send(52, port, 5, 0, packet->length);
        } else if (packet->operation == 4) {
            send(52, port, 4, 3, 0);
            print("closed\n");
        }
        offer(RECEIVE, head);
        ring(RECEIVE);
    }
}

void test_vsock_connect(void) {
    if (!start()) return;
    u16 head;
    send(1024, 701, 1, 0, 0);
    wait_used(RECEIVE, &head);
    print(incoming[head].operation == 3 ? "refused\n" : "accepted\n");
    send(1025, 700, 1, 0, 0);
    wait_used(RECEIVE, &head);
    print(incoming[head].operation == 2 ? "accepted\n" : "refused\n");
    for (int i = 0; i < 5; i++) outgoing.data[i] = "guest"[i];
    send(1025, 700, 5, 0, 5);
    wait_used(RECEIVE, &head);
    print_bytes(incoming[head].data, incoming[head].length);
    print("\n");
}
