// What is typed at a master: its echo, and what the slave reads; and what becomes of what is printed.
#include "pair.h"

struct { const char *name; unsigned iflag_on, iflag_off, oflag_on, oflag_off, lflag_on, lflag_off; const char *typed; int len; } cases[] = {
#define T(text) text, sizeof text - 1
    {"line", 0, 0, 0, 0, 0, 0, T("hello\nmore\n")},
    {"cr", 0, 0, 0, 0, 0, 0, T("a\rb\n")},
    {"igncr", IGNCR, 0, 0, 0, 0, 0, T("a\rb\n")},
    {"inlcr", INLCR, ICRNL, 0, 0, 0, 0, T("a\nb\r\x04")},
    {"erase", 0, 0, 0, 0, 0, 0, T("abc\x7f\x7fxy\n")},
    {"erase control", 0, 0, 0, 0, 0, 0, T("a\x01\x7f\x7f\x7fxy\n")},
    {"erase tab", 0, 0, 0, 0, 0, 0, T("ab\tc\x7f\x7f" "d\n")},
    {"erase two tabs", 0, 0, 0, 0, 0, 0, T("ab\tcd\t\x7f\x7f\x7f\x7f" "e\n")},
    {"kill", 0, 0, 0, 0, 0, 0, T("abc def\x15xy\n")},
    {"kill without echoke", 0, 0, 0, 0, 0, ECHOKE, T("abc def\x15xy\n")},
    {"kill without echok", 0, 0, 0, 0, 0, ECHOKE | ECHOK, T("abc def\x15xy\n")},
    {"kill without echo", 0, 0, 0, 0, 0, ECHO, T("abc def\x15xy\n")},
    {"word", 0, 0, 0, 0, 0, 0, T("abc def_1  \x17xy\n")},
    {"words", 0, 0, 0, 0, 0, 0, T("a.b c\x17\x17\x17z\n")},
    {"word without iexten", 0, 0, 0, 0, 0, IEXTEN, T("abc def\x17xy\n")},
    {"echoprt", 0, 0, 0, 0, ECHOPRT, 0, T("abc\x7f\x7fxy\n")},
    {"no echoe", 0, 0, 0, 0, 0, ECHOE, T("abc\x7fxy\n")},
    {"no echoctl", 0, 0, 0, 0, 0, ECHOCTL, T("a\x01\x7f" "b\n")},
    {"no echo", 0, 0, 0, 0, 0, ECHO, T("secret\n")},
    {"echonl", 0, 0, 0, 0, ECHONL, ECHO, T("secret\n")},
    {"literal", 0, 0, 0, 0, 0, 0, T("a\x16\x7f\x16\x03\x16\nb\n")},
    {"reprint", 0, 0, 0, 0, 0, 0, T("ab\x01\x12" "c\n")},
    {"eof", 0, 0, 0, 0, 0, 0, T("part\x04")},
    {"empty eof", 0, 0, 0, 0, 0, 0, T("\x04")},
    {"eof then line", 0, 0, 0, 0, 0, 0, T("a\x04" "b\n")},
    {"utf8", IUTF8, 0, 0, 0, 0, 0, T("a\xc3\xa4\xe2\x82\xac\x7f\x7f" "b\n")},
    {"not utf8", 0, IUTF8, 0, 0, 0, 0, T("a\xc3\xa4\x7f" "b\n")},
    {"istrip", ISTRIP, 0, 0, 0, 0, 0, T("\xe1\xe2\n")},
    {"iuclc", IUCLC, 0, 0, 0, 0, 0, T("ABC\n")},
    {"stopped", 0, 0, 0, 0, 0, 0, T("a\x13" "b\x11" "c\n")},
    {"no ixon", 0, IXON, 0, 0, 0, 0, T("a\x13" "b\x11" "c\n")},
    {"ixany", IXANY, 0, 0, 0, 0, 0, T("a\x13" "bc\n")},
    {"raw", 0, 0, 0, 0, 0, ICANON | ECHO | ISIG, T("a\x7f\x03\x04\n")},
    {"raw with echo", 0, 0, 0, 0, 0, ICANON | ISIG, T("a\x7f\x03\x04\rb")},
    {"newline in raw echo", 0, 0, 0, 0, 0, ICANON | ISIG, T("a\nb\r")},
    {"interrupt drops", 0, 0, 0, 0, 0, 0, T("abc\x03xy\n")},
    {"noflsh", 0, 0, 0, 0, NOFLSH, 0, T("abc\x03xy\n")},
    {"quit and suspend", 0, 0, 0, 0, NOFLSH, 0, T("a\x1c\x1a" "b\n")},
    {"parmrk", PARMRK, 0, 0, 0, 0, 0, T("a\xff\n")},
    {"no opost", 0, 0, 0, OPOST, 0, 0, T("a\tb\nc\n")},
    {"ocrnl", 0, ICRNL, OCRNL, 0, 0, 0, T("a\rb\n")},
    {"onocr", 0, ICRNL, ONOCR, 0, 0, 0, T("\ra\r\n")},
    {"xtabs", 0, 0, XTABS, 0, 0, 0, T("a\tb\n")},
    {"olcuc", 0, 0, OLCUC, 0, 0, 0, T("abc\n")},
    {"onlret", 0, 0, ONLRET, ONLCR, 0, 0, T("ab\n\tc\n")},
};

