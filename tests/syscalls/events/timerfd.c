#include "events.h"

int main(void)
{
    uint64_t count = 0;
    struct itimerspec setting = {{0, 0}, {0, 50000000}}, old;
    SAY(timerfd_create(99, 0));
    SAY(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
    SAY(timerfd_create(CLOCK_MONOTONIC, 7));
    int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    for (int i = 0; i < 3; i++) {
        int fd = timerfd_create(clocks[i], TFD_NONBLOCK);
        SAY(read(fd, &count, 8));
        double start = now();
        SAY(timerfd_settime(fd, 0, &setting, &old));
        printf("old %ld %ld\n", old.it_value.tv_sec, old.it_value.tv_nsec);
        struct pollfd polled = {fd, POLLIN, 0};
        SAY(poll(&polled, 1, 5000));
        printf("after %s\n", near(now() - start, 0.049, 2));
        SAY(read(fd, &count, 4));
        SAY(read(fd, &count, 8));
        printf("count %lu\n", count);
        struct timespec at;
        clock_gettime(clocks[i], &at);
        at.tv_nsec += 30000000;
        if (at.tv_nsec >= 1000000000) {
            at.tv_nsec -= 1000000000;
            at.tv_sec++;
        }
        SAY(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &(struct itimerspec){{0, 0}, at}, NULL));
        SAY(poll(&polled, 1, 5000));
        SAY(read(fd, &count, 8));
        close(fd);
    }
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec often = {{0, 10000000}, {0, 1}};
    SAY(timerfd_settime(fd, 0, &often, NULL));
    pause_ms(105);
    SAY(read(fd, &count, 8));
    printf("ticks %s\n", near(count, 9, 60));
    SAY(read(fd, &count, 8));
    SAY(timerfd_gettime(fd, &old));
    printf("interval %ld, left %s\n", old.it_interval.tv_nsec, near(old.it_value.tv_nsec, 0, 10000000));
    SAY(timerfd_settime(fd, 0, &(struct itimerspec){0}, &old));
    SAY(timerfd_gettime(fd, &old));
    printf("off %ld\n", old.it_value.tv_nsec);
    SAY(timerfd_settime(fd, 0, &(struct itimerspec){{0, 0}, {0, 1000000000}}, NULL));
    SAY(timerfd_settime(fd, 0, &(struct itimerspec){{0, 0}, {-1, 0}}, NULL));
    SAY(timerfd_settime(fd, 8, &setting, NULL));
    SAY(timerfd_settime(0, 0, &setting, NULL));
    SAY(timerfd_gettime(99, &old));
    SAY(timerfd_settime(fd, 0, NULL, NULL));
    SAY(write(fd, &count, 8));
    // Edge-triggered: a tick is an event, whether or not the last one was read.
    int ep = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}, got;
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    SAY(timerfd_settime(fd, 0, &(struct itimerspec){{0, 0}, {0, 20000000}}, NULL));
    SAY(epoll_wait(ep, &got, 1, 5000));
    SAY(epoll_wait(ep, &got, 1, 20));
    return 0;
}
