// A slave's owner and mode, which who opens it for somebody changes: by path and by descriptor, allowed and not, and what then may be opened.
#include "pair.h"
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static char name[64];

static void tell(const char *what, int done) {
    int saved = errno;
    struct stat st;
    if (stat(name, &st)) { perror("stat"); exit(9); }
    printf("%s %s: uid %u gid %u mode %o\n", what, done < 0 ? strerror(saved) : "done", st.st_uid, st.st_gid, st.st_mode);
}
#define TELL(call) tell(#call, (int)(call))

static void drop_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    syscall(SYS_capset, &header, data);
}

int main(void) {
    unsigned number;
    int master = open_master(), slave = open_slave(master, O_RDWR | O_NOCTTY);
    struct stat st, before;
    if (ioctl(master, TIOCGPTN, &number)) return 1;
    snprintf(name, sizeof name, "/dev/pts/%u", number);
    // What it begins with is the mount's.
    if (fstat(slave, &before) || chmod(name, 0620)) return 2;
    TELL(chown(name, 0, 5));
    TELL(fchown(slave, 1234, (gid_t)-1));
    TELL(fchmod(slave, 04751));
    TELL(lchown(name, (uid_t)-1, 77));
    TELL(fchmod(slave, 02770));
    TELL(chown(name, (uid_t)-1, (gid_t)-1));
    TELL(fstat(slave, &st));
    printf("fstat %u %u %o\n", st.st_uid, st.st_gid, st.st_mode);
    TELL(chown(name, 1234, 77));
    TELL(chmod(name, 0600));
    fflush(stdout);
    if (!fork()) {
        // Who it is given to.
        if (setgid(77) || setuid(1234)) _exit(9);
        TELL(open(name, O_RDWR | O_NOCTTY));
        TELL(chmod(name, 0202));
        TELL(open(name, O_RDONLY | O_NOCTTY));
        TELL(open(name, O_WRONLY | O_NOCTTY));
        TELL(chown(name, 0, (gid_t)-1));
        TELL(chown(name, (uid_t)-1, 77));
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    drop_capabilities();
    TELL(open(name, O_RDONLY | O_NOCTTY));
    TELL(chmod(name, 0666));
    TELL(chown(name, 0, 0));
    close(slave);
    // The next one, of that number if nobody else was quicker, begins anew.
    close(master);
    master = open_master();
    if (ioctl(master, TIOCGPTN, &number)) return 3;
    snprintf(name, sizeof name, "/dev/pts/%u", number);
    printf("again %d\n", !stat(name, &st) && st.st_uid == before.st_uid && st.st_mode == before.st_mode);
    return 0;
}
