// A pseudoterminal pair, and how its bytes are shown.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static __attribute__((unused)) int open_master(void) {
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), zero = 0;
    if (master < 0 || ioctl(master, TIOCSPTLCK, &zero)) { perror("ptmx"); exit(9); }
    return master;
}

static __attribute__((unused)) int open_slave(int master, int flags) {
    char name[64]; unsigned number;
    if (ioctl(master, TIOCGPTN, &number)) return -1;
    snprintf(name, sizeof name, "/dev/pts/%u", number);
    return open(name, flags);
}

static __attribute__((unused)) void show(const char *what, const char *bytes, ssize_t count) {
    printf("%s ", what);
    if (count < 0) { printf("%s\n", strerror(errno)); return; }
    printf("%zd \"", count);
    for (ssize_t at = 0; at < count; at++) {
        unsigned char c = bytes[at];
        if (c < 32 || c > 126 || c == '"') printf("\\x%02x", c); else putchar(c);
    }
    printf("\"\n");
}

// Waits until fd's line discipline has taken all that was written at the other end. The kernel moves it there by work of its own: poll(2) waits for
// that where nothing can be read yet, and FIONREAD for the part that is being taken (n_tty_poll and n_tty_ioctl in drivers/tty/n_tty.c).
static __attribute__((unused)) void settle(int fd) {
    struct pollfd poll_for = {.fd = fd, .events = POLLIN};
    int waiting;
    poll(&poll_for, 1, 0);
    ioctl(fd, FIONREAD, &waiting);
}

static ssize_t read_now(int fd, char *bytes, size_t room) {
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    ssize_t count = read(fd, bytes, room);
    int saved = errno;
    fcntl(fd, F_SETFL, flags);
    errno = saved;
    return count;
}

static __attribute__((unused)) void show_read(const char *what, int fd, size_t room) {
    char bytes[8192];
    settle(fd);
    show(what, bytes, read_now(fd, bytes, room));
}

// What a slave prints comes in pieces ("\r\n" is one of its own): all of them, as a read that finds nothing has waited for the rest.
static __attribute__((unused)) void show_all(const char *what, int fd) {
    char bytes[8192];
    ssize_t count = 0, more;
    while ((more = read_now(fd, bytes + count, sizeof bytes - count)) > 0) count += more;
    show(what, bytes, count ? count : more);
}

static __attribute__((unused)) void result(const char *what, long value) {
    printf("%s %ld%s%s\n", what, value, value < 0 ? " " : "", value < 0 ? strerror(errno) : "");
}
