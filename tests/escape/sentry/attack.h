/* What the attacks have in common: each is made in children, which may die or hang and end by themselves or by force; what is left is killed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include "../../hostile.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define CHANNEL (STUB - 0x100000) /* crates/platform/src/channel.rs: 16 slots of 0x2000 bytes */
#define CHANNEL_LEN 0x20000UL
enum { PAGE = 4096, LAST_CALL = 470 };

/* Shared by an attack and its children: how far it is. */
struct shared {
    volatile long at, answered, wrong, died, hung;
    volatile long values[64];
};
static struct shared *shared;
static char *area;     /* 64 KiB to read and write */
static char *edge;     /* the end of a mapping: behind it there is nothing */
static char *read_only;
static int nothing;    /* opened early: an attack may take the root's mode away */

static inline uint64_t next(uint64_t *state) {
    uint64_t x = *state;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return *state = x;
}

static void *map(size_t len, int protection, int flags) {
    void *at = mmap(0, len, protection, flags | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        perror("mmap"), exit(3);
    return at;
}

static void set_up(void) {
    sigset_t child;
    sigemptyset(&child), sigaddset(&child, SIGCHLD), sigprocmask(SIG_BLOCK, &child, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    shared = map(sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED);
    area = map(1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memset(area, 'a', 1 << 16);
    edge = (char *)map(2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE) + PAGE;
    memset(edge - PAGE, 'e', PAGE);
    munmap(edge, PAGE);
    read_only = map(PAGE, PROT_READ, MAP_PRIVATE);
}

/* Runs `work` in a child without streams; kills it when `shared->at` has not moved for `patience_ms`. wait(2)'s status. */
static int attempt(void (*work)(void *), void *argument, long patience_ms) {
    pid_t child;
    /* What was just ended counts for the container's limit a little longer. */
    for (int tries = 0; (child = fork()) < 0 && errno == EAGAIN && tries < 5000; tries++)
        usleep(1000);
    if (child == 0) {
        for (int each = 0; each < 3; each++)
            dup2(nothing, each);
        work(argument);
        _exit(0);
    }
    if (child < 0)
        perror("fork"), exit(3);
    sigset_t ended;
    sigemptyset(&ended), sigaddset(&ended, SIGCHLD);
    long seen = shared->at, since = now_ms();
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        struct timespec moment = {0, 5000000};
        sigtimedwait(&ended, 0, &moment);
        if (shared->at != seen)
            seen = shared->at, since = now_ms();
        if (now_ms() - since > patience_ms)
            kill(child, SIGKILL);
    }
    if (WIFSIGNALED(status))
        WTERMSIG(status) == SIGKILL ? shared->hung++ : shared->died++;
    return status;
}

struct attack {
    const char *name;
    void (*run)(void);
};

static int run_attack(const struct attack *attacks, size_t count, const char *name) {
    need_a_sentry();
    set_up();
    for (size_t each = 0; each < count; each++)
        if (strcmp(attacks[each].name, name) == 0) {
            attacks[each].run();
            end_all();
            printf("%s: %ld answers, %ld died, %ld were ended, %ld wrong\n", name, shared->answered, shared->died, shared->hung, shared->wrong);
            return shared->wrong != 0;
        }
    return 2;
}
