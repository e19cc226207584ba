/* Answers that programs keep (docs/decisions/2026-11-28-answers-in-shared-memory.md): two processes that tell each other through memory, without a call between,
 * so that whatever one has changed the other has to see in its very next call. Arguments: a seed, how many steps, and a user for the second process.
 * Every question is put several times: kept answers are given from the second or third on, and stay until something changes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(what) do { if (!(what)) { printf("line %d: %s: errno %d\n", __LINE__, #what, errno); exit(1); } } while (0)
#define OLD 1000000000L
#define WARM 400
#define RENAMES 600

static struct shared {
    atomic_uint turn, made, looks;
    atomic_int over;
    char said[1 << 16];
    size_t len;
} *shared;

static unsigned long long state;
static unsigned pick(unsigned below) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(state >> 33) % below;
}

static const char *const paths[] = {"a", "a/x", "a/y", "b/x", "b/y", "b/in/x", "a/to", "link/x", "link/to", "b/in", "./a/./x", "a/absent/x", "b/in/../x"};
#define PATHS (sizeof paths / sizeof *paths)
static char top[256];
static int held;

static void say(const char *text) { shared->len += (size_t)snprintf(shared->said + shared->len, sizeof shared->said - shared->len, "%s", text); }

static void say_stat(char *into, const struct stat *s) {
    int is_file = S_ISREG(s->st_mode);
    const char *when = s->st_mtim.tv_sec == OLD ? "set" : "now";
    sprintf(into, "%o %d %ld %lld %s", s->st_mode, s->st_uid, is_file ? (long)s->st_nlink : 0L, is_file ? (long long)s->st_size : 0LL, S_ISLNK(s->st_mode) ? "" : when);
}

static void ask(unsigned kind, const char *path, char *into) {
    struct stat s;
    struct statx x;
    char text[64] = {0};
    long result;
    memset(&s, 0, sizeof s);
    switch (kind) {
    case 0: result = syscall(SYS_stat, path, &s); break;
    case 1: result = syscall(SYS_lstat, path, &s); break;
    case 2: result = syscall(SYS_newfstatat, AT_FDCWD, path, &s, 0); break;
    case 3: result = syscall(SYS_newfstatat, AT_FDCWD, path, &s, AT_SYMLINK_NOFOLLOW); break;
    case 4: result = syscall(SYS_fstat, held, &s); break;
    case 5: result = syscall(SYS_newfstatat, held, "", &s, AT_EMPTY_PATH); break;
    case 6:
        if (!(result = syscall(SYS_statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, &x))) {
            s.st_mode = x.stx_mode, s.st_uid = x.stx_uid, s.st_nlink = x.stx_nlink, s.st_size = (off_t)x.stx_size, s.st_mtim.tv_sec = x.stx_mtime.tv_sec;
        }
        break;
    case 7: result = syscall(SYS_access, path, R_OK | W_OK); break;
    case 8: result = syscall(SYS_faccessat, AT_FDCWD, path, X_OK); break;
    case 9: result = syscall(SYS_faccessat2, AT_FDCWD, path, R_OK, AT_EACCESS); break;
    case 10: result = syscall(SYS_readlink, path, text, 7); break;
    default: result = syscall(SYS_readlinkat, AT_FDCWD, path, text, sizeof text);
    }
    if (result < 0) sprintf(into, "%s", strerrorname_np(errno));
    else if (kind >= 7) sprintf(into, "%ld %s", result, text);
    else say_stat(into, &s);
}

/* Some questions, by absolute and by relative paths. */
static void look(void) {
    for (int i = 0; i < 6; i++) {
        unsigned kind = pick(12);
        char path[320], first[128], again[128], line[640];
        const char *name = paths[pick(PATHS)];
        if (pick(2)) sprintf(path, "%s/%s", top, name); else strcpy(path, name);
        ask(kind, path, first);
        for (int times = 0; times < 3; times++) {
            ask(kind, path, again);
            if (strcmp(first, again)) { sprintf(line, "  %u %s: %s, then %s\n", kind, name, first, again); say(line); }
        }
        sprintf(line, "  %u %s: %s\n", kind, name, first);
        say(line);
    }
}

static const char *outcome(long result) { return result < 0 ? strerrorname_np(errno) : "ok"; }

