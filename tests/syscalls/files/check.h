/* Prints what calls answer, for comparison between the host and the sentry. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

#define T(call) do { errno = 0; long r_ = (long)(call); printf("%d %s = %ld %s\n", __LINE__, #call, r_, r_ < 0 ? strerrorname_np(errno) : ""); } while (0)
/* For calls whose value differs, such as descriptors. */
#define OK(call) do { errno = 0; long r_ = (long)(call); printf("%d %s = %s\n", __LINE__, #call, r_ < 0 ? strerrorname_np(errno) : "ok"); } while (0)

static void drop_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    for (int c = 0; c < 64; c++) prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
    syscall(SYS_capset, &header, data);
}

static int removed(const char *path, const struct stat *status, int kind, struct FTW *place) {
    (void)status, (void)kind, (void)place;
    return remove(path);
}

/* The program goes on in a directory of its own, which its parent removes when it has ended: whatever root, ids and capabilities it has by then. */
static void own_directory(void) {
    char name[] = "/dev/shm/casemateXXXXXX";
    int status;
    umask(022);
    if (!mkdtemp(name)) { perror("mkdtemp"); exit(1); }
    pid_t program = fork();
    if (program == 0) {
        if (chdir(name)) { perror("chdir"); exit(1); }
        return;
    }
    while (waitpid(program, &status, 0) < 0 && errno == EINTR);
    if (nftw(name, removed, 16, FTW_DEPTH | FTW_PHYS)) perror("nftw");
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void show(const char *path) {
    struct stat s;
    if (lstat(path, &s)) { printf("%s: %s\n", path, strerrorname_np(errno)); return; }
    printf("%s: mode %o nlink %ld uid %d gid %d size %lld\n", path, s.st_mode, (long)s.st_nlink, s.st_uid, s.st_gid,
           S_ISDIR(s.st_mode) ? 0LL : (long long)s.st_size);
}

static int make(const char *path, int mode) {
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    if (write(fd, "hello", 5) != 5) perror("write");
    fchmod(fd, mode);
    return close(fd);
}
