/* Does what takes each call of the sentry's own. A test watches from outside which of them are made. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static void files(void) {
    char text[1 << 20];
    int fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    memset(text, 'x', sizeof text);
    write(fd, text, sizeof text);
    pread(fd, text, sizeof text, 0);
    ftruncate(fd, 1 << 16);
    fallocate(fd, 0, 0, 1 << 17);
    fsync(fd);
    syncfs(fd);
    lseek(fd, 0, SEEK_DATA);
    fchmod(fd, 0640);
    fchown(fd, getuid(), getgid());
    fsetxattr(fd, "user.name", "value", 5, 0);
    fgetxattr(fd, "user.name", text, sizeof text);
    flistxattr(fd, text, sizeof text);
    fremovexattr(fd, "user.name");
    utimensat(AT_FDCWD, "file", 0, 0);
    link("file", "link");
    symlink("file", "symlink");
    readlink("symlink", text, sizeof text);
    mkfifo("fifo", 0600);
    mkdir("directory", 0700);
    rename("link", "renamed");
    DIR *here = opendir(".");
    while (readdir(here))
        ;
    closedir(here);
    struct statfs about;
    statfs(".", &about);
    unlink("renamed"), unlink("symlink"), unlink("fifo"), rmdir("directory"), unlink("file");
    close(fd);
    int memory = memfd_create("memory", MFD_ALLOW_SEALING);
    fcntl(memory, F_ADD_SEALS, F_SEAL_GROW);
    int watch = inotify_init1(IN_NONBLOCK);
    int wd = inotify_add_watch(watch, ".", IN_CREATE);
    inotify_rm_watch(watch, wd);
    getrandom(text, 16, 0);
}

static void sockets(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bind(listening, (void *)&address, sizeof address);
    listen(listening, 5);
    getsockname(listening, (void *)&address, &len);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (void *)&address, sizeof address) == 0) {
        int server = accept(listening, 0, 0);
        len = sizeof one;
        getsockopt(server, SOL_SOCKET, SO_ERROR, &one, &len);
        send(client, "hello", 5, 0);
        static char much[1 << 20];
        send(client, much, sizeof much, MSG_DONTWAIT);
        recv(server, &one, 4, 0);
        shutdown(client, SHUT_RDWR);
    } else
        printf("no loopback: %s\n", strerror(errno));
}

static void on_signal(int signal) {
    (void)signal;
}

static void processes(void) {
    signal(SIGUSR1, on_signal);
    signal(SIGALRM, on_signal);
    int ends[2];
    pipe(ends);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGUSR1, on_signal);
        write(ends[1], "x", 1);
        for (;;)
            ;
    }
    char byte;
    read(ends[0], &byte, 1);
    /* One that runs is interrupted by a signal of the host's. */
    kill(child, SIGUSR1);
    struct rlimit limit = {1 << 30, RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = 1L << 40;
    setrlimit(RLIMIT_AS, &limit);
    struct itimerval often = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_PROF, &often, 0);
    signal(SIGPROF, on_signal);
    for (volatile int count = 0; count < 20000000; count++)
        ;
    setitimer(ITIMER_PROF, &(struct itimerval){0}, 0);
    struct timespec moment = {0, 2000000};
    nanosleep(&moment, 0);
    kill(child, SIGKILL);
    int status;
    struct rusage usage;
    wait4(child, &status, 0, &usage);
    struct pollfd input = {0, POLLIN, 0};
    poll(&input, 1, 0);
    ioctl(0, FIONREAD, &status);
}

static void *work(void *argument) {
    for (int count = 0; count < 2000; count++)
        getppid(), open("/nosuch", O_RDONLY);
    return argument;
}

int main(int argc, char **argv) {
    if (argc > 1)
        chdir(argv[1]);
    files();
    sockets();
    processes();
    pthread_t threads[4];
    for (int each = 0; each < 4; each++)
        pthread_create(&threads[each], 0, work, 0);
    for (int each = 0; each < 4; each++)
        pthread_join(threads[each], 0);
    puts("done");
    return 0;
}