static void change(void) {
    struct timespec times[2] = {{OLD, 0}, {OLD, 0}};
    const char *one = paths[pick(PATHS)], *other = paths[pick(PATHS)];
    static const char *const targets[] = {"x", "../b/y", "in", "absent"};
    static int writer = -1;
    unsigned what = pick(20);
    int fd;
    long result = 0;
    switch (what) {
    case 0: case 1: result = fd = open(one, O_CREAT | O_RDWR, 0644); if (fd >= 0) { result = write(fd, "12345", 1 + pick(5)); close(fd); } break;
    case 2: result = unlink(one); break;
    case 3: case 4: result = rename(one, other); break;
    case 5: result = syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2); break;
    case 6: result = link(one, other); break;
    case 7: unlink("a/to"); result = symlink(targets[pick(4)], "a/to"); break;
    case 8: result = chmod(one, 0400 | pick(0400)); break;
    case 9: result = chmod(pick(2) ? "a" : "b/in", pick(2) ? 0755 : 0700); break;
    case 10: result = lchown(one, pick(2) ? 1000 : 0, 0); break;
    case 11: result = utimensat(AT_FDCWD, one, times, AT_SYMLINK_NOFOLLOW); break;
    case 12: result = truncate(one, pick(9)); break;
    case 13: result = rename("b/in", "b/out"); if (!result) result = mkdir("b/in", 0755); if (!result) result = rename("b/out/x", "b/in/x"); rmdir("b/out"); break;
    case 14: if (writer >= 0) close(writer); result = writer = open(one, O_WRONLY); break;
    case 15: result = write(writer, "abc", pick(4)); break;
    case 16: result = dup2(held, held); fd = open(one, O_RDONLY); if (fd >= 0) { result = dup2(fd, held); close(fd); } break;
    case 17: result = chdir("b"); if (!result) { look(); result = chdir(".."); } break;
    case 18: unlink("link"); result = symlink(pick(2) ? "a" : "b", "link"); break;
    default: result = mkdir(one, 0755); if (result) result = rmdir(one);
    }
    /* Who may not do it is told so, or what else is wrong with it: which of the two is not what this is about. */
    char line[640];
    sprintf(line, "%u %s %s: %s\n", what, one, other, result < 0 && geteuid() ? "fails" : outcome(result));
    say(line);
}

/* So often that their sites are patched, and that the thread has a slot. */
static void warm(void) {
    char text[128];
    for (int i = 0; i < WARM; i++) for (unsigned kind = 0; kind < 12; kind++) ask(kind, "/", text);
}

static void until(unsigned turn) {
    while (atomic_load(&shared->turn) != turn) sched_yield();
}

/* Takes turns: one changes something and looks, then the other looks. */
static void by_turns(unsigned steps, int uid) {
    unsigned long long seed = state;
    pid_t other = fork();
    MUST(other >= 0);
    unsigned own = other == 0;
    if (!other) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (uid) MUST(!setgid((gid_t)uid) && !setuid((uid_t)uid));
        state = seed * 31 + 7;
    }
    warm();
    for (unsigned step = 0; step < steps; step++) {
        until(2 * step + own);
        shared->len = 0;
        if (step % 2 == own) change();
        look();
        fwrite(shared->said, 1, shared->len, stdout);
        fflush(stdout);
        atomic_fetch_add(&shared->turn, 1);
    }
    if (!other) _exit(0);
    int status;
    MUST(waitpid(other, &status, 0) == other && status == 0);
}

/* One gives a name to ever larger files; the other must never see one smaller than the last that was named before it asked, nor half of one. */
static void race(void) {
    pid_t other = fork();
    MUST(other >= 0);
    if (!other) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        warm();
        while (!atomic_load(&shared->over)) {
            unsigned least = atomic_load(&shared->made);
            struct stat s;
            if (!least) continue;
            MUST(!syscall(SYS_stat, "raced", &s));
            MUST((unsigned)s.st_size >= least);
            MUST((s.st_mode & 0777) == (s.st_size % 2 ? 0600 : 0640));
            MUST(s.st_mtim.tv_sec == OLD + s.st_size);
            atomic_fetch_add(&shared->looks, 1);
        }
        _exit(0);
    }
    for (unsigned size = 1; size <= RENAMES; size++) {
        int fd = open("new", O_CREAT | O_WRONLY, 0600);
        struct timespec times[2] = {{OLD, 0}, {OLD + size, 0}};
        MUST(fd >= 0 && !ftruncate(fd, size) && !fchmod(fd, size % 2 ? 0600 : 0640) && !futimens(fd, times) && !close(fd));
        MUST(!rename("new", "raced"));
        atomic_store(&shared->made, size);
        unsigned seen = atomic_load(&shared->looks);
        while (atomic_load(&shared->looks) < seen + 4 && !waitpid(other, 0, WNOHANG | WNOWAIT)) sched_yield();
    }
    atomic_store(&shared->over, 1);
    int status;
    MUST(waitpid(other, &status, 0) == other && status == 0);
    puts("never older");
}

int main(int count, char **arguments) {
    MUST(count == 4 && getcwd(top, sizeof top));
    state = strtoull(arguments[1], 0, 10);
    shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(shared != MAP_FAILED);
    umask(022);
    MUST(!mkdir("a", 0755) && !mkdir("b", 0755) && !mkdir("b/in", 0755) && !symlink("a", "link"));
    MUST((held = open("a/x", O_CREAT | O_RDONLY, 0644)) >= 0);
    by_turns((unsigned)atoi(arguments[2]), atoi(arguments[3]));
    race();
    return 0;
}
