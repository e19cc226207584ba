/* Ids that the stub answers, while they change: for one thread, for a child, for a child in the same memory. */
#include "fast.h"

static void ids(const char *who) {
    long found[4];
    for (int i = 0; i < OFTEN; i++) {
        found[0] = syscall(SYS_getuid), found[1] = syscall(SYS_getgid);
        found[2] = syscall(SYS_geteuid), found[3] = syscall(SYS_getegid);
    }
    printf("%s: %ld %ld %ld %ld\n", who, found[0], found[1], found[2], found[3]);
    fflush(stdout);
}
static void *other(void *argument) {
    /* By the bare call: this thread's alone. */
    syscall(SYS_setresgid, 50, 60, -1);
    ids("thread");
    return argument;
}
int main(void) {
    ids("start");
    MUST(syscall(SYS_setresgid, 5, 6, 0) == 0);
    ids("changed");
    pthread_t thread;
    MUST(pthread_create(&thread, 0, other, 0) == 0);
    pthread_join(thread, 0);
    ids("after the thread");
    if (!fork()) {
        MUST(syscall(SYS_setresuid, 1000, 1001, 0) == 0);
        ids("child");
        _exit(0);
    }
    wait(0);
    ids("parent");
    MUST(setegid(0) == 0 && setegid(9) == 0);
    ids("by the library");
    pid_t child = vfork();
    if (!child) {
        syscall(SYS_setresuid, 1000, 1000, 1000);
        for (int i = 0; i < 40; i++) if (syscall(SYS_getuid) != 1000) _exit(1);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    printf("vfork: %d\n", status);
    ids("after vfork");
    return 0;
}
