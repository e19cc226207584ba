/* Files that threads are lent (crates/platform/src/windows.rs): whatever else is done to a file or a descriptor, reads, writes and positions are the host's. */
#include "fast.h"
#include <sys/resource.h>
#include <sys/statfs.h>

static char name[64], other_name[64];
static int in_memory;
static char bytes[1 << 16], seen[1 << 16];
static char *volatile nowhere = (char *)8;

static int made(const char *path, int flags, int size) {
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | flags, 0644);
    MUST(fd >= 0);
    for (int i = 0; i < size; i++) bytes[i] = (char)(i * 7 + 1);
    MUST(write(fd, bytes, size) == size);
    return fd;
}
/* Often enough that the file is lent. */
static void use(int fd, int size) {
    char block[512];
    for (int i = 0; i < OFTEN; i++) {
        int len = 1 + any(size < (int)sizeof block ? size : (int)sizeof block), at = any(size - len + 1);
        MUST(pread(fd, block, len, at) == len);
        MUST(pwrite(fd, block, len, at) == len);
    }
}
static void seek(int fd) {
    for (int i = 0; i < OFTEN; i++) {
        int at = any(4096);
        MUST(lseek(fd, at, SEEK_SET) == at && lseek(fd, 1, SEEK_CUR) == at + 1);
    }
}
static struct timespec modified(int fd) {
    struct stat st;
    MUST(!fstat(fd, &st));
    return st.st_mtim;
}
static int is_later(struct timespec a, struct timespec b) { return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec); }
static void tell(const char *what, long value) { printf("%s: %ld errno %d\n", what, value, value < 0 ? errno : 0); }

