/* Times single system calls: one line per row, "name<TAB>minimum<TAB>median", ns per call over ROUNDS batches (3 of whole programs).
 * Built static by bench/sentry/run.py, and run on the host and in each sandbox as the same file. Arguments: only rows whose names contain one of them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 9
#define CHECK(what) do { if (!(what)) exit(1); } while (0)

static int rounds = ROUNDS;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
static int compare(const void *a, const void *b) {
    return *(double *)a < *(double *)b ? -1 : 1;
}
static char **wanted;
static void row(const char *name, int batch, void (*call)(void)) {
    double times[ROUNDS];
    char **word = wanted;
    while (*word && !strstr(name, *word)) word++;
    if (*wanted && !*word) return;
    for (int i = 0; i < batch / 10 + 1; i++) call();
    for (int r = 0; r < rounds; r++) {
        double start = now();
        for (int i = 0; i < batch; i++) call();
        times[r] = (now() - start) / batch;
    }
    qsort(times, rounds, sizeof *times, compare);
    printf("%s\t%.0f\t%.0f\n", name, times[0], times[rounds / 2]);
    fflush(stdout);
}

static int image, zero, scratch, there[2], back[2], ends[2];
static char buffer[4096];
static volatile int word;

static void do_getpid(void) { syscall(SYS_getpid); }
static void do_gettid(void) { syscall(SYS_gettid); }
static void do_getuid(void) { syscall(SYS_getuid); }
static void do_yield(void) { sched_yield(); }
static void do_clock(void) { struct timespec t; syscall(SYS_clock_gettime, 1, &t); }
static void do_read_zero(void) { CHECK(read(zero, buffer, 1) == 1); }
static void do_read_zero_syscall(void) { CHECK(syscall(SYS_read, zero, buffer, 1) == 1); }
static void do_pread(void) { CHECK(pread(image, buffer, 4096, 0) == 4096); }
static void do_pread_scratch(void) { CHECK(pread(scratch, buffer, 4096, 0) == 4096); }
static void do_pwrite(void) { CHECK(pwrite(scratch, buffer, 4096, 0) == 4096); }
static void do_lseek(void) { lseek(image, 0, SEEK_SET); }
static void do_fstat(void) { struct stat s; CHECK(!fstat(image, &s)); }
static void do_stat(void) { struct stat s; CHECK(!stat("/bin/busybox", &s)); }
static void do_stat_absent(void) { struct stat s; CHECK(stat("/bin/absent", &s)); }
static void do_access(void) { CHECK(!access("/bin/busybox", R_OK)); }
static void do_readlink(void) { CHECK(readlink("/bin/true", buffer, sizeof buffer) != 0); }
static void do_open(void) { int fd = open("/bin/busybox", O_RDONLY); CHECK(fd >= 0); close(fd); }
static void do_fault(void) {
    static char *at;
    static int used = 4096;
    if (used == 4096) {
        if (at) munmap(at, 4096 * 4096L);
        at = mmap(0, 4096 * 4096L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        madvise(at, 4096 * 4096L, MADV_NOHUGEPAGE);
        used = 0;
    }
    at[4096L * used++] = 1;
}
static void do_mmap(void) {
    char *at = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 16; i++) at[i * 4096] = 1;
    munmap(at, 65536);
}
static void do_fork(void) {
    pid_t child = fork();
    if (!child) _exit(0);
    waitpid(child, 0, 0);
}
static void do_exec(void) {
    pid_t child = vfork();
    if (!child) {
        execl("/bin/true", "true", (char *)0);
        _exit(1);
    }
    waitpid(child, 0, 0);
}
static void *nothing(void *argument) { return argument; }
static void do_thread(void) {
    pthread_t thread;
    CHECK(!pthread_create(&thread, 0, nothing, 0));
    pthread_join(thread, 0);
}
static void *pipe_echo(void *argument) {
    char byte;
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {}
    return argument;
}
static void do_pipe(void) {
    char byte = 1;
    CHECK(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1);
}
static void *socket_echo(void *argument) {
    char byte;
    while (read(ends[1], &byte, 1) == 1 && write(ends[1], &byte, 1) == 1) {}
    return argument;
}
static void do_socket(void) {
    char byte = 1;
    CHECK(write(ends[0], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1);
}
/* The same between two processes: the child ends with its parent's ends. */
static void start_echo(void *(*echo)(void *)) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        close(there[1]), close(ends[0]);
        echo(0);
        _exit(0);
    }
}
static void *futex_echo(void *argument) {
    for (;;) {
        while (!word) syscall(SYS_futex, &word, 0, 0, 0, 0, 0);
        word = 0;
        syscall(SYS_futex, &word, 1, 1, 0, 0, 0);
    }
    return argument;
}
static void do_futex(void) {
    word = 1;
    syscall(SYS_futex, &word, 1, 1, 0, 0, 0);
    while (word) syscall(SYS_futex, &word, 0, 1, 0, 0, 0);
}

