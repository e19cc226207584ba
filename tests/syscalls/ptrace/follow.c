// Children and programs: which events come, in order for each thread, and what they say.
#include "tracing.h"
#include <pthread.h>
#include <spawn.h>

extern char **environ;
static void *thread(void *unused) { syscall(SYS_getppid); return unused; }

static void body(void) {
    pid_t pid = fork();
    if (!pid) _exit(3);
    waitpid(pid, 0, 0);
    pid = vfork();
    if (!pid) _exit(4);
    waitpid(pid, 0, 0);
    pthread_t other;
    pthread_create(&other, 0, thread, 0);
    pthread_join(other, 0);
    char *arguments[] = {"sh", "-c", "exit 5", 0};
    posix_spawn(&pid, "/bin/sh", 0, 0, arguments, environ);
    waitpid(pid, 0, 0);
    execl("/bin/sh", "sh", "-c", "exit 6", (char *)0);
}

// Names for threads, by order of their events' coming.
static pid_t known[16];
static int count;
static int name(pid_t pid) {
    for (int index = 0; index < count; index++) if (known[index] == pid) return index;
    known[count] = pid;
    return count++;
}

static char lines[16][4096];

static void tell(int who, const char *what) {
    snprintf(lines[who] + strlen(lines[who]), sizeof lines[who] - strlen(lines[who]), "  %s\n", what);
}

int main(int argc, char **argv) {
    int seizes = argc > 1;
    const long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_TRACEVFORKDONE;
    fflush(stdout);
    pid_t first;
    if (seizes) {
        first = fork();
        if (!first) { raise(SIGSTOP); body(); _exit(7); }
        int status;
        CHECK(waitpid(first, &status, WUNTRACED) == first && WIFSTOPPED(status));
        CHECK(ptrace(PTRACE_SEIZE, first, 0, options) == 0);
        CHECK(kill(first, SIGCONT) == 0);
    } else {
        first = traced(body);
        CHECK(ptrace(PTRACE_SETOPTIONS, first, 0, options) == 0);
        CHECK(ptrace(PTRACE_CONT, first, 0, 0) == 0);
    }
    name(first);
    static pid_t early[16];
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0) break;
        int known_already = 0;
        for (int index = 0; index < count; index++) known_already |= known[index] == pid;
        if (!known_already) {
            // Before its creator's event: it waits for that.
            for (int index = 0; index < 16; index++) if (!early[index]) { early[index] = pid; break; }
            CHECK(WIFSTOPPED(status));
            continue;
        }
        int who = name(pid), event = status >> 16;
        long message = 0;
        char text[200];
        if (WIFSTOPPED(status)) ptrace(PTRACE_GETEVENTMSG, pid, 0, &message);
        // Group stops of the beginning, and ends of children, are not the matter here.
        int is_stop = event == 128 || (WIFSTOPPED(status) && (WSTOPSIG(status) == SIGCONT || WSTOPSIG(status) == SIGCHLD || WSTOPSIG(status) == SIGSTOP));
        if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
            int child = name((pid_t)message);
            snprintf(text, sizeof text, "event %d: number %d", event, child);
            tell(who, text);
            for (int index = 0; index < 16; index++) if (early[index] == message) {
                CHECK(ptrace(PTRACE_CONT, message, 0, 0) == 0);
                early[index] = 0;
            }
        } else if (event == PTRACE_EVENT_EXIT) {
            snprintf(text, sizeof text, "about to exit: %lx", message);
            tell(who, text);
        } else if (event == PTRACE_EVENT_EXEC || event == PTRACE_EVENT_VFORK_DONE) {
            snprintf(text, sizeof text, "event %d: number %d", event, name((pid_t)message));
            tell(who, text);
        } else if (!is_stop) {
            tell(who, told(status));
        }
        if (WIFSTOPPED(status)) {
            int passes = !event && (WSTOPSIG(status) == SIGCHLD || WSTOPSIG(status) == SIGCONT);
            CHECK(ptrace(PTRACE_CONT, pid, 0, passes ? WSTOPSIG(status) : 0) == 0);
        }
    }
    for (int who = 0; who < count; who++) printf("number %d\n%s", who, lines[who]);
    return 0;
}
