/* Modes, owners, times, sizes, nodes, extended attributes: without capabilities. */
#include "check.h"

static void times_of(const char *path) {
    struct stat s;
    lstat(path, &s);
    printf("%s: %ld.%09ld %ld.%09ld\n", path, s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
}

static volatile int exceeded;
static void on_limit(int s) { (void)s; exceeded++; }

int main(void) {
    drop_capabilities();
    own_directory();
    make("f", 0644); mkdir("d", 0755); symlink("f", "l"); symlink("none", "dl");
    /* sizes */
    T(truncate("f", 100)); show("f");
    T(truncate("f", -1)); T(truncate("d", 0)); T(truncate("l", 3)); show("f"); T(truncate("none", 0)); T(truncate("dl", 0));
    int r = open("f", O_RDONLY), w = open("f", O_RDWR), d = open("d", O_RDONLY);
    T(ftruncate(r, 1)); T(ftruncate(w, 10)); T(ftruncate(d, 1)); T(ftruncate(99, 1)); T(ftruncate(w, -1));
    int pp[2]; pipe(pp);
    T(ftruncate(pp[1], 1));
    T(fallocate(w, 0, 0, 4096)); show("f");
    T(fallocate(w, 0, -1, 4096)); T(fallocate(w, 0, 0, 0)); T(fallocate(r, 0, 0, 1)); T(fallocate(pp[1], 0, 0, 1)); T(fallocate(d, 0, 0, 1));
    T(fallocate(w, FALLOC_FL_KEEP_SIZE, 8192, 4096)); show("f");
    T(fallocate(w, FALLOC_FL_PUNCH_HOLE, 0, 10)); T(fallocate(w, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 10));
    T(fallocate(w, 0x1000, 0, 1)); T(fallocate(w, 0, LONG_MAX, 1)); T(fallocate(w, 0, LONG_MAX - 1, 1));
    int sp = open("sparse", O_RDWR | O_CREAT, 0600);
    T(pwrite(sp, "x", 1, 1 << 20)); T(lseek(sp, 0, SEEK_DATA)); T(lseek(sp, 0, SEEK_HOLE)); T(lseek(sp, 1 << 20, SEEK_HOLE)); T(lseek(sp, 1 << 21, SEEK_DATA));
    T(lseek(sp, -1, SEEK_DATA));
    signal(SIGXFSZ, on_limit);
    struct rlimit limit = {1000, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &limit);
    static char data[2000];
    T(pwrite(sp, data, 2000, 0)); printf("%d\n", exceeded);
    T(pwrite(sp, data, 2000, 1000)); printf("%d\n", exceeded);
    T(ftruncate(sp, 1 << 22)); printf("%d\n", exceeded);
    T(ftruncate(sp, 500)); T(ftruncate(sp, 1001)); printf("%d\n", exceeded);
    T(fallocate(sp, 0, 0, 2000)); printf("%d\n", exceeded);
    T(lseek(sp, 0, SEEK_SET)); T(write(sp, data, 2000)); T(write(sp, data, 1)); printf("%d\n", exceeded);
    limit.rlim_cur = RLIM_INFINITY; setrlimit(RLIMIT_FSIZE, &limit);
    /* modes */
    T(chmod("f", 0777)); show("f"); T(chmod("f", 07777)); show("f"); T(chmod("l", 0600)); show("l"); show("f");
    T(chmod("none", 0)); T(chmod("d", 0)); T(chmod("d", 02755)); show("d"); T(mkdir("d/sub", 0777)); show("d/sub");
    T(fchmod(w, 0640)); T(fchmod(99, 0)); T(syscall(SYS_fchmodat2, AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW)); T(syscall(SYS_fchmodat2, w, "", 0604, AT_EMPTY_PATH)); show("f");
    T(syscall(SYS_fchmodat2, w, "", 0604, 0x1)); T(fchmodat(d, "sub", 0700, 0));
    /* owners: uid 0 without CAP_CHOWN */
    T(chown("f", -1, -1)); T(chown("f", 0, 0)); T(chown("f", 1000, -1)); T(chown("f", -1, 1000)); T(lchown("l", 0, 0)); T(lchown("l", 7, -1)); T(chown("none", 0, 0)); T(fchown(w, 5, 5));
    T(chmod("f", 06755)); T(chown("f", 0, -1)); show("f"); T(fchownat(AT_FDCWD, "f", 0, 0, 0x4)); T(fchownat(w, "", 0, 0, AT_EMPTY_PATH));
    /* times */
    struct timespec ts[2] = {{100, 5}, {200, 7}};
    T(utimensat(AT_FDCWD, "f", ts, 0)); times_of("f");
    ts[0].tv_nsec = UTIME_OMIT; ts[1] = (struct timespec){300, 9}; T(utimensat(AT_FDCWD, "f", ts, 0)); times_of("f");
    T(utimensat(AT_FDCWD, "l", ts, AT_SYMLINK_NOFOLLOW));
    ts[0].tv_nsec = 1000000000; T(utimensat(AT_FDCWD, "f", ts, 0)); ts[0].tv_nsec = -1; T(utimensat(AT_FDCWD, "f", ts, 0));
    ts[0].tv_nsec = ts[1].tv_nsec = UTIME_OMIT; T(utimensat(AT_FDCWD, "none", ts, 0)); T(utimensat(AT_FDCWD, "f", ts, 0x4));
    ts[0].tv_nsec = ts[1].tv_nsec = UTIME_NOW; T(utimensat(AT_FDCWD, "none", ts, 0)); T(utimensat(AT_FDCWD, "f", ts, 0));
    ts[0].tv_nsec = ts[1].tv_nsec = 1; T(futimens(w, ts)); times_of("f"); T(syscall(SYS_utimensat, w, NULL, ts, AT_SYMLINK_NOFOLLOW)); T(syscall(SYS_utimensat, AT_FDCWD, NULL, ts, 0)); T(syscall(SYS_utimensat, 99, NULL, ts, 0));
    T(syscall(SYS_utimensat, w, "", ts, AT_EMPTY_PATH)); T(syscall(SYS_utimensat, w, "", ts, 0));
    struct timeval tv[2] = {{10, 20}, {30, 40}};
    T(utimes("f", tv)); times_of("f"); tv[0].tv_usec = 1000000; T(utimes("f", tv)); T(syscall(SYS_utimes, 0, tv)); tv[0].tv_usec = 3; T(futimesat(AT_FDCWD, "f", tv)); T(syscall(SYS_futimesat, w, NULL, tv)); times_of("f");
    struct utimbuf ub = {11, 22}; T(utime("f", &ub)); times_of("f"); T(utime("none", NULL)); T(syscall(SYS_utime, "f", 1));
    T(utimensat(AT_FDCWD, "/", ts, 0) < 0); 
    /* nodes */
    T(mknod("fifo", S_IFIFO | 0666, 0)); show("fifo"); T(mknod("sock", S_IFSOCK | 0600, 0)); show("sock"); T(mknod("reg", 0644, 0)); show("reg"); T(mknod("reg2", S_IFREG | 04755, 0)); show("reg2");
    T(mknod("chr", S_IFCHR | 0600, 0x103)); T(mknod("blk", S_IFBLK | 0600, 0x103)); T(mknod("dir", S_IFDIR | 0755, 0)); T(mknod("fifo", S_IFIFO, 0)); T(mknod("x", 0xF000, 0)); T(mknod("x/", S_IFIFO, 0)); T(mknod("none/x", S_IFIFO, 0));
    T(mknod("l", S_IFREG, 0)); T(mknod("dl", S_IFREG, 0));
    /* names */
    T(rename("f", "f2")); T(rename("none", "f")); T(rename("f2", "d")); T(rename("d", "f2")); T(rename("d", "d/sub/x")); T(rename(".", "x")); T(rename("d/", "dd/")); show("dd"); T(rename("f2/", "f3")); T(rename("f2", "f3/"));
    T(renameat2(AT_FDCWD, "f2", AT_FDCWD, "reg", RENAME_NOREPLACE)); T(renameat2(AT_FDCWD, "f2", AT_FDCWD, "reg", RENAME_EXCHANGE)); T(renameat2(AT_FDCWD, "f2", AT_FDCWD, "none", RENAME_EXCHANGE)); T(renameat2(AT_FDCWD, "f2", AT_FDCWD, "w", 3)); T(renameat2(AT_FDCWD, "f2", AT_FDCWD, "w", 8));
    T(link("reg", "hard")); show("reg"); T(rename("reg", "hard")); show("reg"); T(link("dd", "x")); T(link("l", "ll")); show("ll"); T(linkat(AT_FDCWD, "l", AT_FDCWD, "lf", AT_SYMLINK_FOLLOW)); T(link("none", "x")); T(link("reg", "hard")); T(link("reg", "x/")); T(link("reg/", "x"));
    T(unlink("dd")); T(rmdir("dd")); T(rmdir("reg")); T(unlink("none")); T(unlink("reg/")); T(rmdir(".")); T(rmdir("..")); T(rmdir("dd/..")); T(unlink("")); T(symlink("", "x")); T(symlink("a", "reg")); T(mkdir("reg", 0)); T(mkdir("dl", 0)); T(mkdir("x/", 0755)); T(rmdir("x/")); T(unlinkat(AT_FDCWD, "dd/sub", AT_REMOVEDIR)); T(unlinkat(AT_FDCWD, "reg", 1));
    char longname[300]; memset(longname, 'n', 299); longname[299] = 0; T(mkdir(longname, 0755)); T(symlink("x", longname)); T(unlink(longname)); T(rename("reg", longname));
    /* extended attributes */
    char b[70000];
    T(setxattr("f2", "user.a", "1234", 4, 0)); T(getxattr("f2", "user.a", b, sizeof b)); T(getxattr("f2", "user.a", b, 2)); T(getxattr("f2", "user.a", NULL, 0)); T(getxattr("f2", "user.b", b, 9));
    T(setxattr("f2", "user.a", "1", 1, XATTR_CREATE)); T(setxattr("f2", "user.b", "1", 1, XATTR_REPLACE)); T(setxattr("f2", "user.a", "1", 1, 8)); T(setxattr("f2", "", "1", 1, 0)); T(setxattr("f2", "user.", "1", 1, 0)); T(setxattr("f2", "a", "1", 1, 0)); T(setxattr("f2", "foo.a", "1", 1, 0));
    T(setxattr("f2", "user.z", b, 70000, 0)); T(setxattr("f2", "trusted.a", "1", 1, 0)); T(getxattr("f2", "trusted.a", b, 9)); T(getxattr("f2", "security.capability", b, 99)); T(setxattr("f2", longname, "1", 1, 0));
    T(lsetxattr("l", "user.a", "1", 1, 0)); T(lgetxattr("l", "user.a", b, 9)); T(setxattr("fifo", "user.a", "1", 1, 0)); T(getxattr("fifo", "user.a", b, 9)); T(listxattr("fifo", b, 99));
    int x = open("f2", O_RDONLY); T(fsetxattr(x, "user.c", "", 0, 0)); T(fgetxattr(x, "user.c", b, 9)); T(flistxattr(x, b, sizeof b)); T(listxattr("f2", NULL, 0)); T(listxattr("f2", b, 3)); T(llistxattr("l", b, 99)); T(fremovexattr(x, "user.c")); T(removexattr("f2", "user.a")); T(removexattr("f2", "user.a")); T(lremovexattr("l", "user.a")); T(listxattr("f2", b, 99)); T(setxattr("dd", "user.d", "1", 1, 0)); T(fsetxattr(99, "user.a", "", 0, 0)); T(setxattr("none", "user.a", "", 0, 0));
    /* ioctl, fcntl */
    int v = 0; long lv = 0; T(ioctl(w, FIONREAD, &v)); T(ioctl(w, 2, &v)); printf("%d\n", v); T(ioctl(w, TCGETS, b)); T(ioctl(w, 0x12345, 0)); T(ioctl(d, 0x12345, 0)); T(ioctl(99, 1, 0));
    T(fcntl(w, F_GETOWN)); T(fcntl(w, F_SETOWN, getpid())); T(fcntl(w, F_GETOWN) == getpid()); T(fcntl(w, F_SETOWN, 999999)); T(fcntl(w, F_SETSIG, 99)); T(fcntl(w, F_SETSIG, 40)); T(fcntl(w, F_GETSIG)); T(fcntl(w, F_SET_RW_HINT, &lv)); lv = 9; T(fcntl(w, F_SET_RW_HINT, &lv)); lv = 3; T(fcntl(w, F_SET_RW_HINT, &lv)); lv = 0; T(fcntl(r, F_GET_RW_HINT, &lv)); printf("%ld\n", lv); T(fcntl(w, 9999, 0)); T(fcntl(w, F_GETLEASE)); T(fcntl(w, F_SETLEASE, F_UNLCK)); T(fcntl(w, F_SETLEASE, 77)); T(fcntl(w, F_GETPIPE_SZ)); T(fcntl(d, F_NOTIFY, DN_MULTISHOT)); T(fcntl(d, F_NOTIFY, 0));
    return 0;
}
