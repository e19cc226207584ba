/* A site that is used often is patched: one byte of it, in this process and its children, not in others that map the same file, and not in what /proc says. */
#include "fast.h"

long site_call(long nr);
extern const unsigned char the_site[];
__asm__(
    ".globl site_call, the_site\n"
    "site_call: mov %rdi, %rax\n"
    "the_site: syscall\n"
    "cmp $-4096, %rax\n"
    "ret\n"
    /* As the library's stat family: the one-byte jump would lead below all memory. */
    ".globl low_call, low_site\n"
    "low_call: mov %rdi, %rax\n"
    "low_site: syscall\n"
    "cmp $-4096, %eax\n"
    "ret\n");
long low_call(long nr);
extern const unsigned char low_site[];

static void show(const char *when) {
    printf("%s %02x %02x\n", when, ((volatile const unsigned char *)the_site)[0], ((volatile const unsigned char *)the_site)[1]);
    fflush(stdout);
}
int main(int argc, char **argv) {
    if (argc > 1) {
        show("alone");
        return 0;
    }
    show("before");
    for (int i = 0; i < OFTEN; i++) MUST(site_call(SYS_getuid) == 0);
    show("after");
    for (int i = 0; i < OFTEN; i++) MUST(low_call(SYS_getuid) == 0);
    printf("low %02x %02x\n", ((volatile const unsigned char *)low_site)[0], ((volatile const unsigned char *)low_site)[1]);
    fflush(stdout);
    if (!fork()) {
        MUST(site_call(SYS_getuid) == 0);
        show("child");
        execl("/proc/self/exe", "patched", "alone", (char *)0);
        _exit(1);
    }
    wait(0);
    /* Where the jump leads. */
    uintptr_t there = (uintptr_t)the_site + 5 + 0x003d4805;
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    while (fgets(line, sizeof line, maps)) {
        unsigned long low, high;
        MUST(sscanf(line, "%lx-%lx", &low, &high) == 2);
        MUST(there < low || there >= high);
    }
    puts("hidden");
    return 0;
    (void)argv;
}