/* Two threads that want one lock all the time; a call is one turn of this one. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int is_contending;
static volatile long turns;
static void *contend(void *argument) {
    while (is_contending) {
        pthread_mutex_lock(&lock);
        turns++;
        pthread_mutex_unlock(&lock);
    }
    return argument;
}
static void do_contended(void) {
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&lock);
        turns++;
        pthread_mutex_unlock(&lock);
    }
}

/* Whole programs, all of busybox: the same ones everywhere. */
static void shell(const char *script) {
    int status;
    pid_t child = vfork();
    if (!child) {
        execl("/bin/busybox", "sh", "-c", script, (char *)0);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && !status);
}
#define TREE "/tmp/casemate-bench-tree"
static void make_tree(void) {
    char path[64];
    mkdir(TREE, 0700);
    for (int i = 0; i < 50; i++) {
        snprintf(path, sizeof path, TREE "/%d", i);
        mkdir(path, 0700);
        for (int j = 0; j < 20; j++) {
            snprintf(path, sizeof path, TREE "/%d/%d", i, j);
            int fd = open(path, O_WRONLY | O_CREAT, 0600);
            CHECK(fd >= 0 && write(fd, buffer, sizeof buffer) == sizeof buffer);
            close(fd);
        }
    }
}
static void do_script(void) {
    shell("i=0; while [ $i -lt 200 ]; do /bin/busybox true; i=$((i+1)); done");
}
static void do_find(void) { shell("/bin/busybox find " TREE " -type f -size +1 >/dev/null"); }
static void do_find_wc(void) { shell("/bin/busybox find " TREE " -type f | /bin/busybox wc -l >/dev/null"); }
static void do_tar(void) { shell("/bin/busybox tar -cf - " TREE " 2>/dev/null | /bin/busybox cat >/dev/null"); }
static void do_dd(void) { shell("/bin/busybox dd if=" TREE "/data of=/dev/null bs=4096 2>/dev/null"); }
static void do_write(void) { shell("/bin/busybox dd if=/dev/zero of=" TREE "/data bs=4096 count=4096 2>/dev/null"); }

int main(int count, char **arguments) {
    pthread_t thread;
    wanted = arguments + (count > 0);
    image = open("/bin/busybox", O_RDONLY);
    zero = open("/dev/zero", O_RDONLY);
    scratch = open("/tmp/casemate-bench-scratch", O_RDWR | O_CREAT, 0600);
    CHECK(image >= 0 && zero >= 0 && scratch >= 0 && write(scratch, buffer, 4096) == 4096);
    row("getpid", 20000, do_getpid);
    row("gettid", 20000, do_gettid);
    row("getuid", 4000, do_getuid);
    row("sched_yield", 5000, do_yield);
    row("clock_gettime, by syscall", 5000, do_clock);
    row("read 1 B of /dev/zero, by read()", 3000, do_read_zero);
    row("read 1 B of /dev/zero, by syscall()", 3000, do_read_zero_syscall);
    row("pread 4 KiB, image", 3000, do_pread);
    row("pread 4 KiB, tmpfs", 3000, do_pread_scratch);
    row("pwrite 4 KiB, tmpfs", 3000, do_pwrite);
    row("lseek", 3000, do_lseek);
    row("fstat", 3000, do_fstat);
    row("stat, present", 3000, do_stat);
    row("stat, absent", 3000, do_stat_absent);
    row("access", 3000, do_access);
    row("readlink", 3000, do_readlink);
    row("open + close", 2000, do_open);
    row("page fault", 8000, do_fault);
    row("mmap + touch 64 KiB + munmap", 500, do_mmap);
    row("fork + exit + wait", 60, do_fork);
    row("fork + exec + wait", 30, do_exec);
    row("thread create + join", 200, do_thread);
    CHECK(!pipe(there) && !pipe(back) && !socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    pthread_create(&thread, 0, pipe_echo, 0);
    row("pipe ping-pong", 500, do_pipe);
    pthread_create(&thread, 0, socket_echo, 0);
    row("unix socket ping-pong", 500, do_socket);
    close(ends[0]), ends[0] = -1;
    CHECK(!pipe(there) && !pipe(back));
    start_echo(pipe_echo);
    row("pipe ping-pong, two processes", 500, do_pipe);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    start_echo(socket_echo);
    row("unix socket ping-pong, two processes", 500, do_socket);
    pthread_create(&thread, 0, futex_echo, 0);
    row("futex ping-pong", 500, do_futex);
    is_contending = 1;
    pthread_create(&thread, 0, contend, 0);
    row("contended lock, 2000 turns", 20, do_contended);
    is_contending = 0;
    pthread_join(thread, 0);
    make_tree();
    rounds = 3;
    row("sh, 200 commands", 1, do_script);
    row("find of 1000 files", 1, do_find);
    row("find of 1000 files, into wc", 1, do_find_wc);
    row("tar of 1000 files", 1, do_tar);
    row("dd of 16 MiB to a file by 4 KiB", 1, do_write);
    row("dd of 16 MiB from a file by 4 KiB", 1, do_dd);
    shell("/bin/busybox rm -r " TREE);
    unlink("/tmp/casemate-bench-scratch");
    return 0;
}
