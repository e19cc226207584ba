// Ancillary data received into every size of buffer: what is cut, what MSG_CTRUNC tells, which descriptors arrive. Then UDP-Lite.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 64; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void received(const char *what, int fd, size_t room)
{
    union { char bytes[256]; struct cmsghdr align; } control;
    memset(&control, 0x5A, sizeof control);
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room ? control.bytes : NULL, .msg_controllen = room};
    int before = open_descriptors();
    ssize_t count = recvmsg(fd, &message, MSG_DONTWAIT);
    printf("%s %zu: %zd len %zu flags %#x new %d", what, room, count, (size_t)message.msg_controllen, message.msg_flags, open_descriptors() - before);
    size_t at = 0;
    while (at + sizeof(struct cmsghdr) <= message.msg_controllen) {
        struct cmsghdr *one = (struct cmsghdr *)(control.bytes + at);
        printf(" [%d/%d %zu]", one->cmsg_level, one->cmsg_type, (size_t)one->cmsg_len);
        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_RIGHTS)
            for (size_t each = 16; each + 4 <= one->cmsg_len; each += 4) close(*(int *)(control.bytes + at + each));
        if (one->cmsg_len < sizeof *one) break;
        at += CMSG_ALIGN(one->cmsg_len);
    }
    printf(" %s\n", room < sizeof control && control.bytes[room] == 0x5A ? "kept" : "overrun");
}

static void local(int kind)
{
    int pair[2], one = 1;
    socketpair(AF_UNIX, kind, 0, pair);
    setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
    for (size_t room = 0; room <= 80; room++) {
        union { char bytes[CMSG_SPACE(12)]; struct cmsghdr align; } control = {.align = {CMSG_LEN(12), SOL_SOCKET, SCM_RIGHTS}};
        int fds[3] = {0, 1, 2};
        memcpy(CMSG_DATA(&control.align), fds, sizeof fds);
        struct iovec iov = {"x", 1};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        sendmsg(pair[0], &message, 0);
        received("local", pair[1], room);
    }
    close(pair[0]);
    close(pair[1]);
}

static void of_packets(void)
{
    int fd = socket(AF_INET6, SOCK_DGRAM, 0), one = 1;
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = sizeof address;
    bind(fd, (void *)&address, sizeof address);
    getsockname(fd, (void *)&address, &len);
    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &one, sizeof one);
    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &one, sizeof one);
    for (size_t room = 0; room <= 56; room++) {
        sendto(fd, "x", 1, 0, (void *)&address, sizeof address);
        received("packet", fd, room);
    }
    close(fd);
}

static void lite(int family)
{
    int fd = socket(family, SOCK_DGRAM, IPPROTO_UDPLITE), value = 20;
    socklen_t len = sizeof value;
    printf("lite %d: %d", family, setsockopt(fd, IPPROTO_UDPLITE, 10, &value, len));
    value = 0;
    printf(" %d", getsockopt(fd, IPPROTO_UDPLITE, 10, &value, &len));
    printf(" %d %d", value, getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &len));
    printf(" %d", value);
    errno = 0;
    printf(" %d %d\n", socket(family, SOCK_STREAM, IPPROTO_UDPLITE), errno);
    close(fd);
}

int main(void)
{
    local(SOCK_STREAM);
    local(SOCK_DGRAM);
    of_packets();
    lite(AF_INET);
    lite(AF_INET6);
    return 0;
}
