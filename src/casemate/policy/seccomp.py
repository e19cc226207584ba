"""The seccomp profile of hardened sandboxes: what is not listed is refused with EPERM, and calls newer than the list with ENOSYS.

The list is what bash, coreutils, python, gcc, git, node, go and rust programs use. Left out, with the bugs that calls of their kind had:
kernel modules, bpf, perf_event_open, keyctl, userfaultfd, io_uring, mount and the new mount calls, pivot_root, setns, ptrace and process_vm_*, kexec,
swap, clock setting, quotas, acct, iopl, name_to_handle_at and open_by_handle_at (the "shocker" escape), vmsplice, and unshare and clone into namespaces.
"""

from __future__ import annotations

# Group: why.
_GROUPS = (
    # files by path and by descriptor
    "access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat "
    "fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents "
    "getdents64 getxattr lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat "
    "open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename renameat renameat2 "
    "rmdir sendfile setxattr splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat "
    "utimes write writev",
    # memory
    "brk madvise membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap pkey_alloc pkey_free "
    "pkey_mprotect process_madvise process_mrelease get_mempolicy mbind set_mempolicy",
    # processes and threads; clone itself stands below, with a condition
    "arch_prctl capget capset execve execveat exit exit_group fork futex futex_wait futex_waitv futex_wake futex_requeue get_robust_list "
    "get_thread_area getcpu getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid "
    "gettid getuid ioprio_get ioprio_set kill pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq sched_getaffinity "
    "sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr "
    "sched_setparam sched_setscheduler sched_yield set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setpgid setpriority "
    "setregid setresgid setresuid setreuid setrlimit setsid setuid sysinfo tgkill times tkill uname vfork wait4 waitid",
    # signals
    "alarm getitimer pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo "
    "setitimer sigaltstack signalfd signalfd4",
    # time
    "clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep time timer_create timer_delete timer_getoverrun timer_gettime timer_settime "
    "timerfd_create timerfd_gettime timerfd_settime",
    # waiting and talking
    "accept accept4 bind connect epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 getpeername getsockname "
    "getsockopt inotify_add_watch inotify_init inotify_init1 inotify_rm_watch listen pipe pipe2 poll ppoll pselect6 recvfrom recvmmsg recvmsg select "
    "sendmmsg sendmsg sendto setsockopt shutdown socketpair",
    # System V and POSIX IPC: of the sandbox's own namespace
    "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop shmat shmctl "
    "shmdt shmget",
    # a program's own jail
    "getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
)
# CLONE_NEW* : a user namespace of its own gives a program capabilities to attack the kernel with.
_CLONE_NAMESPACES = 0x7E020000 | 0x80
# Socket families: unix, inet, inet6; of netlink only what libraries ask of routes (audit, netfilter, xfrm and crypto had bugs of their own).
# The others (packet, vsock, alg, bluetooth, ...) have had most of the bugs.
_FAMILIES = (1, 2, 10)
_AF_NETLINK, _NETLINK_ROUTE = 16, 0
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
_ENOSYS = 38
_EIO = 5  # what the kernel says where dev.tty.legacy_tiocsti is 0; the default EPERM would be no rule of its own, and the call allowed
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


# Calls that give a file its mode, and the argument that does.
_MODES = {"chmod": 1, "creat": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "mknod": 1, "mknodat": 2, "open": 2, "openat": 3}
_SET_IDS = 0o6000
_O_CREAT_OR_TMPFILE = 0o100 | 0o20000000


def hardened_profile(*, set_id_files: bool = True) -> dict[str, object]:
    """The profile as an OCI `linux.seccomp` object.

    set_id_files=False: no file can be given the set-user-ID or set-group-ID bit, for sandboxes that make files of an owner of the host.
    """
    names = [name for group in _GROUPS for name in group.split()]
    modes: list[dict[str, object]] = []
    if not set_id_files:
        names = [name for name in names if name not in _MODES and name != "openat2"]
        modes = [_when(name, index, "SCMP_CMP_MASKED_EQ", _SET_IDS, 0) for name, index in _MODES.items()]
        # Where nothing is made, the argument of the mode is whatever was there.
        modes += [_when(name, _MODES[name] - 1, "SCMP_CMP_MASKED_EQ", _O_CREAT_OR_TMPFILE, 0) for name in ("open", "openat")]
        # its mode is in memory, where a filter cannot look
        modes.append({"names": ["openat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    rules: list[dict[str, object]] = [
        {"names": names, "action": "SCMP_ACT_ALLOW"},
        *modes,
        _when("clone", 0, "SCMP_CMP_MASKED_EQ", _CLONE_NAMESPACES, 0),
        # its flags are in memory, where a filter cannot look: ENOSYS makes libraries fall back to clone
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
        *(_when("socket", 0, "SCMP_CMP_EQ", family) for family in _FAMILIES),
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ALLOW",
            "args": [_argument(0, "SCMP_CMP_EQ", _AF_NETLINK), _argument(2, "SCMP_CMP_EQ", _NETLINK_ROUTE)],
        },
        *(_when("personality", 0, "SCMP_CMP_EQ", persona) for persona in _PERSONALITIES),
        # Typing into the terminal of whoever started the sandbox: the command 32 bits wide, as the kernel reads it.
        *(
            {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": _EIO, "args": [_argument(1, "SCMP_CMP_MASKED_EQ", 0xFFFFFFFF, command)]}
            for command in (_TIOCSTI, _TIOCLINUX)
        ),
        {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"},
    ]
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}


def _when(name: str, index: int, op: str, value: int, value_two: int = 0) -> dict[str, object]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [_argument(index, op, value, value_two)]}


def _argument(index: int, op: str, value: int, value_two: int = 0) -> dict[str, object]:
    return {"index": index, "op": op, "value": value, "valueTwo": value_two}
