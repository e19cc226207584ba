#include "events.h"

static int ep;

static void show(const char *what, int timeout)
{
    struct epoll_event got[8];
    int count = epoll_wait(ep, got, 8, timeout);
    printf("%s:", what);
    for (int i = 0; i < count; i++)
        printf(" %x/%d", got[i].events, (int)got[i].data.u32);
    printf(" (%d)\n", count);
}

static int ctl(int op, int fd, uint32_t events, int data)
{
    struct epoll_event event = {.events = events, .data.u32 = data};
    return epoll_ctl(ep, op, fd, &event);
}

int main(void)
{
    char buf[64];
    int p[2], q[2];
    SAY(epoll_create(0));
    SAY(epoll_create1(1));
    ep = epoll_create1(EPOLL_CLOEXEC);
    printf("cloexec %d\n", fcntl(ep, F_GETFD));
    SAY(pipe2(p, O_NONBLOCK));
    SAY(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
    SAY(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
    SAY(ctl(EPOLL_CTL_ADD, ep, EPOLLIN, 1));
    SAY(ctl(EPOLL_CTL_ADD, 99, EPOLLIN, 1));
    SAY(ctl(EPOLL_CTL_MOD, p[1], EPOLLIN, 1));
    SAY(ctl(EPOLL_CTL_DEL, p[1], EPOLLIN, 1));
    SAY(ctl(7, p[0], EPOLLIN, 1));
    SAY(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &(struct epoll_event){0}));
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], NULL));
    int dir = open("/", O_RDONLY), null = open("/dev/null", O_RDWR);
    SAY(ctl(EPOLL_CTL_ADD, dir, EPOLLIN, 1));
    SAY(ctl(EPOLL_CTL_ADD, null, EPOLLIN, 1));
    SAY(epoll_wait(ep, NULL, 0, 0));
    SAY(epoll_wait(ep, bad, INT32_MAX, 0));
    SAY(epoll_wait(p[0], (void *)buf, 1, 0));
    show("empty", 0);
    write(p[1], "abc", 3);
    show("level", 0);
    show("level again", 0);
    SAY(epoll_wait(ep, bad, 4, 0));
    show("level after EFAULT", 0);
    read(p[0], buf, 64);
    show("drained", 0);

    // Edge: one event per write, none for a read that leaves something.
    SAY(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 2));
    show("edge, nothing", 0);
    write(p[1], "abc", 3);
    show("edge", 0);
    show("edge again", 0);
    read(p[0], buf, 1);
    show("edge after part", 0);
    write(p[1], "d", 1);
    show("edge after more", 0);
    SAY(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 3));
    show("edge after MOD", 0);
    SAY(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 4));
    show("oneshot", 0);
    write(p[1], "e", 1);
    show("oneshot spent", 0);
    SAY(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 5));
    show("oneshot again", 0);
    SAY(ctl(EPOLL_CTL_DEL, p[0], 0, 0));
    read(p[0], buf, 64);

    // Write end: full, then drained.
    SAY(ctl(EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLET, 6));
    show("writable", 0);
    show("writable again", 0);
    char big[65536] = {0};
    printf("filled %zd\n", write(p[1], big, sizeof big));
    show("full", 0);
    char all[65536];
    printf("took %zd\n", read(p[0], all, sizeof all));
    show("writable after drain", 0);
    ctl(EPOLL_CTL_DEL, p[1], 0, 0);

    // The same file under two numbers, and removal with the last close of the description.
    int copy = dup(p[0]);
    SAY(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN, 7));
    SAY(ctl(EPOLL_CTL_ADD, copy, EPOLLIN, 8));
    write(p[1], "x", 1);
    show("two numbers", 0);
    int old = p[0];
    close(p[0]);
    show("one closed", 0);
    SAY(ctl(EPOLL_CTL_DEL, old, 0, 0));
    close(copy);
    show("both closed", 0);
    SAY(pipe2(q, 0));
    printf("reused %d\n", q[0] == old);
    SAY(ctl(EPOLL_CTL_ADD, q[0], EPOLLIN | EPOLLRDHUP, 9));
    close(q[1]);
    show("hang-up", 0);
    close(q[0]);
    show("nothing left", 10);

    // Fairness: with room for one event, each is told in turn.
    int e[3];
    for (int i = 0; i < 3; i++) {
        e[i] = eventfd(1, 0);
        ctl(EPOLL_CTL_ADD, e[i], EPOLLIN, 20 + i);
    }
    for (int i = 0; i < 6; i++) {
        struct epoll_event one;
        epoll_wait(ep, &one, 1, 0);
        printf("turn %d\n", (int)one.data.u32);
    }
    // EPOLLEXCLUSIVE
    int x = eventfd(0, 0);
    SAY(ctl(EPOLL_CTL_ADD, x, EPOLLIN | EPOLLEXCLUSIVE, 30));
    SAY(ctl(EPOLL_CTL_MOD, x, EPOLLIN, 30));
    SAY(ctl(EPOLL_CTL_MOD, e[0], EPOLLIN | EPOLLEXCLUSIVE, 30));
    SAY(ctl(EPOLL_CTL_ADD, 0, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 30));
    struct stat st;
    SAY(fstat(ep, &st));
    printf("mode %o\n", st.st_mode);
    SAY(read(ep, buf, 8));
    SAY(write(ep, buf, 8));
    SAY(lseek(ep, 0, SEEK_SET));
    return 0;
}
