// POSIX message queues: names, limits, order, waiting, notification, descriptors.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define R(call) ({ errno = 0; long r_ = (call); printf("%d %s = %ld %s\n", __LINE__, #call, r_, r_ < 0 ? strerrorname_np(errno) : ""); r_; })
// A descriptor: which number does not matter.
#define K(call) ({ errno = 0; long r_ = (call); printf("%d %s %d %s\n", __LINE__, #call, r_ >= 0, r_ < 0 ? strerrorname_np(errno) : ""); r_; })

static char name[64], buf[9000];
static volatile sig_atomic_t told;
static void on_message(int n, siginfo_t *info, void *c) { told = info->si_code == SI_MESGQ && info->si_value.sival_int == 42 && info->si_pid > 0 ? n : -1; (void)c; }
static void on_alarm(int n) { (void)n; }
static volatile int by_thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static void in_thread(union sigval value) { pthread_mutex_lock(&lock); by_thread = value.sival_int; pthread_cond_broadcast(&changed); pthread_mutex_unlock(&lock); }

static struct timespec in_ms(long ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void naming(void)
{
    struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 64};
    R(mq_open(name, O_RDWR));
    mqd_t q = K(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0640, &a));
    R(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0640, &a));
    R(mq_open(name, O_RDWR | O_WRONLY));
    R(fcntl(q, F_GETFD));
    R(fcntl(q, F_GETFL) & ~0100000);
    struct stat st;
    R(fstat(q, &st));
    printf("%o %ld %d\n", st.st_mode, (long)st.st_size, st.st_uid == geteuid());
    memset(&a, 0, sizeof a);
    R(mq_getattr(q, &a));
    printf("%ld %ld %ld %ld\n", a.mq_flags, a.mq_maxmsg, a.mq_msgsize, a.mq_curmsgs);
    a.mq_flags = O_NONBLOCK;
    R(mq_setattr(q, &a, &a));
    printf("%ld\n", a.mq_flags);
    a.mq_flags = 5;
    R(mq_setattr(q, &a, NULL));
    mqd_t only = K(mq_open(name, O_RDONLY));
    R(mq_send(only, "x", 1, 0));
    R(close(only));
    R(syscall(SYS_mq_open, "", O_RDWR, 0, 0));
    R(syscall(SYS_mq_open, "a/b", O_RDWR, 0, 0));
    R(syscall(SYS_mq_open, "..", O_RDWR, 0, 0));
    memset(buf, 'n', 300);
    buf[300] = 0;
    R(syscall(SYS_mq_open, buf, O_RDWR, 0, 0));
    R(syscall(SYS_mq_open, 8, O_RDWR, 0, 0));
    R(syscall(SYS_mq_open, "x", O_RDWR | O_CREAT, 0600, 8));
    struct mq_attr wrong[] = {{.mq_maxmsg = 0, .mq_msgsize = 1}, {.mq_maxmsg = 1, .mq_msgsize = 0}, {.mq_maxmsg = -1, .mq_msgsize = 1}, {.mq_maxmsg = 70000, .mq_msgsize = 1}, {.mq_maxmsg = 1, .mq_msgsize = 20 << 20}};
    for (unsigned i = 0; i < 5; i++) R(mq_open("/casemate-wrong", O_RDWR | O_CREAT, 0600, wrong + i));
    R(mq_unlink("/casemate-wrong"));
    R(mq_unlink(name));
    R(mq_unlink(name));
    R(mq_send(q, "still there", 12, 0));
    R(mq_receive(q, buf, 64, NULL));
    R(mq_close(q));
    R(mq_getattr(q, &a));
    R(mq_getattr(0, &a));
}

static void order(void)
{
    struct mq_attr a = {.mq_maxmsg = 5, .mq_msgsize = 16};
    mqd_t q = K(mq_open(name, O_RDWR | O_CREAT | O_NONBLOCK, 0600, &a));
    unsigned priorities[] = {1, 5, 1, 32767, 5};
    for (unsigned i = 0; i < 5; i++) { char text[8]; sprintf(text, "m%u", i); R(mq_send(q, text, i + 2, priorities[i])); }
    R(mq_send(q, "", 0, 0));
    R(mq_send(q, buf, 17, 0));
    R(mq_send(q, "x", 1, 32768));
    R(mq_send(q, (void *)8, 4, 0));
    char status[128] = "";
    R(pread(q, status, sizeof status, 0));
    printf("%s", status);
    R(mq_receive(q, buf, 15, NULL));
    for (int i = 0; i < 6; i++) { unsigned p = 0; memset(buf, 0, 16); long n = mq_receive(q, buf, 16, &p); printf("%ld %s %u %s\n", n, buf, p, n < 0 ? strerrorname_np(errno) : ""); }
    R(mq_send(q, "", 0, 9));
    R(mq_receive(q, buf, 16, NULL));
    struct pollfd p = {q, POLLIN | POLLOUT, 0};
    R(poll(&p, 1, 0)); printf("%#x\n", p.revents);
    int e = epoll_create1(0);
    struct epoll_event event = {EPOLLIN | EPOLLET, {0}};
    R(epoll_ctl(e, EPOLL_CTL_ADD, q, &event));
    R(epoll_wait(e, &event, 1, 0));
    R(mq_send(q, "1", 1, 0));
    R(epoll_wait(e, &event, 1, 0));
    R(epoll_wait(e, &event, 1, 0));
    while (mq_send(q, "f", 1, 0) == 0) {}
    R(poll(&p, 1, 0)); printf("%#x\n", p.revents);
    close(e);
    mq_close(q);
    mq_unlink(name);
}

