/* Ids and capabilities, and what they decide about files, for a root with the capabilities that docker gives. */
#include "check.h"
#include <grp.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>

#define DOCKER ((1ul << 0) | (1 << 1) | (1 << 3) | (1 << 4) | (1 << 5) | (1 << 6) | (1 << 7) | (1 << 8) | (1 << 10) | (1 << 13) | (1 << 18) | (1 << 27) | (1 << 29) | (1ul << 31))

static void capabilities(void) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2];
    syscall(SYS_capget, &h, d);
    printf("  eff %x %x perm %x %x inh %x %x keep %d bits %x\n", d[0].effective, d[1].effective, d[0].permitted, d[1].permitted, d[0].inheritable, d[1].inheritable, prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0), prctl(PR_GET_SECUREBITS));
}

static void who(void) {
    unsigned u[3], g[3], list[64];
    getresuid(u, u + 1, u + 2); getresgid(g, g + 1, g + 2);
    int n = getgroups(64, list);
    printf("  uid %d %d %d %d gid %d %d %d %d groups", u[0], u[1], u[2], setfsuid(-1), g[0], g[1], g[2], setfsgid(-1));
    for (int i = 0; i < n; i++) printf(" %d", list[i]);
    printf(" dumpable %d\n", prctl(PR_GET_DUMPABLE));
    capabilities();
}

static int set(unsigned effective, unsigned permitted, unsigned inheritable) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {{effective, permitted, inheritable}};
    return syscall(SYS_capset, &h, d);
}

#define CHILD(...) do { fflush(stdout); if (!fork()) { __VA_ARGS__; fflush(stdout); _exit(0); } int st_; wait(&st_); printf("  = %x\n", st_); } while (0)

static char self[64];
static void run(const char *path) { execl(path, path, "show", NULL); printf("exec: %s\n", strerrorname_np(errno)); }

