/* /proc/PID/loginuid and sessionid: who may set them, what children have. As pam_loginuid does it. */
#include "check.h"

static char text[32];

static const char *read_from(const char *path) {
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    close(fd);
    return text;
}

static int set(const char *path, const char *value) {
    int fd = open(path, O_RDWR), r;
    if (fd < 0) return fd;
    r = read(fd, text, sizeof text) < 0 || ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET) ? -2 : write(fd, value, strlen(value));
    close(fd);
    return r;
}

#define SET(value) set("/proc/self/loginuid", value)

/* The session's number counts all logins of the machine. */
static void tell(void) {
    printf("login %s", read_from("/proc/self/loginuid"));
    printf(" session %s\n", strcmp(read_from("/proc/self/sessionid"), "4294967295") ? "some" : "none");
    fflush(stdout);
}

int main(void) {
    char parent[64], session[32];
    /* Where the test was started by somebody who logged in. */
    SET("4294967295");
    drop_capabilities();
    tell();
    T(truncate("/proc/self/loginuid", 0)); T(truncate("/proc/self/sessionid", 0));
    T(SET("")); T(SET("nobody")); T(SET("-3")); T(SET("4294967296")); T(SET("4294967295"));
    fflush(stdout);
    if (!fork()) {
        snprintf(parent, sizeof parent, "/proc/%d/loginuid", getppid());
        T(set(parent, "7"));
        T(SET("12\n"));
        tell();
        T(SET("12")); T(SET("13")); T(SET("4294967295"));
        strcpy(session, read_from("/proc/self/sessionid"));
        fflush(stdout);
        if (!fork()) { tell(); printf("%d\n", strcmp(session, read_from("/proc/self/sessionid"))); fflush(stdout); _exit(0); }
        wait(NULL);
        _exit(0);
    }
    wait(NULL);
    tell();
    if (!fork()) { T(SET("0")); tell(); _exit(0); }
    wait(NULL);
    return 0;
}
