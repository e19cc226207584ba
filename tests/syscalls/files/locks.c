/* fcntl(2)'s locks of processes and descriptions, flock(2): conflicts, ranges, release, deadlock, interruption. */
#include "check.h"

static int set(int fd, int command, int type, long start, long len) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, command, &l);
}

static void tell(int fd, int command, int type, long start, long len, int me) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    int r = fcntl(fd, command, &l);
    printf("  get %d: type %d whence %d start %ld len %ld pid %s\n", r < 0 ? -errno : r, l.l_type, l.l_whence, (long)l.l_start, (long)l.l_len,
           l.l_pid == me ? "parent" : l.l_pid == -1 ? "-1" : l.l_pid ? "other" : "0");
}

static int to[2], from[2];
static void say(int *p) { char c = 0; write(p[1], &c, 1); }
static void hear(int *p) { char c; read(p[0], &c, 1); }
static void nothing(int s) { (void)s; }

/* A stranger that sends SIGALRM in a while. */
static void kick(int pid) {
    int child = fork();
    if (!child) {
        if (!fork()) { syscall(SYS_close_range, 3, ~0u, 0); usleep(300000); kill(pid, SIGALRM); }
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

int main(void) {
    own_directory();
    make("f", 0644);
    pipe(to); pipe(from);
    int me = getpid();
    int fd = open("f", O_RDWR), r = open("f", O_RDONLY), w = open("f", O_WRONLY);
    T(set(r, F_SETLK, F_WRLCK, 0, 0)); T(set(w, F_SETLK, F_RDLCK, 0, 0)); T(set(fd, F_SETLK, 7, 0, 0)); T(set(fd, F_SETLK, F_RDLCK, -1, 0)); T(set(fd, F_SETLK, F_RDLCK, 5, -6)); T(set(fd, F_SETLK, F_RDLCK, LONG_MAX, 2)); T(fcntl(fd, F_SETLK, 1));
    T(set(fd, F_GETLK, F_UNLCK, 0, 0));
    T(set(fd, F_SETLK, F_WRLCK, 10, 10)); T(set(fd, F_SETLK, F_WRLCK, 20, 10)); T(set(fd, F_SETLK, F_RDLCK, 40, 0)); T(set(fd, F_SETLK, F_RDLCK, 15, 2)); T(set(fd, F_SETLK, F_UNLCK, 25, 1));
    fflush(stdout);
    if (!fork()) {
        int fd = open("f", O_RDWR);
        for (int at = 0; at < 45; at += 5) tell(fd, F_GETLK, F_WRLCK, at, 5, me);
        tell(fd, F_GETLK, F_RDLCK, 0, 0, me); tell(fd, F_GETLK, F_RDLCK, 41, 0, me);
        T(set(fd, F_SETLK, F_RDLCK, 15, 2)); T(set(fd, F_SETLK, F_WRLCK, 15, 2)); T(set(fd, F_SETLK, F_WRLCK, 25, 1)); T(set(fd, F_SETLK, F_WRLCK, 0, 10));
        fflush(stdout); _exit(0);
    }
    wait(NULL);
    /* closing any descriptor releases */
    close(open("f", O_RDONLY));
    if (!fork()) { T(set(fd, F_SETLK, F_WRLCK, 0, 0)); fflush(stdout); _exit(0); }
    wait(NULL);
    T(set(fd, F_SETLK, F_WRLCK, 0, 0));
    /* waiting, and the end of the holder */
    if (!fork()) { set(fd, F_SETLKW, F_WRLCK, 100, 1); _exit(9); }
    if (!fork()) { signal(SIGALRM, SIG_DFL); kick(getpid()); set(fd, F_SETLKW, F_WRLCK, 0, 0); _exit(1); }
    int st; int n = wait(&st) > 0; printf("%d %d\n", n, WIFSIGNALED(st) ? WTERMSIG(st) : -1);
    T(set(fd, F_SETLK, F_UNLCK, 0, 0)); wait(&st); printf("%d\n", WEXITSTATUS(st));
    /* interruption */
    int holder = fork();
    if (!holder) { T(set(fd, F_SETLK, F_WRLCK, 0, 1)); fflush(stdout); say(from); hear(to); _exit(0); }
    hear(from);
    struct sigaction sa = {.sa_handler = nothing}; sigaction(SIGALRM, &sa, NULL); kick(me);
    T(set(fd, F_SETLKW, F_WRLCK, 0, 1));
    say(to); wait(NULL);
    T(set(fd, F_SETLKW, F_WRLCK, 0, 1));
    T(set(fd, F_SETLK, F_WRLCK, 1, 1)); 
    set(fd, F_SETLK, F_UNLCK, 0, 0);
    /* deadlock: the child holds 1 and waits for 0, the parent holds 0 and asks for 1 */
    T(set(fd, F_SETLK, F_WRLCK, 0, 1));
    fflush(stdout);
    int child = fork();
    if (!child) { set(fd, F_SETLK, F_WRLCK, 1, 1); say(from); _exit(set(fd, F_SETLKW, F_WRLCK, 0, 1) ? errno : 0); }
    hear(from); usleep(300000);
    T(set(fd, F_SETLKW, F_WRLCK, 1, 1));
    T(set(fd, F_SETLK, F_UNLCK, 0, 1));
    waitpid(child, &st, 0); printf("child %d\n", WEXITSTATUS(st));
    /* descriptions */
    int o = open("f", O_RDWR), o2 = open("f", O_RDWR);
    T(set(o, F_OFD_SETLK, F_WRLCK, 0, 10)); T(set(o2, F_OFD_SETLK, F_RDLCK, 5, 1)); T(set(o2, F_SETLK, F_RDLCK, 5, 1)); tell(o2, F_GETLK, F_WRLCK, 0, 0, me); tell(o2, F_OFD_GETLK, F_WRLCK, 0, 0, me); tell(o, F_OFD_GETLK, F_WRLCK, 0, 0, me);
    struct flock with_pid = {.l_type = F_RDLCK, .l_pid = 5}; T(fcntl(o, F_OFD_SETLK, &with_pid));
    int copy = dup(o); close(o); T(set(o2, F_OFD_SETLK, F_RDLCK, 5, 1)); close(copy); T(set(o2, F_OFD_SETLK, F_RDLCK, 5, 1)); T(set(fd, F_SETLK, F_WRLCK, 5, 1)); close(o2); T(set(fd, F_SETLK, F_WRLCK, 5, 1));
    lseek(fd, 3, SEEK_SET);
    struct flock c = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = -1, .l_len = 2}; T(fcntl(fd, F_SETLK, &c)); c.l_whence = SEEK_END; T(fcntl(fd, F_SETLK, &c)); c.l_whence = 9; T(fcntl(fd, F_SETLK, &c));
    fflush(stdout);
    if (!fork()) { for (int at = 0; at < 8; at++) tell(fd, F_GETLK, F_RDLCK, at, 1, me); fflush(stdout); _exit(0); }
    wait(NULL);
    /* flock */
    int a = open("f", O_RDONLY), b = open("f", O_RDONLY);
    T(flock(a, LOCK_SH)); T(flock(b, LOCK_SH)); T(flock(a, LOCK_EX | LOCK_NB)); T(flock(b, LOCK_EX | LOCK_NB)); T(flock(a, LOCK_SH | LOCK_NB)); T(flock(b, LOCK_UN)); T(flock(a, 99)); T(flock(99, LOCK_SH)); T(flock(a, LOCK_EX)); T(flock(a, LOCK_EX));
    fflush(stdout);
    if (!fork()) { T(flock(a, LOCK_EX | LOCK_NB)); T(flock(b, LOCK_EX | LOCK_NB)); fflush(stdout); say(from); _exit(flock(b, LOCK_EX) ? errno : 0); }
    hear(from); usleep(100000); T(flock(a, LOCK_UN)); wait(&st); printf("%d\n", WEXITSTATUS(st));
    T(flock(b, LOCK_UN)); T(flock(a, LOCK_EX)); kick(me); T(flock(b, LOCK_EX));
    close(a); T(flock(b, LOCK_EX | LOCK_NB));
    return 0;
}
