#include "events.h"

static int add(int set, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
}

static int ready(int set)
{
    struct epoll_event got[4];
    return epoll_wait(set, got, 4, 0);
}

static void *later(void *fd)
{
    pause_ms(50);
    eventfd_write(*(int *)fd, 1);
    return NULL;
}

int main(void)
{
    int set[8];
    for (int i = 0; i < 8; i++)
        set[i] = epoll_create1(0);
    int event = eventfd(0, 0);
    SAY(add(set[0], set[1], EPOLLIN));
    SAY(add(set[1], event, EPOLLIN));
    SAY(ready(set[0]));
    SAY(eventfd_write(event, 1));
    SAY(ready(set[0]));
    SAY(ready(set[1]));
    struct pollfd polled = {set[0], POLLIN | POLLOUT, 0};
    SAY(poll(&polled, 1, 0));
    printf("revents %x\n", polled.revents);
    eventfd_t value;
    SAY(eventfd_read(event, &value));
    SAY(ready(set[0]));
    SAY(poll(&polled, 1, 0));
    // A chain that grows downward.
    SAY(add(set[1], set[0], EPOLLIN));
    for (int i = 1; i < 7; i++)
        printf("down %d: %d %d\n", i, add(set[i], set[i + 1], EPOLLIN), errno);
    int up[8];
    for (int i = 0; i < 8; i++)
        up[i] = epoll_create1(0);
    for (int i = 6; i >= 0; i--)
        printf("up %d: %d %d\n", i, add(up[i], up[i + 1], EPOLLIN), errno);
    pthread_t thread;
    pthread_create(&thread, NULL, later, &event);
    struct epoll_event got;
    SAY(epoll_wait(set[0], &got, 1, 5000));
    pthread_join(thread, NULL);
    // Edge-triggered on an inner set.
    int outer = epoll_create1(0);
    SAY(add(outer, set[1], EPOLLIN | EPOLLET));
    SAY(ready(outer));
    SAY(ready(outer));
    SAY(eventfd_write(event, 1));
    SAY(ready(outer));
    return 0;
}
