/* link(2) of what is somebody else's, and rename(2) between a directory and what lies in it: which error comes first. */
#include "check.h"
#include <sys/fsuid.h>

static int exchange(const char *from, const char *to) { return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 2); }

static void links(const char *who)
{
    puts(who);
    mkdir("to", 0777);
    chmod("to", 0777);
    T(link("directory", "to/a"));
    T(link("readable", "to/b"));
    T(link("writable", "to/c"));
    T(link("group", "to/d"));
    T(link("setuid", "to/e"));
    T(link("setgid", "to/f"));
    T(link("fifo", "to/g"));
    T(link("symbolic", "to/h"));
    T(link("own", "to/i"));
    T(link("readable", "to/i"));
    T(link("readable", "closed/j"));
    T(link("writable", "closed/j"));
    T(link("directory", "closed/j"));
    T(link("own", "closed/j"));
}

static void renames(void)
{
    T(rename("x", "x/y/z"));
    T(rename("x", "x/new"));
    T(rename("x/y", "x"));
    T(rename("x/y/z", "x"));
    T(rename("x/file", "x"));
    T(exchange("x", "x/y"));
    T(exchange("x/y", "x"));
    T(exchange("x/file", "x"));
    T(exchange("x", "x/file"));
    T(exchange("x/y", "x/none"));
    T(exchange("x/file", "x/y/"));
    T(exchange("x/file/", "x/y"));
    T(exchange("x/y", "x/file/"));
    T(exchange("x/y/", "x/file"));
    T(exchange("xy", "x"));
    T(exchange("x", "xy"));
    T(rename("x/y", "xy/y"));
    T(rename("xy/y", "x/y"));
}

int main(void)
{
    own_directory();
    chmod(".", 0755);
    mkdir("directory", 0777);
    mkdir("closed", 0755);
    make("readable", 0644);
    make("writable", 0666);
    make("group", 0676);
    make("setuid", 04666);
    make("setgid", 02676);
    make("own", 0600);
    mkfifo("fifo", 0666);
    chmod("fifo", 0666);
    symlink("own", "symbolic");
    chown("own", 1000, 1000);
    mkdir("x", 0755), mkdir("x/y", 0755), mkdir("x/y/z", 0755), mkdir("xy", 0755);
    make("x/file", 0644);
    puts("as root");
    renames();
    setfsgid(1000);
    setfsuid(1000);
    puts("as somebody");
    renames();
    setfsuid(0);
    mkdir("to", 0777);
    chmod("to", 0777);
    setfsuid(1000);
    links("as somebody");
    return 0;
}
