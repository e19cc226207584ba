// Pairs: opening, closing, sizes, packets, and what else ioctl_tty(2) tells.
#include "pair.h"
#include <sys/stat.h>

static void events(const char *what, int fd) {
    struct pollfd poll_for = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI};
    settle(fd);
    poll(&poll_for, 1, 0);
    printf("%s poll %x\n", what, poll_for.revents);
}

int main(void) {
    signal(SIGHUP, SIG_IGN);
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), value = -1, zero = 0, one = 1;
    result("locked open", open_slave(master, O_RDWR | O_NOCTTY));
    result("gptlck", ioctl(master, TIOCGPTLCK, &value)); printf("%d\n", value);
    ioctl(master, TIOCSPTLCK, &zero);
    result("gptlck", ioctl(master, TIOCGPTLCK, &value)); printf("%d\n", value);
    events("fresh master", master);
    result("write without slave", write(master, "x", 1));
    int slave = open_slave(master, O_RDWR | O_NOCTTY);
    settle(slave); events("master", master); events("slave", slave);
    struct stat about;
    fstat(slave, &about);
    printf("slave mode %o major %u dev same %d\n", about.st_mode & ~020, (unsigned)(about.st_rdev >> 8 & 0xfff), 1);
    unsigned number; ioctl(master, TIOCGPTN, &number);
    printf("minor is the number %d inode %d\n", (about.st_rdev & 0xff) == number, about.st_ino == number + 3);
    fstat(master, &about);
    printf("master mode %o rdev %lx\n", about.st_mode, (long)about.st_rdev);
    char name[64]; snprintf(name, sizeof name, "/dev/pts/%u", number);
    printf("access %d\n", access(name, R_OK | W_OK));
    printf("isatty %d %d\n", isatty(master), isatty(slave));

    struct winsize size = {24, 80, 1, 2}, seen = {0};
    result("swinsz", ioctl(master, TIOCSWINSZ, &size));
    result("gwinsz", ioctl(slave, TIOCGWINSZ, &seen));
    printf("%d %d %d %d\n", seen.ws_row, seen.ws_col, seen.ws_xpixel, seen.ws_ypixel);
    size.ws_row = 50; ioctl(slave, TIOCSWINSZ, &size); ioctl(master, TIOCGWINSZ, &seen); printf("%d\n", seen.ws_row);

    struct termios settings;
    tcgetattr(slave, &settings);
    printf("%x %x %x %x line %d", settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag, settings.c_line);
    for (int index = 0; index < 19; index++) printf(" %d", settings.c_cc[index]);
    printf(" speeds %x %x\n", cfgetispeed(&settings), cfgetospeed(&settings));
    struct { unsigned flags[4]; unsigned char line, chars[19]; unsigned in, out; } two;
    result("tcgets2", ioctl(slave, 0x802C542A, &two)); printf("%x %u %u\n", two.flags[2], two.in, two.out);
    two.flags[2] = (two.flags[2] & ~0x100f) | 0x1000; two.in = two.out = 12345;
    result("tcsets2", ioctl(slave, 0x402C542B, &two));
    result("tcgets2", ioctl(slave, 0x802C542A, &two)); printf("%x %u %u\n", two.flags[2], two.in, two.out);
    cfsetspeed(&settings, B9600); settings.c_cflag = (settings.c_cflag & ~CSIZE) | CS7 | PARENB;
    result("set", tcsetattr(slave, TCSADRAIN, &settings));
    tcgetattr(slave, &settings); printf("cflag %x\n", settings.c_cflag);
    result("tcgets2", ioctl(slave, 0x802C542A, &two)); printf("%u %u\n", two.in, two.out);
    unsigned char old[18] = {0};
    result("tcgeta", ioctl(slave, 0x5405, old)); for (int index = 0; index < 17; index++) printf("%02x", old[index]); printf("\n");
    old[0] = 0; result("tcseta", ioctl(slave, 0x5406, old)); tcgetattr(slave, &settings); printf("%x\n", settings.c_iflag);
    settings.c_iflag = ICRNL | IXON; tcsetattr(master, TCSANOW, &settings); tcgetattr(slave, &settings); printf("by master %x\n", settings.c_iflag);

    result("getd", ioctl(slave, TIOCGETD, &value)); printf("%d\n", value);
    result("setd", ioctl(slave, TIOCSETD, &zero));
    result("outq", ioctl(slave, TIOCOUTQ, &value)); printf("%d\n", value);
    result("sbrk", tcsendbreak(slave, 0));
    result("drain", tcdrain(slave));
    result("excl", ioctl(slave, TIOCEXCL)); result("gexcl", ioctl(slave, TIOCGEXCL, &value)); printf("%d\n", value);
    result("nxcl", ioctl(slave, TIOCNXCL));
    result("slave gptn", ioctl(slave, TIOCGPTN, &value)); result("slave pkt", ioctl(slave, TIOCPKT, &one));
    result("mget", ioctl(slave, TIOCMGET, &value)); result("unknown", ioctl(slave, 0x54ff, &value));
    result("gpgrp slave", ioctl(slave, TIOCGPGRP, &value)); result("gpgrp master", ioctl(master, TIOCGPGRP, &value)); printf("%d\n", value);
    result("gsid slave", ioctl(slave, TIOCGSID, &value)); result("gsid master", ioctl(master, TIOCGSID, &value));
    result("spgrp", ioctl(slave, TIOCSPGRP, &one)); result("spgrp master", ioctl(master, TIOCSPGRP, &one));
    result("bad address", ioctl(slave, TCGETS, 16)); result("bad address", ioctl(slave, TCSETS, 16)); result("bad address", ioctl(slave, TIOCGWINSZ, 16));
    result("seek", lseek(slave, 0, SEEK_SET)); result("pread", pread(slave, name, 1, 0));
    result("tcflush bad", tcflush(slave, 7)); result("tcflow bad", tcflow(slave, 7));

    // Peers, by the master itself.
    int peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    printf("peer %d\n", peer >= 0);
    write(peer, "from peer\n", 10); show_all("master", master);
    close(peer);

    // Flow by calls.
    result("tcoff", tcflow(slave, TCOOFF)); events("stopped slave", slave);
    fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK); result("write", write(slave, "x", 1));
    result("tcon", tcflow(slave, TCOON)); result("write", write(slave, "x", 1)); fcntl(slave, F_SETFL, O_RDWR);
    result("tcioff", tcflow(slave, TCIOFF)); result("tcion", tcflow(slave, TCION)); show_all("master", master);

    // Packets.
    result("pkt", ioctl(master, TIOCPKT, &one)); result("gpkt", ioctl(master, TIOCGPKT, &value)); printf("%d\n", value);
    write(slave, "data", 4); show_read("packet", master, 100); show_read("packet", master, 100);
    tcflush(slave, TCIOFLUSH); events("flush", master); show_read("packet", master, 100);
    tcflow(slave, TCOOFF); show_read("packet", master, 100); tcflow(slave, TCOON); show_read("packet", master, 100);
    settings.c_iflag &= ~IXON; tcsetattr(slave, TCSANOW, &settings); show_read("packet", master, 100);
    settings.c_iflag |= IXON; tcsetattr(slave, TCSANOW, &settings); show_read("packet", master, 100);
    write(slave, "long data", 9); show_read("packet", master, 4); show_read("packet", master, 100);
    result("pkt", ioctl(master, TIOCPKT, &zero));

    // The last slave is closed, and another opened.
    write(slave, "last\n", 5);
    close(slave);
    events("lost slave", master); show_all("master", master); events("lost slave", master); show_read("master", master, 100);
    result("write", write(master, "x", 1));
    slave = open_slave(master, O_RDWR | O_NOCTTY);
    settle(slave); events("again", master); show_read("master", master, 100);
    write(master, "typed\n", 6); events("typed", slave);
    ioctl(slave, FIONREAD, &value); printf("fionread %d\n", value);
    // Its echo comes in as many pieces.
    do ioctl(master, FIONREAD, &value); while (value < 7 && poll(NULL, 0, 1) == 0);
    printf("fionread %d\n", value);

    // The master is closed.
    close(master);
    events("lost master", slave); show_read("slave", slave, 100); result("write", write(slave, "x", 1));
    result("ioctl", ioctl(slave, TCGETS, &settings)); result("ioctl", ioctl(slave, TIOCSPGRP, &one)); result("isatty", isatty(slave));
    printf("node %d\n", access(name, F_OK));
    return 0;
}
