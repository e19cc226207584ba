/* Which answers lie where the stub finds them: the table that crates/platform/src/answers.rs lays out. */
#include "../fast/fast.h"
#include <sys/fsuid.h>

#define CHANNEL (0x500000000000UL - 0x100000)
#define FILE_ "/kept/file"

static int is_there(void) {
    unsigned char present;
    return mincore((void *)CHANNEL, 4096, &present) == 0;
}
/* Whether an answer to stat(2) of the file is true. */
static int is_kept(void) {
    for (int i = 0; i < 256; i++) {
        volatile uint64_t *entry = (volatile uint64_t *)(CHANNEL + 16 * 0x2000 + i * 512);
        uint64_t owner = entry[2] >> 32;
        volatile uint64_t *slot = (volatile uint64_t *)(CHANNEL + owner % 16 * 0x2000);
        if ((unsigned)entry[2] == SYS_stat && !strcmp((const char *)(entry + 8), FILE_) && entry[0] > slot[0xa0 / 8]) return 1;
    }
    return 0;
}
static void ask(void) {
    struct stat s;
    for (int i = 0; i < OFTEN * 50 && !(is_there() && is_kept()); i++) MUST(!syscall(SYS_stat, FILE_, &s));
}
static void tell(const char *when) { printf("%s %s\n", when, is_kept() ? "kept" : "ended"); }

int main(void) {
    struct stat s;
    int fd;
    MUST(!mkdir("/kept", 0755) && (fd = open(FILE_, O_CREAT | O_WRONLY, 0600)) >= 0 && !close(fd) && !stat(FILE_, &s));
    ask();
    tell("asked");
    MUST((fd = open("/kept/other", O_CREAT | O_WRONLY, 0600)) >= 0 && write(fd, "x", 1) == 1 && !close(fd) && !unlink("/kept/other") && !chdir("/kept"));
    tell("something else changed");
    MUST(!chmod(FILE_, s.st_mode ^ 1));
    tell("its mode changed");
    MUST(!syscall(SYS_stat, FILE_, &s));
    ask();
    tell("asked");
    MUST(!rename("/kept", "/elsewhere"));
    tell("a directory moved");
    MUST(!rename("/elsewhere", "/kept"));
    ask();
    tell("asked");
    MUST(!chroot("/"));
    tell("another root");
    ask();
    tell("asked");
    MUST(!setfsuid(1));
    tell("somebody else");
    fflush(stdout);
    pid_t child = fork();
    if (!child) _exit(is_there());
    int status;
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status));
    printf("a child has %s\n", WEXITSTATUS(status) ? "them" : "none");
    return 0;
}
