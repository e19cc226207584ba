/* Random changes to a small tree, from several processes, by names, links, descriptors and mappings; after each, looks from all sides. The transcript of a seed
 * is the same wherever files are coherent. Times are told as "set" (as a call made them) or "now": no clock is in it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define OLD 1000000000L
#define NAMES 6
#define HELD 4

static unsigned long long state;
static unsigned pick(unsigned below) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(state >> 33) % below;
}

static const char *const directories[] = {".", "a", "b", "a/c", "b/d", "link"};
static char first[64], second[64];
static int held[HELD];

static const char *name(char *into) {
    sprintf(into, "%s/%c", directories[pick(6)], 'p' + pick(NAMES));
    return into;
}

static const char *directory(char *into) {
    strcpy(into, directories[1 + pick(4)]);
    return into;
}

static const char *outcome(long result) { return result < 0 ? strerrorname_np(errno) : "ok"; }

static const char *moment(struct timespec time, struct timespec set) {
    return time.tv_sec == set.tv_sec ? "set" : time.tv_sec > OLD + 1000000 ? "now" : "other";
}

static void tell(const char *what, const struct stat *s) {
    struct timespec set = {OLD, 0};
    int is_file = S_ISREG(s->st_mode);
    printf("  %s: %o %d:%d links %ld size %lld times %s %s\n", what, s->st_mode, s->st_uid, s->st_gid, S_ISDIR(s->st_mode) ? 0L : (long)s->st_nlink,
           is_file ? (long long)s->st_size : 0LL, is_file ? moment(s->st_atim, set) : "-", S_ISLNK(s->st_mode) || S_ISFIFO(s->st_mode) ? "-" : moment(s->st_mtim, set));
}

/* Asks three times: the second or third time the program may answer itself (docs/decisions/2026-11-28-answers-in-shared-memory.md). */
static int thrice(int (*ask)(const char *, struct stat *), const char *path, struct stat *s) {
    int result = ask(path, s), error = errno;
    for (int i = 0; i < 2; i++) {
        struct stat again;
        int other = ask(path, &again);
        if (other != result || (result ? errno != error : memcmp(s, &again, sizeof again))) printf("  %s differs\n", path);
    }
    errno = error;
    return result;
}

static void look_at(const char *path) {
    struct stat s, t;
    char text[64];
    long n;
    if (thrice(lstat, path, &s)) {
        printf("  lstat %s: %s\n", path, strerrorname_np(errno));
    } else {
        tell(path, &s);
        if (S_ISLNK(s.st_mode) && (n = readlink(path, text, 63)) >= 0) printf("  -> %.*s\n", (int)n, text);
    }
    long followed = thrice(stat, path, &t);
    printf("  stat %s%s\n", outcome(followed), followed == 0 && t.st_ino == s.st_ino ? " itself" : "");
    printf("  access %s", outcome(access(path, R_OK | W_OK)));
    printf(" %s\n", outcome(access(path, X_OK)));
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOATIME);
    printf("  open %s\n", outcome(fd));
    if (fd < 0) return;
    if (!fstat(fd, &t) && S_ISREG(t.st_mode)) {
        char bytes[32] = {0};
        n = read(fd, bytes, sizeof bytes - 1);
        printf("  %ld bytes %s\n", n, bytes);
        tell("fstat", &t);
    }
    close(fd);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
    DIR *d = opendir(path);
    char *names[64];
    int n = 0;
    if (!d) { printf("  list %s: %s\n", path, strerrorname_np(errno)); return; }
    for (struct dirent *e; (e = readdir(d));) names[n++] = strdup(e->d_name);
    closedir(d);
    qsort(names, n, sizeof *names, by_name);
    printf("  list %s:", path);
    for (int i = 0; i < n; i++) { printf(" %s", names[i]); free(names[i]); }
    puts("");
}

static void look(void) {
    char path[64], dotted[64];
    look_at(name(path));
    if (pick(3) == 0) look_at(directory(path));
    if (pick(4) == 0) list(directories[pick(6)]);
    if (pick(4) == 0) { sprintf(dotted, "a/../%s/../b/./%c", directories[1 + pick(4)], 'p' + pick(NAMES)); look_at(dotted); }
    int which = pick(HELD);
    struct stat s;
    if (pick(3) == 0 && held[which] >= 0 && !fstat(held[which], &s) && !S_ISFIFO(s.st_mode)) tell("held", &s);
}

static void write_to(int fd) {
    char bytes[8];
    sprintf(bytes, "%u", pick(100000));
    if (fd >= 0) printf("  write %s\n", outcome(write(fd, bytes, strlen(bytes))));
}

static void map_write(const char *path) {
    int fd = open(path, O_RDWR | O_NONBLOCK);
    struct stat s;
    if (fd < 0 || fstat(fd, &s) || !S_ISREG(s.st_mode) || s.st_size == 0) { if (fd >= 0) close(fd); return; }
    char *at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    struct timespec times[2] = {{OLD, 0}, {OLD, 0}};
    utimensat(AT_FDCWD, path, times, 0);
    look_at(path);
    at[0] = 'M';
    msync(at, 4096, MS_SYNC);
    look_at(path);
    munmap(at, 4096);
}