int main(int argc, char **argv) {
    if (argc > 1) { who(); printf("  secure %ld uid %ld euid %ld\n", getauxval(AT_SECURE), getauxval(AT_UID), getauxval(AT_EUID)); return 0; }
    for (int c = 0; c < 41; c++) if (!(DOCKER >> c & 1)) prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
    set(DOCKER, DOCKER, 0);
    unsigned none[] = {0}; setgroups(0, none);
    strcpy(self, argv[0]);
    own_directory();
    chmod(".", 0755);
    who();
    CHILD(T(setuid(1000)); who(); T(setuid(0)); T(seteuid(0)); T(setgid(5)));
    CHILD(T(seteuid(1000)); who(); T(seteuid(0)); who());
    CHILD(T(setreuid(1000, 2000)); who(); T(setreuid(-1, 1000)); T(setreuid(0, -1)); who());
    CHILD(T(setresuid(1, 2, 3)); who(); T(setresuid(3, 1, 2)); T(setresuid(4, -1, -1)); who());
    CHILD(T(setresuid(-1, 2, 0)); who(); T(setresuid(0, 0, 0)); who());
    CHILD(T(setgid(7)); T(setegid(8)); who(); T(setregid(9, -1)); who(); T(setresgid(1, 2, 3)); who());
    CHILD(T(setfsuid(5)); who(); T(setfsuid(0)); who(); T(setfsgid(9)); who());
    CHILD(T(setuid(-1)); T(setgid(-1)); unsigned g[] = {9, 3, 7}; T(setgroups(3, g)); who(); T(getgroups(2, g)); T(getgroups(0, g)); T(getgroups(-1, g)); T(setgroups(70000, g)); T(setuid(5)); T(setgroups(0, g)));
    CHILD(T(prctl(PR_SET_KEEPCAPS, 1)); T(setuid(1000)); who(); T(set(0xff, 0xff, 0)); who(); run(self));
    CHILD(T(set(0xff, 0xff, 0xf)); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0)); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 9, 0, 0)); T(prctl(PR_SET_KEEPCAPS, 1)); T(setuid(1000)); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0)); T(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 1, 0, 0)); who(); run(self));
    CHILD(T(set(0x1, 0x3, 0)); who(); T(set(0x7, 0x7, 0)); T(set(0x3, 0x1, 0)); T(set(0, 0, 0x4)); T(set(0, 0, 0x1)); who(); run(self));
    CHILD(T(prctl(PR_CAPBSET_DROP, 0)); T(prctl(PR_CAPBSET_READ, 0)); T(prctl(PR_CAPBSET_READ, 63)); T(prctl(PR_CAPBSET_DROP, 63)); run(self));
    CHILD(T(prctl(PR_SET_SECUREBITS, 0x15)); who(); run(self));
    CHILD(T(prctl(PR_SET_SECUREBITS, 0x2)); T(prctl(PR_SET_SECUREBITS, 0x1)); T(prctl(PR_SET_SECUREBITS, 0x0)); T(prctl(PR_SET_SECUREBITS, 0x100)); T(prctl(PR_SET_SECUREBITS, 0x4)); T(setuid(5)); who());
    CHILD(T(seteuid(1000)); run(self));
    CHILD(T(setuid(1000)); run(self));
    /* files */
    make("f", 0640); make("g", 0660); mkdir("private", 0700); make("private/x", 0666); mkdir("sticky", 01777); chmod("sticky", 01777); make("sticky/root", 0666); mkdir("sgid", 0777); chown("sgid", 0, 50); chmod("sgid", 02777); mkdir("open", 0777); chmod("open", 0777);
    T(chown("g", 0, 77)); T(chown("f", 5, 6)); show("f"); T(chmod("f", 06755)); T(chown("f", 0, 0)); show("f");
    unsigned groups[] = {77}; setgroups(1, groups);
    CHILD(T(setgid(1000)); T(setuid(1000));
        OK(open("f", O_RDONLY)); chmod("f", 0); OK(open("g", O_RDWR)); OK(open("private/x", O_RDONLY)); show("private/x"); T(access("g", R_OK | W_OK)); T(access("private", X_OK));
        T(unlink("sticky/root")); T(rename("sticky/root", "sticky/r")); OK(creat("sticky/mine", 0666)); show("sticky/mine"); T(unlink("sticky/mine"));
        OK(creat("open/a", 06777)); show("open/a"); T(mkdir("open/d", 0777)); show("open/d"); T(symlink("x", "open/l")); show("open/l"); T(mknod("open/p", S_IFIFO | 0666, 0)); show("open/p");
        OK(creat("sgid/a", 0666)); show("sgid/a"); T(mkdir("sgid/d", 0777)); show("sgid/d"); OK(creat("sgid/x", 02777)); show("sgid/x");
        T(chmod("g", 0666)); T(chmod("open/a", 02755)); show("open/a"); T(chown("open/a", 1000, 77)); show("open/a"); T(chown("open/a", 1000, 78)); T(chown("open/a", 0, -1)); T(chmod("open/a", 02755)); show("open/a");
        T(utimes("g", NULL)); struct timeval tv[2] = {{1, 1}, {2, 2}}; T(utimes("g", tv)); T(utimes("f", NULL)); T(truncate("f", 0)); T(truncate("g", 0)); T(chdir("private")); T(chroot("open")); T(setxattr("g", "user.a", "1", 1, 0)); T(setxattr("f", "user.a", "1", 1, 0)); T(link("open/a", "open/a2")); OK(open("g", O_RDONLY | O_NOATIME)); T(mkdir("private/y", 0777)); T(rmdir("private")); T(unlink("f")); T(rename("open/a", "a")); T(kill(getppid(), 0)); T(sethostname("x", 1)));
    CHILD(T(setfsuid(1000)); OK(open("f", O_RDONLY)); OK(open("private/x", O_RDONLY)); OK(creat("open/fs", 0600)); show("open/fs"));
    CHILD(set(0, 0, 0); OK(open("private/x", O_RDONLY)); T(chown("open/a", 0, 0)); T(chmod("open/a", 0)); T(unlink("open/l")));
    CHILD(T(chroot("open")); T(chdir("/")); OK(open("a", O_RDONLY)); OK(open("../a", O_RDONLY)); OK(open("/../../a", O_RDONLY)); OK(open("../f", O_RDONLY)); T(symlink("/a", "la")); OK(open("la", O_RDONLY)); OK(open("/proc", O_RDONLY)); char b[99]; T(syscall(SYS_getcwd, b, 99)); puts(b));
    CHILD(T(chroot("open")); OK(open("../f", O_RDONLY)); OK(open("/../f", O_RDONLY)); char b[99]; T(syscall(SYS_getcwd, b, 99) > 0); T(strncmp(b, "(unreachable)", 13)));
    CHILD(T(mknod("open/dev", S_IFBLK | 0600, 0x700) * 0));
    /* set-id programs: copies of this one */
    char copy[200]; sprintf(copy, "cp %s open/prog", self); 
    int in = open(self, O_RDONLY), out = open("open/prog", O_CREAT | O_WRONLY, 0755); static char data[1 << 16]; int n; while ((n = read(in, data, sizeof data)) > 0) write(out, data, n); close(out); close(in);
    T(chown("open/prog", 3, 4)); T(chmod("open/prog", 06755)); show("open/prog");
    CHILD(T(setgid(1000)); T(setuid(1000)); run("open/prog"));
    CHILD(run("open/prog"));
    CHILD(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); T(setuid(1000)); run("open/prog"));
    T(chown("open/prog", 0, 0)); T(chmod("open/prog", 04755));
    CHILD(T(setgid(1000)); T(setuid(1000)); run("open/prog"));
    T(chmod("open/prog", 02745));
    CHILD(T(setgid(1000)); T(setuid(1000)); run("open/prog"));
    T(chmod("open/prog", 0700));
    CHILD(T(setuid(1000)); run("open/prog"));
    return 0;
}
