/* Calls that change the tree, in dense series as of a database's journal: each is seen at once, by names and by descriptors, and its errors are Linux's. */
#include "fast.h"
#include <sys/file.h>
#include <sys/resource.h>

static volatile sig_atomic_t exceeded;
static void on_exceeded(int signal) { exceeded += signal == SIGXFSZ; }

static int lock(int fd, int kind, int start, int command) {
    struct flock range = {.l_type = kind, .l_whence = SEEK_SET, .l_start = start, .l_len = 10};
    if (fcntl(fd, command, &range)) return -errno;
    return range.l_type;
}

/* One transaction: a journal is made, written, synced and removed, under locks. */
static void transaction(int data, int round) {
    char bytes[4096], name[32];
    struct stat st;
    snprintf(name, sizeof name, "journal-%d", round % 3);
    MUST(lock(data, F_RDLCK, 0, F_SETLK) == F_RDLCK && lock(data, F_WRLCK, 100, F_SETLK) == F_WRLCK);
    MUST(stat(name, &st) == -1 && errno == ENOENT);
    int journal = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    MUST(journal >= 0 && open(name, O_RDWR | O_CREAT | O_EXCL, 0600) == -1 && errno == EEXIST);
    memset(bytes, round, sizeof bytes);
    MUST(pwrite(journal, bytes, 4096, 12) == 4096);
    MUST(fstat(journal, &st) == 0 && st.st_size == 4108 && (st.st_mode & 07777) == 0600);
    MUST(fchmod(journal, 0640) == 0 && stat(name, &st) == 0 && (st.st_mode & 07777) == 0640 && st.st_size == 4108);
    MUST(chmod(name, 0604) == 0 && fchmodat(AT_FDCWD, name, 0644, 0) == 0 && stat(name, &st) == 0 && (st.st_mode & 07777) == 0644);
    MUST(fchown(journal, getuid(), getgid()) == 0);
    MUST(fsync(journal) == 0 && fdatasync(journal) == 0 && fdatasync(data) == 0);
    int directory = open(".", O_RDONLY | O_DIRECTORY);
    MUST(directory >= 0 && fsync(directory) == 0);
    MUST(ftruncate(journal, 100) == 0 && stat(name, &st) == 0 && st.st_size == 100);
    struct timespec times[2] = {{1000 + round, 5}, {2000 + round, 7}};
    MUST(utimensat(AT_FDCWD, name, times, 0) == 0 && stat(name, &st) == 0 && st.st_mtim.tv_sec == 2000 + round && st.st_mtim.tv_nsec == 7);
    MUST(rename(name, "renamed") == 0 && stat(name, &st) == -1 && errno == ENOENT && stat("renamed", &st) == 0);
    MUST(renameat(directory, "renamed", AT_FDCWD, name) == 0 && rename("renamed", name) == -1 && errno == ENOENT);
    MUST(mkdir("made", 0700) == 0 && mkdir("made", 0700) == -1 && errno == EEXIST && stat("made", &st) == 0 && S_ISDIR(st.st_mode));
    MUST(unlink("made") == -1 && errno == EISDIR && rename(name, "made") == -1 && errno == EISDIR);
    MUST(rename(name, "made/below") == 0 && rmdir("made") == -1 && errno == ENOTEMPTY && access("made/below", R_OK) == 0);
    MUST(unlinkat(directory, "made/below", 0) == 0 && fstat(journal, &st) == 0 && st.st_nlink == 0);
    MUST(rmdir("made") == 0 && rmdir("made") == -1 && errno == ENOENT && access("made", F_OK) == -1);
    MUST(mkdirat(directory, "made", 0755) == 0 && unlinkat(directory, "made", AT_REMOVEDIR) == 0);
    MUST(unlink(name) == -1 && errno == ENOENT);
    MUST(close(directory) == 0 && close(journal) == 0 && fsync(journal) == -1 && errno == EBADF);
    MUST(lock(data, F_UNLCK, 0, F_SETLK) == F_UNLCK && lock(data, F_UNLCK, 100, F_SETLK) == F_UNLCK);
}