static void change(void) {
    struct timespec times[2] = {{OLD, 0}, {OLD, 0}};
    int which = pick(HELD), fd;
    name(first); name(second);
    unsigned what = pick(28);
    printf("%u %s %s\n", what, first, second);
    switch (what) {
    case 0: fd = open(first, O_CREAT | O_RDWR | O_NONBLOCK, 0640); printf(" %s\n", outcome(fd)); write_to(fd); if (fd >= 0) close(fd); break;
    case 1: fd = open(first, O_CREAT | O_EXCL | O_WRONLY, 0600); printf(" %s\n", outcome(fd)); if (fd >= 0) close(fd); break;
    case 2: fd = open(first, O_WRONLY | O_TRUNC | O_NONBLOCK); printf(" %s\n", outcome(fd)); write_to(fd); if (fd >= 0) close(fd); break;
    case 3: fd = open(first, O_WRONLY | O_APPEND | O_NONBLOCK); printf(" %s\n", outcome(fd)); write_to(fd); look_at(first); write_to(fd); if (fd >= 0) close(fd); break;
    case 4: printf(" %s\n", outcome(truncate(first, pick(20)))); break;
    case 5: printf(" %s\n", outcome(unlink(first))); break;
    case 6: case 7: printf(" %s\n", outcome(rename(first, second))); break;
    case 8: printf(" %s\n", outcome(syscall(SYS_renameat2, AT_FDCWD, first, AT_FDCWD, second, 1 + pick(2)))); break;
    case 9: printf(" %s\n", outcome(link(first, second))); break;
    case 10: printf(" %s\n", outcome(symlink(pick(2) ? "p" : "../b/q", first))); break;
    case 11: printf(" %s\n", outcome(chmod(first, 0600 | pick(0200)))); break;
    case 12: printf(" %s\n", outcome(lchown(first, pick(3), pick(3)))); break;
    case 13: case 14: printf(" %s\n", outcome(utimensat(AT_FDCWD, first, times, 0))); break;
    case 15: printf(" %s\n", outcome(mkdir(first, 0755))); break;
    case 16: printf(" %s\n", outcome(rmdir(first))); break;
    case 17: printf(" %s\n", outcome(mkfifo(first, 0600))); break;
    case 18: printf(" %s\n", outcome(setxattr(first, "user.x", "1", 1, 0))); break;
    case 19: map_write(first); break;
    case 20: /* A file without a name gets one. */
        fd = open("a", O_TMPFILE | O_RDWR, 0644);
        if (fd >= 0) {
            char link_name[32];
            write_to(fd);
            sprintf(link_name, "/proc/self/fd/%d", fd);
            printf(" %s\n", outcome(linkat(AT_FDCWD, link_name, AT_FDCWD, first, AT_SYMLINK_FOLLOW)));
            look_at(first); write_to(fd); close(fd);
        }
        break;
    case 21: /* Directories move, with the working directory in one of them. */
        if (!chdir("a/c")) {
            look_at("../p");
            printf(" %s\n", outcome(rename("../../a/c", "../../b/moved")));
            look_at("../p"); look_at("q");
            printf(" %s\n", outcome(rename("../../b/moved", "../../a/c")));
            look_at("../p");
            if (chdir("../..")) exit(1);
        }
        break;
    case 22: /* A descriptor outlives what happens to the name. */
        if (held[which] >= 0) { write_to(held[which]); close(held[which]); }
        held[which] = open(first, O_RDWR | O_CREAT | O_NONBLOCK, 0644);
        printf(" %s\n", outcome(held[which]));
        break;
    case 23: printf(" held:\n"); write_to(held[which]); if (held[which] >= 0) printf("  %s\n", outcome(ftruncate(held[which], pick(9)))); break;
    case 24: /* Somebody with another root, and another process anyway. */
        fflush(stdout);
        if (fork() == 0) {
            if (chroot("b") || chdir("/")) exit(1);
            look_at("/../p"); look_at("q"); look_at("../d/r");
            printf("  %s\n", outcome(unlink("/p")));
            fd = open("/q", O_CREAT | O_WRONLY | O_NONBLOCK, 0600); write_to(fd);
            fflush(stdout); _exit(0);
        }
        wait(0);
        pick(1); look_at("b/p"); look_at("b/q");
        break;
    case 26: /* Somebody who may less. */
        fflush(stdout);
        if (fork() == 0) {
            if (setgid(1) || setuid(1)) printf("  stays\n");
            look_at(first); look_at(second);
            printf("  %s\n", outcome(unlink(first)));
            fd = open(second, O_RDWR | O_CREAT | O_NONBLOCK, 0660); printf("  %s\n", outcome(fd)); write_to(fd);
            list("a/c");
            fflush(stdout); _exit(0);
        }
        wait(0);
        break;
    case 27: printf(" %s\n", outcome(chmod(directories[1 + pick(4)], (pick(8) << 6) | (pick(8) << 3) | pick(8)))); break;
    case 25: /* Reading moves the access time of a file that was changed since. */
        utimensat(AT_FDCWD, first, times, 0);
        look_at(first);
        fd = open(first, O_RDONLY | O_NONBLOCK);
        struct stat s;
        if (fd >= 0 && !fstat(fd, &s) && S_ISREG(s.st_mode) && s.st_size) {
            char byte;
            printf("  read %zd\n", read(fd, &byte, 1));
            look_at(first);
            if (!fstat(fd, &s)) tell("read", &s);
        }
        if (fd >= 0) close(fd);
        break;
    }
}

int main(int count, char **arguments) {
    state = count > 1 ? strtoull(arguments[1], 0, 10) : 1;
    int steps = count > 2 ? atoi(arguments[2]) : 1000;
    umask(022);
    for (int i = 0; i < HELD; i++) held[i] = -1;
    if (mkdir("a", 0755) || mkdir("b", 0755) || mkdir("a/c", 0755) || mkdir("b/d", 0755) || symlink("a", "link")) { perror("tree"); return 1; }
    for (int i = 0; i < steps; i++) { change(); look(); }
    return 0;
}
