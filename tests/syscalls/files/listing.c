/* getdents(2) both ways, small buffers, seekdir; statx; root and working directory. */
#include "check.h"
#include <dirent.h>

static int order(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int main(void) {
    drop_capabilities();
    own_directory();
    char name[64], *names[400];
    for (int i = 0; i < 100; i++) { sprintf(name, "a-file-with-a-name-%d", i); make(name, 0600); }
    mkdir("dir", 0755); mkfifo("fifo", 0600); symlink("x", "link");
    for (int size = 64; size <= 4096; size *= 8) for (int old = 0; old < 2; old++) {
        int fd = open(".", O_RDONLY | O_DIRECTORY), n = 0, r;
        char b[4096];
        while ((r = syscall(old ? SYS_getdents : SYS_getdents64, fd, b, size)) > 0)
            for (int at = 0; at < r;) {
                int len = *(unsigned short *)(b + at + 16);
                char *text = b + at + (old ? 18 : 19), type = old ? b[at + len - 1] : b[at + 18];
                if (asprintf(&names[n++], "%s %d %d", text, type, len) < 0) return 1;
                at += len;
            }
        qsort(names, n, sizeof *names, order);
        printf("size %d old %d: %d entries, last %d\n", size, old, n, r);
        for (int i = 0; i < n; i++) puts(names[i]);
        close(fd);
    }
    int fd = open(".", O_RDONLY); char b[4096];
    T(syscall(SYS_getdents64, fd, b, 10)); T(syscall(SYS_getdents64, fd, 1, 4096)); T(syscall(SYS_getdents64, 99, b, 4096));
    int f = open("a-file-with-a-name-1", O_RDONLY); T(syscall(SYS_getdents64, f, b, 4096));
    DIR *d = opendir("."); struct dirent *e; char seen[64] = ""; long at = 0; int n = 0;
    while ((e = readdir(d)) && n++ < 10) { at = telldir(d); }
    e = readdir(d); if (e) strcpy(seen, e->d_name);
    seekdir(d, at); e = readdir(d); printf("%d\n", e ? 0 : -1);
    rewinddir(d); n = 0; while (readdir(d)) n++; printf("%d\n", n);
    lseek(dirfd(d), 0, SEEK_SET);
    rmdir("dir"); T(mkdir("gone", 0755)); int g = open("gone", O_RDONLY); T(rmdir("gone")); T(syscall(SYS_getdents64, g, b, 4096)); OK(openat(g, "x", O_RDWR | O_CREAT, 0600)); T(fchdir(g)); T(syscall(SYS_getcwd, b, 4096)); OK(open("x", O_RDWR | O_CREAT, 0600)); T(mkdir("y", 0755)); T(chdir("/"));
    T(syscall(SYS_getcwd, b, 1)); T(syscall(SYS_getcwd, b, 2));
    T(chroot("/dev")); T(chroot("/none")); T(sethostname("x", 1)); T(setdomainname("x", 1));
    T(syscall(SYS_mount, "none", "/dev", "tmpfs", 0, 0)); T(syscall(SYS_umount2, "/dev", 0)); T(syscall(SYS_pivot_root, "/", "/")); T(syscall(SYS_reboot, 0xfee1dead, 672274793, 0, 0)); T(syscall(SYS_swapon, "/x", 0)); T(syscall(SYS_acct, 0)); T(syscall(SYS_vhangup));     T(syscall(SYS_open_by_handle_at, -100, b, 0)); T(syscall(SYS_fanotify_init, 0, 0));
    return 0;
}
