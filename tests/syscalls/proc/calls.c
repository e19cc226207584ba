// Calls about limits, scheduling, priorities, memory and the system: results and errors that do not depend on the machine or on rights.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAY(call) do { errno = 0; long r_ = (long)(call); printf("%s = %ld %s\n", #call, r_, r_ == -1 ? strerrorname_np(errno) : ""); } while (0)
#define TRUTH(what) printf("%s: %s\n", #what, (what) ? "yes" : "no")

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    struct sched_param param = {0};
    SAY(sched_getscheduler(0));
    SAY(sched_getparam(0, &param));
    SAY(sched_getparam(0, NULL));
    SAY(sched_getparam(-1, &param));
    SAY(sched_getparam(999999, &param));
    SAY(sched_setscheduler(0, SCHED_BATCH, &param));
    SAY(sched_getscheduler(0));
    SAY(sched_setscheduler(0, SCHED_OTHER, &param));
    param.sched_priority = 1;
    SAY(sched_setscheduler(0, SCHED_OTHER, &param));
    SAY(sched_setscheduler(0, 77, &param));
    param.sched_priority = 100;
    SAY(sched_setscheduler(0, SCHED_FIFO, &param));
    SAY(sched_get_priority_max(SCHED_RR));
    SAY(sched_get_priority_min(SCHED_FIFO));
    SAY(sched_get_priority_max(SCHED_IDLE));
    SAY(sched_get_priority_max(9));
    struct timespec interval = {7, 7};
    SAY(sched_rr_get_interval(0, &interval));
    TRUTH(interval.tv_sec == 0);
    unsigned char attr[128] = {0};
    SAY(syscall(SYS_sched_getattr, 0, attr, 56, 0));
    printf("attr size %d policy %d\n", *(int *)attr, ((int *)attr)[1]);
    SAY(syscall(SYS_sched_getattr, 0, attr, 47, 0));
    SAY(syscall(SYS_sched_getattr, 0, attr, 56, 1));
    SAY(syscall(SYS_sched_setattr, 0, NULL, 0));

    cpu_set_t set;
    SAY(syscall(SYS_sched_getaffinity, 0, sizeof set, &set));
    SAY(syscall(SYS_sched_getaffinity, 0, 7, &set));
    SAY(syscall(SYS_sched_getaffinity, 999999, sizeof set, &set));
    SAY(syscall(SYS_sched_setaffinity, 0, sizeof set, &set));
    CPU_ZERO(&set);
    SAY(syscall(SYS_sched_setaffinity, 0, sizeof set, &set));
    SAY(syscall(SYS_sched_setaffinity, 0, sizeof set, (void *)8));
    unsigned cpu = 999, node = 999;
    SAY(syscall(SYS_getcpu, &cpu, &node, NULL));
    TRUTH(cpu < 999 && node < 999);

    SAY(syscall(SYS_getpriority, PRIO_PROCESS, 0));
    SAY(setpriority(PRIO_PROCESS, 0, 18));
    SAY(syscall(SYS_getpriority, PRIO_PROCESS, 0));
    SAY(setpriority(PRIO_PROCESS, 0, 100));
    SAY(syscall(SYS_getpriority, PRIO_PROCESS, 0));
    SAY(syscall(SYS_getpriority, 9, 0));
    SAY(syscall(SYS_getpriority, PRIO_PROCESS, 999999));
    SAY(syscall(SYS_ioprio_get, 1, 0));
    SAY(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 5));
    SAY(syscall(SYS_ioprio_get, 1, 0));
    SAY(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 9));
    SAY(syscall(SYS_ioprio_set, 1, 0, 5 << 13));
    SAY(syscall(SYS_ioprio_get, 4, 0));
    /* Found by the fuzzer (seed 100). */
    SAY(syscall(SYS_ioprio_get, 0x80000000, 0, 20));
    SAY(syscall(SYS_ioprio_set, 0x80000000, 0, 0));
    SAY(syscall(SYS_getpriority, 0x80000000, 0));
    int memory = memfd_create("memory", 0);
    SAY(fallocate(memory, 4, 0, 4096)); /* FALLOC_FL_NO_HIDE_STALE; seed 1 */
    close(memory);

    struct rlimit limit = {10, 5};
    SAY(setrlimit(RLIMIT_NOFILE, &limit));
    limit = (struct rlimit){64, 128};
    SAY(setrlimit(RLIMIT_NOFILE, &limit));
    SAY(getrlimit(RLIMIT_NOFILE, &limit));
    printf("%lu %lu\n", limit.rlim_cur, limit.rlim_max);
    SAY(getrlimit(16, &limit));
    SAY(getrlimit(RLIMIT_NOFILE, (void *)8));
    SAY(fcntl(0, F_DUPFD, 64));

    struct rusage usage;
    SAY(getrusage(RUSAGE_SELF, &usage));
    TRUTH(usage.ru_maxrss > 0);
    SAY(getrusage(RUSAGE_CHILDREN, &usage));
    SAY(getrusage(5, &usage));
    if (fork() == 0) {
        for (volatile long i = 0; i < 200000000; i++) {}
        _exit(0);
    }
    wait(NULL);
    SAY(getrusage(RUSAGE_CHILDREN, &usage));
    TRUTH(usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec > 10000);
    struct tms times_;
    TRUTH(times(&times_) > 0);
    TRUTH(times_.tms_cutime > 0);
    struct sysinfo info;
    SAY(sysinfo(&info));
    TRUTH(info.totalram > info.freeram && info.freeram > 0 && info.mem_unit == 1 && info.procs > 0);
    struct timespec boot;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    TRUTH(labs(info.uptime - boot.tv_sec) <= 1);

    struct statfs fs;
    SAY(statfs("/proc/self", &fs));
    printf("%lx %ld %ld\n", fs.f_type, fs.f_bsize, fs.f_namelen);
    SAY(statfs("/sys", &fs));
    printf("%lx\n", fs.f_type);
    SAY(statfs("/nowhere", &fs));
    int ends[2];
    if (pipe(ends)) return 1;
    SAY(fstatfs(ends[0], &fs));
    printf("%lx\n", fs.f_type);
    SAY(fsync(ends[0]));
    SAY(fdatasync(99));
    SAY(sync_file_range(ends[0], 0, 1, 0));
    int file = open("/t", O_TMPFILE | O_RDWR, 0600);
    if (file < 0) file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    SAY(write(file, "x", 1));
    SAY(fsync(file));
    SAY(fdatasync(file));
    SAY(sync_file_range(file, 0, 1, 2));
    SAY(sync_file_range(file, 0, 1, 8));
    SAY(sync_file_range(file, -1, 1, 2));
    SAY(syncfs(file));
    SAY(syncfs(77));

    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[0] = 1;
    unsigned char in[2] = {9, 9};
    SAY(mincore(page, 8192, in));
    printf("%d %d\n", in[0] & 1, in[1] & 1);
    SAY(mincore(page + 1, 4096, in));
    SAY(mlock(page, 4096));
    SAY(munlock(page, 4096));
    SAY(mlock2(page, 4096, MLOCK_ONFAULT));
    SAY(mlock2(page, 4096, 64));
    SAY(munlockall());
    SAY(mlockall(0x40));
    SAY(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
    SAY(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
    SAY(syscall(SYS_membarrier, 3, 0, 0));
    SAY(syscall(SYS_membarrier, 0, 8, 0));
    SAY(personality(0xffffffff));

    SAY(prctl(PR_GET_KEEPCAPS));
    SAY(prctl(PR_SET_KEEPCAPS, 1));
    SAY(prctl(PR_GET_KEEPCAPS));
    SAY(prctl(PR_GET_SECUREBITS));
    SAY(prctl(PR_SET_KEEPCAPS, 2));
    SAY(prctl(PR_GET_SECCOMP));
    SAY(prctl(PR_CAPBSET_READ, 99));
    SAY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 5, 0, 0));
    SAY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 99, 0, 0));
    SAY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    SAY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0));
    SAY(prctl(PR_CAP_AMBIENT, 9, 1, 0, 0));
    SAY(prctl(PR_GET_TIMERSLACK));
    SAY(prctl(PR_SET_TIMERSLACK, 1234));
    SAY(prctl(PR_GET_TIMERSLACK));
    SAY(prctl(PR_SET_TIMERSLACK, 0));
    SAY(prctl(PR_GET_TIMERSLACK));
    SAY(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    SAY(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    SAY(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    int mode = 0;
    SAY(prctl(PR_GET_TSC, &mode));
    printf("%d\n", mode);
    SAY(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
    SAY(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
    SAY(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
    SAY(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0));
    SAY(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
    SAY(prctl(PR_MCE_KILL_GET, 1, 0, 0, 0));
    SAY(prctl(PR_GET_TIMING));
    SAY(prctl(PR_SET_TIMING, 1));
    SAY(prctl(12345));
    return 0;
}