static void errors(int data) {
    int ends[2], reader = open("data", O_RDONLY);
    MUST(pipe(ends) == 0 && reader >= 0);
    for (int i = 0; i < 40; i++) {
        MUST(fsync(ends[0]) == -1 && errno == EINVAL && fdatasync(-1) == -1 && errno == EBADF);
        MUST(ftruncate(reader, 1) == -1 && errno == EINVAL && ftruncate(data, -1) == -1 && errno == EINVAL);
        MUST(unlink("") == -1 && errno == ENOENT && unlink((char *)8) == -1 && errno == EFAULT);
        MUST(rename("data", (char *)8) == -1 && errno == EFAULT && rename((char *)8, "data") == -1 && errno == EFAULT);
        MUST(fcntl(data, F_SETLK, 8) == -1 && errno == EFAULT && lock(reader, F_WRLCK, 0, F_SETLK) == -EBADF && lock(data, 7, 0, F_SETLK) == -EINVAL);
        MUST(fchmod(-1, 0) == -1 && errno == EBADF && mkdir("/", 0) == -1 && errno == EEXIST && unlinkat(reader, "x", 0) == -1 && errno == ENOTDIR);
    }
    close(reader);
    close(ends[0]);
    close(ends[1]);
}

/* A lock that another process has: seen, refused, and waited for while it is used. */
static void contention(int data) {
    int ready[2], go[2], status;
    char byte = 0;
    MUST(pipe(ready) == 0 && pipe(go) == 0);
    pid_t child = fork();
    if (!child) {
        int own = open("data", O_RDWR);
        MUST(lock(own, F_WRLCK, 500, F_SETLK) == F_WRLCK && write(ready[1], &byte, 1) == 1);
        for (int i = 0; i < 200; i++) MUST(lock(own, F_WRLCK, 600, F_SETLK) == F_WRLCK && lock(own, F_UNLCK, 600, F_SETLK) == F_UNLCK);
        MUST(read(go[0], &byte, 1) == 1);
        for (int i = 0; i < 200; i++) MUST(lock(own, F_WRLCK, 600, F_SETLK) == F_WRLCK && lock(own, F_UNLCK, 600, F_SETLK) == F_UNLCK);
        MUST(lock(own, F_UNLCK, 500, F_SETLK) == F_UNLCK);
        _exit(0);
    }
    MUST(read(ready[0], &byte, 1) == 1);
    for (int i = 0; i < 200; i++) {
        MUST(lock(data, F_RDLCK, 505, F_GETLK) == F_WRLCK);
        int refused = lock(data, F_RDLCK, 505, F_SETLK);
        MUST(refused == -EAGAIN || refused == -EACCES);
        MUST(lock(data, F_RDLCK, 700, F_SETLK) == F_RDLCK);
    }
    MUST(write(go[1], &byte, 1) == 1);
    MUST(lock(data, F_RDLCK, 505, F_SETLKW) == F_RDLCK);
    MUST(waitpid(child, &status, 0) == child && status == 0);
    MUST(lock(data, F_UNLCK, 0, F_SETLK) == F_UNLCK);
}

static void limit(int data) {
    struct rlimit small = {4096, RLIM_INFINITY}, before;
    signal(SIGXFSZ, on_exceeded);
    MUST(getrlimit(RLIMIT_FSIZE, &before) == 0 && setrlimit(RLIMIT_FSIZE, &small) == 0);
    for (int i = 0; i < OFTEN; i++) {
        /* The handler has run when the call returns. */
        MUST(ftruncate(data, 4097) == -1 && errno == EFBIG && exceeded == 3 * i + 1);
        MUST(ftruncate(data, 4096) == 0);
        MUST(pwrite(data, "x", 1, 4096) == -1 && errno == EFBIG && exceeded == 3 * i + 2);
        MUST(ftruncate(data, 1L << 40) == -1 && errno == EFBIG && exceeded == 3 * i + 3);
    }
    MUST(setrlimit(RLIMIT_FSIZE, &before) == 0);
}

int main(int argc, char **argv) {
    char place[] = "/tmp/changes-XXXXXX";
    const char *where = argc > 1 ? argv[1] : mkdtemp(place);
    MUST(where && chdir(where) == 0);
    int data = open("data", O_RDWR | O_CREAT, 0600);
    MUST(data >= 0);
    for (int i = 0; i < OFTEN; i++) transaction(data, i);
    puts("transactions ok");
    errors(data);
    puts("errors ok");
    contention(data);
    puts("contention ok");
    limit(data);
    puts("limit ok");
    MUST(unlink("data") == 0 && rmdir(where) == 0);
    return 0;
}