static void waiting(void)
{
    struct mq_attr a = {.mq_maxmsg = 1, .mq_msgsize = 16};
    mqd_t q = K(mq_open(name, O_RDWR | O_CREAT, 0600, &a));
    struct timespec t = in_ms(30), past = {1, 0}, odd = {0, 1000000000};
    R(mq_timedreceive(q, buf, 16, NULL, &t));
    R(mq_timedreceive(q, buf, 16, NULL, &past));
    R(mq_timedreceive(q, buf, 16, NULL, &odd));
    R(mq_timedreceive(q, buf, 16, NULL, (void *)8));
    if (fork() == 0) { usleep(20000); mq_send(q, "from child", 11, 3); _exit(0); }
    unsigned p = 0;
    R(mq_receive(q, buf, 16, &p)); printf("%s %u\n", buf, p); wait(NULL);
    R(mq_send(q, "full", 5, 0));
    t = in_ms(30);
    R(mq_timedsend(q, "more", 5, 0, &t));
    if (fork() == 0) { usleep(20000); mq_receive(q, buf, 16, NULL); _exit(0); }
    R(mq_send(q, "after", 6, 0)); wait(NULL);
    R(mq_receive(q, buf, 16, NULL)); puts(buf);
    for (int restart = 0; restart < 2; restart++) {
        struct sigaction action = {.sa_handler = on_alarm, .sa_flags = restart ? SA_RESTART : 0};
        sigaction(SIGUSR1, &action, NULL);
        pid_t me = getpid();
        if (fork() == 0) { usleep(20000); kill(me, SIGUSR1); usleep(20000); mq_send(q, "late", 5, 0); _exit(0); }
        R(mq_receive(q, buf, 16, NULL)); wait(NULL);
        if (!restart) R(mq_receive(q, buf, 16, NULL));
    }
    mq_close(q);
    mq_unlink(name);
}

static void telling(void)
{
    struct mq_attr a = {.mq_maxmsg = 3, .mq_msgsize = 16};
    mqd_t q = K(mq_open(name, O_RDWR | O_CREAT | O_NONBLOCK, 0600, &a));
    struct sigaction action = {.sa_sigaction = on_message, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR2, &action, NULL);
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 42};
    R(mq_notify(q, &e));
    R(mq_notify(q, &e));
    if (fork() == 0) { errno = 0; int r = mq_notify(q, &e), no = errno; _exit(r == -1 && no == EBUSY ? 1 : 0); }
    int status; wait(&status); printf("busy for others: %d\n", WEXITSTATUS(status));
    R(mq_send(q, "a", 1, 0)); printf("told %d\n", told == SIGUSR2); told = 0;
    R(mq_notify(q, &e)); R(mq_send(q, "b", 1, 0)); printf("not empty: told %d\n", told);
    R(mq_receive(q, buf, 16, NULL)); R(mq_receive(q, buf, 16, NULL)); R(mq_send(q, "c", 1, 0)); printf("told %d\n", told == SIGUSR2); told = 0;
    mq_receive(q, buf, 16, NULL);
    R(mq_notify(q, &e)); R(mq_notify(q, NULL)); R(mq_send(q, "d", 1, 0)); printf("taken back: told %d\n", told); mq_receive(q, buf, 16, NULL);
    e.sigev_signo = 65; R(mq_notify(q, &e)); e.sigev_notify = 9; R(mq_notify(q, &e)); R(mq_notify(0, NULL)); R(syscall(SYS_mq_notify, q, 8));
    e = (struct sigevent){.sigev_notify = SIGEV_NONE}; R(mq_notify(q, &e)); R(mq_notify(q, &e)); R(mq_notify(q, NULL));
    e = (struct sigevent){.sigev_notify = SIGEV_THREAD, .sigev_notify_function = in_thread, .sigev_value.sival_int = 7};
    R(mq_notify(q, &e)); R(mq_send(q, "e", 1, 0));
    pthread_mutex_lock(&lock); while (!by_thread) pthread_cond_wait(&changed, &lock); pthread_mutex_unlock(&lock); printf("by thread %d\n", by_thread);
    mq_receive(q, buf, 16, NULL);
    // Closing any descriptor of the queue ends the asking.
    mqd_t other = mq_open(name, O_RDWR); e = (struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 42};
    R(mq_notify(q, &e)); mq_close(other); R(mq_notify(q, &e));
    // Who waits gets it, and nobody is told.
    told = 0; int flags = fcntl(q, F_GETFL); fcntl(q, F_SETFL, flags & ~O_NONBLOCK);
    pid_t reader = fork();
    if (reader == 0) _exit(mq_receive(q, buf, 16, NULL) == 2 ? 0 : 1);
    usleep(50000); R(mq_send(q, "ff", 2, 0)); wait(&status); printf("reader %d told %d\n", status, told);
    mq_close(q); mq_unlink(name);
}

static void limits(void)
{
    struct rlimit l = {4096, 4096};
    setrlimit(RLIMIT_MSGQUEUE, &l);
    struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 512};
    mqd_t one = K(mq_open("/casemate-limit-1", O_RDWR | O_CREAT, 0600, &a));
    R(mq_open("/casemate-limit-2", O_RDWR | O_CREAT, 0600, &a));
    mq_close(one); mq_unlink("/casemate-limit-1");
    one = K(mq_open("/casemate-limit-2", O_RDWR | O_CREAT, 0600, &a));
    mq_close(one); mq_unlink("/casemate-limit-2");
}

int main(void)
{
    setvbuf(stdout, 0, _IOLBF, 0);
    snprintf(name, sizeof name, "/casemate-%d", getpid());
    naming();
    order();
    waiting();
    telling();
    limits();
    return 0;
}
