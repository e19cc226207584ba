#include "events.h"

static int event, other_result;
static eventfd_t other;

static void *reader(void *unused)
{
    pause_ms(60);
    other_result = eventfd_read(event, &other);
    return NULL;
}

static int readable(int fd)
{
    struct pollfd polled = {fd, POLLIN | POLLOUT | POLLERR, 0};
    poll(&polled, 1, 0);
    return polled.revents;
}

int main(void)
{
    uint64_t value = 0;
    char small[4], big[16] = {5};
    SAY(eventfd(0, 0x1000));
    event = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC);
    printf("flags %x %x\n", fcntl(event, F_GETFL), fcntl(event, F_GETFD));
    printf("poll %x\n", readable(event));
    SAY(read(event, small, 4));
    SAY(read(event, &value, 8));
    printf("value %lu\n", value);
    SAY(read(event, &value, 8));
    SAY(write(event, small, 4));
    SAY(write(event, big, 16));
    SAY(read(event, big, 16));
    printf("first %d\n", big[0]);
    value = UINT64_MAX;
    SAY(write(event, &value, 8));
    value = UINT64_MAX - 1;
    SAY(write(event, &value, 8));
    printf("poll %x\n", readable(event));
    value = 1;
    SAY(write(event, &value, 8));
    value = 0;
    SAY(write(event, &value, 8));
    SAY(write(event, bad, 8));
    SAY(read(event, bad, 8));
    printf("poll %x\n", readable(event));
    int count = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
    for (int i = 0; i < 4; i++)
        SAY(read(count, &value, 8));
    // Blocking write at the limit, and a blocking read.
    event = eventfd(0, 0);
    value = UINT64_MAX - 1;
    write(event, &value, 8);
    pthread_t thread;
    pthread_create(&thread, NULL, reader, NULL);
    value = 7;
    double start = now();
    SAY(write(event, &value, 8));
    printf("waited %s\n", near(now() - start, 0.05, 5));
    pthread_join(thread, NULL);
    printf("other thread read %d %llx\n", other_result, (unsigned long long)other);
    SAY(read(event, &value, 8));
    printf("value %lu\n", value);
    SAY(lseek(event, 0, SEEK_SET));
    SAY(pread(event, &value, 8, 0));
    return 0;
}
