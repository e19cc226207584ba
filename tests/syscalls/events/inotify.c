#include "events.h"

static int fd;

static void show(const char *what)
{
    char buf[4096] __attribute__((aligned(8)));
    struct pollfd polled = {fd, POLLIN, 0};
    int ready = poll(&polled, 1, 20), waiting = 0;
    ioctl(fd, FIONREAD, &waiting);
    ssize_t len = ready ? read(fd, buf, sizeof buf) : 0;
    printf("%s: %d, as many as said %d\n", what, ready, len == waiting);
    for (char *at = buf; at < buf + len;) {
        struct inotify_event *event = (void *)at;
        printf("  %d %x %d %s\n", event->wd, event->mask, event->cookie != 0, event->len ? event->name : "");
        at += sizeof *event + event->len;
    }
}

int main(void)
{
    char place[] = "/tmp/eventsXXXXXX", path[64], buf[8];
    mkdtemp(place);
    chdir(place);
    SAY(inotify_init1(3));
    fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    printf("flags %x\n", fcntl(fd, F_GETFL));
    SAY(read(fd, buf, 8));
    SAY(inotify_add_watch(fd, ".", IN_ALL_EVENTS));
    SAY(inotify_add_watch(fd, "missing", IN_ALL_EVENTS));
    SAY(inotify_add_watch(fd, ".", 0));
    SAY(inotify_add_watch(0, ".", IN_CREATE));
    SAY(inotify_add_watch(99, ".", IN_CREATE));
    SAY(inotify_add_watch(fd, bad, IN_CREATE));
    int file = open("one", O_CREAT | O_WRONLY, 0600);
    show("create");
    write(file, "x", 1);
    close(file);
    SAY(read(fd, buf, 8));
    show("write and close");
    SAY(inotify_add_watch(fd, "one", IN_ATTRIB | IN_DELETE_SELF | IN_ONLYDIR));
    SAY(inotify_add_watch(fd, "one", IN_ATTRIB | IN_DELETE_SELF));
    rename("one", "two");
    show("rename");
    symlink("two", "link");
    SAY(inotify_add_watch(fd, "link", IN_ATTRIB | IN_DONT_FOLLOW));
    show("symlink");
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}, got;
    SAY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    SAY(epoll_wait(set, &got, 1, 0));
    unlink("two");
    SAY(epoll_wait(set, &got, 1, 1000));
    show("unlink");
    SAY(inotify_rm_watch(fd, 1));
    SAY(inotify_rm_watch(fd, 1));
    SAY(inotify_rm_watch(0, 1));
    show("removed");
    unlink("link");
    snprintf(path, sizeof path, "%s", place);
    chdir("/");
    rmdir(path);
    return 0;
}