static void print_case(unsigned flags, unsigned off, const char *text, int len) {
    int master = open_master(), slave = open_slave(master, O_RDWR | O_NOCTTY);
    struct termios settings;
    tcgetattr(slave, &settings);
    settings.c_oflag = (settings.c_oflag & ~off) | flags;
    tcsetattr(slave, TCSANOW, &settings);
    result("write", write(slave, text, len));
    show_all("printed", master);
    close(slave); close(master);
}

int main(void) {
    for (unsigned index = 0; index < sizeof cases / sizeof *cases; index++) {
        int master = open_master(), slave = open_slave(master, O_RDWR | O_NOCTTY);
        struct termios settings;
        tcgetattr(slave, &settings);
        settings.c_iflag = (settings.c_iflag & ~cases[index].iflag_off) | cases[index].iflag_on;
        settings.c_oflag = (settings.c_oflag & ~cases[index].oflag_off) | cases[index].oflag_on;
        settings.c_lflag = (settings.c_lflag & ~cases[index].lflag_off) | cases[index].lflag_on;
        tcsetattr(slave, TCSANOW, &settings);
        printf("-- %s\n", cases[index].name);
        result("typed", write(master, cases[index].typed, cases[index].len));
        settle(slave);
        show_all("echo", master);
        int waiting = -1;
        ioctl(slave, FIONREAD, &waiting);
        printf("waiting %d\n", waiting);
        show_read("read", slave, 3);
        show_read("read", slave, 100);
        show_read("read", slave, 100);
        close(slave);
        close(master);
    }
    // Exactly a line's room: VEOF behind it is used up with it.
    int master = open_master(), slave = open_slave(master, O_RDWR | O_NOCTTY);
    write(master, "abc\x04" "de\n", 7);
    settle(slave);
    show_read("exact", slave, 3);
    show_read("after", slave, 10);
    // An overlong line is cut, and can be ended.
    char *many = malloc(5000);
    memset(many, 'x', 5000);
    struct termios settings;
    tcgetattr(slave, &settings);
    settings.c_lflag &= ~ECHO;
    tcsetattr(slave, TCSANOW, &settings);
    result("long", write(master, many, 5000));
    write(master, "y\n", 2);
    settle(slave);
    char *back = malloc(8192);
    ssize_t count = read(slave, back, 8192);
    printf("long line %zd %c\n", count, back[count - 2]);
    // Settings change while something is there.
    write(master, "half", 4);
    settle(slave);
    settings.c_lflag &= ~ICANON;
    tcsetattr(slave, TCSANOW, &settings);
    show_read("became raw", slave, 2);
    settings.c_lflag |= ICANON;
    tcsetattr(slave, TCSANOW, &settings);
    show_read("became lines", slave, 10);
    write(master, "gone\n", 5);
    settle(slave);
    tcsetattr(slave, TCSAFLUSH, &settings);
    show_read("flushed", slave, 10);
    print_case(0, 0, "a\tb\nc\rd\n", 8);
    print_case(XTABS, 0, "ab\tb\n\tc\n", 8);
    print_case(OCRNL, 0, "ab\rc\n", 5);
    print_case(ONOCR, 0, "\rab\rc\n", 6);
    print_case(0, ONLCR, "ab\nc\n", 5);
    print_case(OLCUC, 0, "ab\n", 3);
    print_case(XTABS, 0, "\xc3\xa4\x08\b\ta\n", 7);
    return 0;
}