static void positions(void) {
    int fd = made(name, 0, 8192), ends[2];
    seek(fd);
    tell("before the beginning", lseek(fd, -1, SEEK_SET));
    tell("before it from here", lseek(fd, -100000, SEEK_CUR));
    if (in_memory) {
        tell("as far as it goes", lseek(fd, INT64_MAX, SEEK_SET) == INT64_MAX);
        tell("further", lseek(fd, 1, SEEK_CUR));
    }
    tell("no such whence", lseek(fd, 0, 77));
    tell("no such descriptor", lseek(fd + 64, 0, SEEK_SET));
    seek(fd);
    lseek(fd, 100, SEEK_SET);
    /* By its other descriptor, the child, and calls that move it. */
    int twin = dup(fd);
    tell("twin", lseek(twin, 5, SEEK_CUR));
    tell("here", lseek(fd, 0, SEEK_CUR));
    seek(fd);
    lseek(fd, 200, SEEK_SET);
    pid_t child = fork();
    if (!child) {
        long at = lseek(fd, 0, SEEK_CUR);
        seek(fd);
        _exit(at == 200 && lseek(fd, 300, SEEK_SET) == 300 ? 0 : 1);
    }
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
    tell("after the child", lseek(fd, 0, SEEK_CUR));
    seek(fd);
    lseek(fd, 7, SEEK_SET);
    MUST(read(fd, seen, 10) == 10 && seen[0] == (char)(7 * 7 + 1));
    tell("after a read", lseek(fd, 0, SEEK_CUR));
    seek(fd);
    lseek(fd, 50, SEEK_SET);
    MUST(write(fd, "abc", 3) == 3 && pread(fd, seen, 3, 50) == 3 && !memcmp(seen, "abc", 3));
    tell("after a write", lseek(fd, 0, SEEK_CUR));
    tell("end", lseek(fd, -1, SEEK_END));
    seek(fd);
    lseek(fd, 60, SEEK_SET);
    FILE *info;
    char line[64];
    snprintf(line, sizeof line, "/proc/self/fdinfo/%d", fd);
    MUST((info = fopen(line, "r")) && fgets(line, sizeof line, info));
    fclose(info);
    printf("%s", line);
    /* The number means something else. */
    MUST(!pipe(ends));
    seek(fd);
    MUST(dup2(ends[0], fd) == fd);
    tell("of a pipe", lseek(fd, 0, SEEK_SET));
    close(fd);
    tell("of nothing", lseek(fd, 0, SEEK_SET));
    tell("its twin still", lseek(twin, 0, SEEK_CUR) >= 0);
    int first = open("/proc/self/exe", O_RDONLY);
    seek(first);
    lseek(first, 9, SEEK_SET);
    close(first);
    MUST(open("/proc/self/exe", O_RDONLY) == first);
    tell("opened anew", lseek(first, 0, SEEK_CUR));
    close(first), close(twin), close(ends[0]), close(ends[1]);
}
static void contents(void) {
    int fd = made(name, 0, 10000);
    use(fd, 10000);
    MUST(pread(fd, seen, sizeof seen, 0) == 10000);
    tell("at the end", pread(fd, seen, 10, 10000));
    tell("over the end", pread(fd, seen, 100, 9990));
    tell("nothing", pread(fd, seen, 0, 0));
    tell("before the beginning", pread(fd, seen, 1, -1));
    tell("grows", pwrite(fd, "xyz", 3, 9999));
    use(fd, 10002);
    tell("grown", pread(fd, seen, 100, 9990));
    MUST(!memcmp(seen + 9, "xyz", 3));
    /* Another length, by itself, by a name, by opening it. */
    MUST(!ftruncate(fd, 5000));
    tell("shrunk", pread(fd, seen, 100, 4990));
    MUST(!ftruncate(fd, 10000));
    MUST(pread(fd, seen, 5000, 5000) == 5000);
    for (int i = 0; i < 5000; i++) MUST(!seen[i]);
    use(fd, 5000);
    MUST(!truncate(name, 100));
    tell("shrunk by its name", pread(fd, seen, 200, 0));
    use(fd, 100);
    close(open(name, O_WRONLY | O_TRUNC));
    tell("emptied", pread(fd, seen, 200, 0));
    MUST(pwrite(fd, bytes, 10000, 0) == 10000);
    use(fd, 10000);
    MUST(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
    MUST(pread(fd, seen, 10000, 0) == 10000 && !seen[4096] && !seen[8191] && seen[8192] == bytes[8192]);
    struct stat st;
    MUST(!fstat(fd, &st));
    for (int i = 0; i < OFTEN; i++) MUST(pread(fd, seen, 4096, 4096) == 4096 && !seen[7]);
    MUST(!fstat(fd, &st));
    if (in_memory) tell("blocks", st.st_blocks);
    MUST(pwrite(fd, bytes, 10000, 0) == 10000);
    use(fd, 10000);
    /* By another description, a mapping, another process. */
    int second = open(name, O_RDWR);
    use(second, 10000);
    MUST(pwrite(second, "one", 3, 0) == 3 && pread(fd, seen, 3, 0) == 3 && !memcmp(seen, "one", 3));
    MUST(pwrite(fd, "two", 3, 0) == 3 && pread(second, seen, 3, 0) == 3 && !memcmp(seen, "two", 3));
    char *map = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(map != MAP_FAILED && !memcmp(map, "two", 3));
    memcpy(map, "six", 3);
    MUST(pread(fd, seen, 3, 0) == 3 && !memcmp(seen, "six", 3) && pwrite(fd, "ten", 3, 0) == 3 && !memcmp(map, "ten", 3));
    MUST(!munmap(map, 8192));
    pid_t child = fork();
    if (!child) {
        use(fd, 10000);
        MUST(pwrite(fd, "new", 3, 0) == 3);
        _exit(0);
    }
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
    MUST(pread(fd, seen, 3, 0) == 3 && !memcmp(seen, "new", 3));
    /* A descriptor that may not, and one that means another file. */
    int reads = open(name, O_RDONLY), writes = open(name, O_WRONLY);
    for (int i = 0; i < OFTEN; i++) MUST(pread(reads, seen, 3, 0) == 3 && pwrite(writes, "new", 3, 0) == 3);
    tell("only reads", pwrite(reads, "x", 1, 0));
    tell("only writes", pread(writes, seen, 1, 0));
    int other = made(other_name, 0, 100);
    use(other, 100);
    MUST(pwrite(other, "other", 5, 0) == 5);
    MUST(dup2(other, fd) == fd && pread(fd, seen, 5, 0) == 5 && !memcmp(seen, "other", 5));
    MUST(pwrite(fd, "OTHER", 5, 0) == 5 && pread(second, seen, 3, 0) == 3 && !memcmp(seen, "new", 3));
    close(fd);
    tell("closed", pread(fd, seen, 5, 0));
    MUST(open(name, O_RDONLY) == fd);
    MUST(pread(fd, seen, 3, 0) == 3 && !memcmp(seen, "new", 3));
    tell("opened to read", pwrite(fd, "x", 1, 0));
    MUST(dup2(open("/dev/null", O_RDWR), other) == other);
    tell("of a device", pread(other, seen, 5, 0));
    MUST(!unlink(name));
    use(second, 10000);
    tell("without a name", pread(second, seen, 3, 0));
    close(fd), close(second), close(reads), close(writes), close(other), unlink(other_name);
}
static void *often(void *argument) {
    /* Whole writes, by turns with whoever else writes whole ones. */
    int fd = *(int *)argument;
    char block[4096];
    for (int i = 0; i < 3000; i++) {
        memset(block, 'a' + i % 4, sizeof block);
        MUST(pwrite(fd, block, sizeof block, 0) == sizeof block);
    }
    return 0;
}
/* By a tick at least, by which the times of files go. */
static void idle_until_later(void) {
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < 12000000);
}
static void rules(void) {
    int fd = made(name, 0, 8192);
    use(fd, 8192);
    int reads = 0;
    /* Who asks for the time of the last write, or read, sees each that follows. */
    for (int i = 0; i < 5; i++) {
        struct timespec before = modified(fd);
        struct stat st;
        idle_until_later();
        MUST(pwrite(fd, "x", 1, i) == 1);
        MUST(is_later(modified(fd), before));
        idle_until_later();
        MUST(pread(fd, seen, 1, 0) == 1 && !fstat(fd, &st));
        reads += is_later(st.st_atim, st.st_mtim);
        use(fd, 8192);
    }
    if (in_memory) tell("reads seen", reads);
    /* Appending, with and without a position. */
    MUST(!fcntl(fd, F_SETFL, O_APPEND));
    MUST(pwrite(fd, "end", 3, 0) == 3);
    tell("appended", lseek(fd, 0, SEEK_END));
    MUST(!fcntl(fd, F_SETFL, 0));
    use(fd, 8192);
    /* Buffers that are not there, or in part. */
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(page != MAP_FAILED && !munmap(page + 4096, 4096));
    memset(page, 'p', 4096);
    tell("read to nowhere", pread(fd, nowhere, 10, 0));
    tell("write from nowhere", pwrite(fd, nowhere, 10, 0));
    use(fd, 4096);
    tell("in part", pread(fd, page + 4090, 10, 100) > 0);
    MUST(pread(fd, page + 4086, 10, 100) == 10);
    use(fd, 4096);
    tell("from one in part", pwrite(fd, page + 4090, 4096, 0) <= 6);
    /* A limit. */
    struct rlimit old, limit;
    MUST(pwrite(fd, bytes, 8192, 0) == 8192);
    use(fd, 8192);
    MUST(!getrlimit(RLIMIT_FSIZE, &old));
    limit = (struct rlimit){1000, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    MUST(!setrlimit(RLIMIT_FSIZE, &limit));
    tell("up to the limit", pwrite(fd, bytes, 1000, 500));
    tell("beyond it", pwrite(fd, bytes, 10, 1000));
    MUST(!setrlimit(RLIMIT_FSIZE, &old));
    use(fd, 8192);
    /* Overlapping writes of two threads, and of another process: one after the other. */
    pthread_t threads[2];
    pid_t child = fork();
    if (!child) often(&fd), _exit(0);
    for (int i = 0; i < 2; i++) MUST(!pthread_create(threads + i, 0, often, &fd));
    for (int i = 0; i < 2; i++) MUST(!pthread_join(threads[i], 0));
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
    MUST(pread(fd, seen, 4096, 0) == 4096);
    for (int i = 1; i < 4096; i++) MUST(seen[i] == seen[0]);
    close(fd);
    unlink(name);
}
/* Signals at any instruction: no write is lost, no position moved twice. */
static volatile int ticks;
static void tick(int number) { ticks += number > 0; }
static void storm(void) {
    int fd = made(name, 0, 8192);
    use(fd, 8192);
    seek(fd);
    signal(SIGALRM, tick);
    struct itimerval each = {{0, 300}, {0, 300}}, none = {{0, 0}, {0, 0}};
    ticks = 0;
    setitimer(ITIMER_REAL, &each, 0);
    for (int round = 0; ticks < 60 || round < 3; round++) {
        MUST(lseek(fd, 0, SEEK_SET) == 0);
        for (int i = 1; i <= 2000; i++) {
            MUST(lseek(fd, 3, SEEK_CUR) == 3 * i);
            MUST(pwrite(fd, &i, sizeof i, 4 * (i % 1000)) == sizeof i);
            int found = 0;
            MUST(pread(fd, &found, sizeof found, 4 * (i % 1000)) == sizeof found && found == i);
        }
    }
    setitimer(ITIMER_REAL, &none, 0);
    close(fd);
    unlink(name);
}
/* In the sandbox, which has no other program that fills /dev/shm: what lies where the stub looks for it. */
#define CHANNEL (0x500000000000UL - 0x100000)
static int is_mapped(uint64_t address) {
    unsigned char present;
    return mincore((void *)address, 4096, &present) == 0;
}
static volatile uint64_t *entry_of(int fd) {
    volatile uint64_t *entry = (volatile uint64_t *)(CHANNEL + 16 * 0x2000 + 256 * 512);
    for (int i = 0; i < 64; i++, entry += 8) if (is_mapped(CHANNEL) && entry[0] && entry[2] == (unsigned)fd) return entry;
    return 0;
}
static int is_written(int fd) { return entry_of(fd) && entry_of(fd)[1]; }
static int is_read(int fd) { return pread(fd, seen, 1, 0) == 1 && entry_of(fd) && entry_of(fd)[4] && entry_of(fd)[6]; }
static int is_sought(int fd) { return entry_of(fd) && (int64_t)entry_of(fd)[5] >= 0; }
static unsigned long room(void) {
    struct statfs fs;
    MUST(!statfs("/dev/shm", &fs));
    return fs.f_bfree;
}
static void shows(void) {
    unsigned long before = room();
    puts(in_memory ? "in memory" : "on the root");
    int fd = made(name, 0, 8192), status;
    for (int i = 0; i < 50 && !(is_read(fd) && is_written(fd) == in_memory); i++) use(fd, 8192);
    printf("writes %d reads %d\n", is_written(fd), is_read(fd));
    modified(fd);
    printf("looked at: writes %d reads %d\n", is_written(fd), is_read(fd));
    use(fd, 8192);
    close(open(name, O_RDWR));
    printf("opened by somebody else: writes %d reads %d\n", is_written(fd), entry_of(fd)[4] != 0);
    use(fd, 8192);
    seek(fd);
    printf("sought %d\n", is_sought(fd));
    MUST(read(fd, seen, 1) == 1);
    printf("read: sought %d\n", is_sought(fd));
    uint64_t window = entry_of(fd)[3];
    printf("mapped %d\n", is_mapped(window));
    fflush(stdout);
    pid_t child = fork();
    if (!child) _exit(is_mapped(window));
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status));
    printf("in a child: mapped %d\n", WEXITSTATUS(status));
    unlink(name);
    close(fd);
    printf("closed: mapped %d\n", is_mapped(window));
    printf("room again %d\n", room() == before);
}
int main(int argc, char **argv) {
    /* On a disk, which the root is in the sandbox, where this lies in /t; and on a tmpfs. */
    const char *const places[] = {access("/t/lent", F_OK) ? "." : "/usr", "/dev/shm"};
    for (in_memory = 0; in_memory < 2; in_memory++) {
        snprintf(name, sizeof name, "%s/lent-%d", places[in_memory], getpid());
        snprintf(other_name, sizeof other_name, "%s/lent-other-%d", places[in_memory], getpid());
        if (argc > 1) {
            shows();
            continue;
        }
        positions();
        contents();
        rules();
        storm();
    }
    if (argc == 1) puts("done");
    return 0;
}
