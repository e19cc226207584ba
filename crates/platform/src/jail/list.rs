//! The published list: every call that the sentry makes once it has booted, with what its arguments may be, and why. 60 rows at most.

use super::arguments::{
    ALL, ALLOCATE_FLAGS, CLOSE, CLOSE_NONBLOCK, EPOLL_ADD, EPOLL_DELETE, FAMILIES, FCNTLS, FOLLOW,
    FUTEXES, IOCTLS, ITSELF, KICK, KICK_ON_ALTERNATE_STACK, KILL, LIMITS, MAP_FLAGS, MEMFD_FLAGS,
    MODE, NEGATIVE, NO_SIGNAL, READ_FLAGS, READ_WRITE, RECEIVE, RECEIVE_FLAGS, REMOVE_DIRECTORY,
    SEND, SEND_FLAGS, STACK, STAT_FLAGS, WATCH_MASK, WRITE_FLAGS,
};
use super::condition::{Allowed, descriptor, masked, none_of, one_of, pair, row, up_to, without};
use crate::socket::{READABLE, SETTABLE};

/// Those made most come first: a filter is read from its start.
pub const ALLOWED: &[Allowed] = &[
    row(
        libc::SYS_ioctl,
        "ioctl",
        &[one_of(1, IOCTLS)],
        "notifications; terminals, and what a stream holds; how a process ended",
    ),
    row(
        libc::SYS_process_vm_readv,
        "process_vm_readv",
        &[up_to(2, 1), up_to(4, 1), one_of(5, &[0])],
        "arguments of calls",
    ),
    row(
        libc::SYS_process_vm_writev,
        "process_vm_writev",
        &[up_to(2, 1), up_to(4, 1), one_of(5, &[0])],
        "results of calls",
    ),
    row(
        libc::SYS_futex,
        "futex",
        &[one_of(1, FUTEXES)],
        "locks between its threads",
    ),
    row(
        libc::SYS_preadv2,
        "preadv2",
        &[descriptor(0), up_to(2, 16), without(5, !READ_FLAGS)],
        "files, streams, counters",
    ),
    row(
        libc::SYS_pwritev2,
        "pwritev2",
        &[descriptor(0), up_to(2, 16), without(5, !WRITE_FLAGS)],
        "files, streams, counters, messages on standard error",
    ),
    row(
        libc::SYS_statx,
        "statx",
        &[without(2, !STAT_FLAGS)],
        "attributes of files",
    ),
    row(
        libc::SYS_openat2,
        "openat2",
        &[one_of(3, &[24])],
        "names below the container's root, which is its own; /proc of its pid namespace",
    ),
    row(libc::SYS_close, "close", &[descriptor(0)], "files"),
    row(
        libc::SYS_readlinkat,
        "readlinkat",
        &[descriptor(0), up_to(3, 1 << 16)],
        "links; where an open file is",
    ),
    row(
        libc::SYS_fcntl,
        "fcntl",
        &[descriptor(0), one_of(1, FCNTLS)],
        "copies of descriptors, status flags, seals",
    ),
    row(
        libc::SYS_epoll_pwait,
        "epoll_pwait",
        &[descriptor(0), up_to(2, 1024), one_of(4, &[0])],
        "the watcher",
    ),
    row(
        libc::SYS_epoll_ctl,
        "epoll_ctl",
        &[descriptor(0), one_of(1, &[EPOLL_ADD, EPOLL_DELETE])],
        "the watcher",
    ),
    row(
        libc::SYS_timerfd_settime,
        "timerfd_settime",
        &[descriptor(0), one_of(1, &[0])],
        "the next deadline",
    ),
    row(
        libc::SYS_ppoll,
        "ppoll",
        &[up_to(1, 1024), one_of(3, &[0])],
        "streams, sockets, the control socket",
    ),
    row(
        libc::SYS_clock_gettime,
        "clock_gettime",
        &[none_of(0, 0x8000_0007, &[0x8000_0003, 0x8000_0007])],
        "deadlines; CPU time of processes: no clock of a descriptor",
    ),
    row(
        libc::SYS_tgkill,
        "tgkill",
        &[
            without(0, NEGATIVE),
            without(1, NEGATIVE),
            one_of(2, &[KICK, KICK_ON_ALTERNATE_STACK, STACK]),
        ],
        "kicks: the two signals that the stub takes; a thread of its own is asked for its stack",
    ),
    row(
        libc::SYS_mmap,
        "mmap",
        &[without(2, !READ_WRITE), without(3, !MAP_FLAGS)],
        "its own memory; never code, never at an address that it chose",
    ),
    row(
        libc::SYS_munmap,
        "munmap",
        &[without(0, 0xFFF)],
        "its own memory",
    ),
    row(
        libc::SYS_lseek,
        "lseek",
        &[descriptor(0), up_to(2, 4)],
        "directories, sparse files",
    ),
    row(
        libc::SYS_getdents64,
        "getdents64",
        &[descriptor(0), up_to(2, 1 << 20)],
        "directories",
    ),
    row(
        libc::SYS_fstatfs,
        "fstatfs",
        &[descriptor(0)],
        "statfs(2); which mounts are /proc, /sys and /dev/pts",
    ),
    row(
        libc::SYS_kill,
        "kill",
        &[
            without(0, NEGATIVE),
            none_of(0, ALL, &[0]),
            one_of(1, &[KILL]),
        ],
        "the end of one process: never of all, nor of a group",
    ),
    row(
        libc::SYS_pidfd_open,
        "pidfd_open",
        &[without(0, NEGATIVE), one_of(1, &[0])],
        "to see the end of a process",
    ),
    row(
        libc::SYS_prlimit64,
        "prlimit64",
        &[none_of(0, ALL, &[0]), one_of(1, LIMITS), one_of(3, &[0])],
        "limits that the host keeps for a program; its own are not asked for",
    ),
    row(
        libc::SYS_rt_sigreturn,
        "rt_sigreturn",
        &[],
        "the handlers that name a refused call, and where a thread is",
    ),
    row(libc::SYS_exit_group, "exit_group", &[], "the end"),
    row(
        libc::SYS_ftruncate,
        "ftruncate",
        &[descriptor(0)],
        "ftruncate(2)",
    ),
    row(
        libc::SYS_fallocate,
        "fallocate",
        &[descriptor(0), without(1, !ALLOCATE_FLAGS)],
        "fallocate(2)",
    ),
    row(
        libc::SYS_fsync,
        "fsync",
        &[descriptor(0)],
        "fsync(2), fdatasync(2)",
    ),
    row(
        libc::SYS_syncfs,
        "syncfs",
        &[descriptor(0)],
        "sync(2), syncfs(2)",
    ),
    row(
        libc::SYS_mkdirat,
        "mkdirat",
        &[descriptor(0), without(2, !MODE)],
        "mkdir(2)",
    ),
    row(
        libc::SYS_unlinkat,
        "unlinkat",
        &[descriptor(0), one_of(2, &[0, REMOVE_DIRECTORY])],
        "unlink(2), rmdir(2)",
    ),
    row(
        libc::SYS_renameat2,
        "renameat2",
        &[descriptor(0), descriptor(2), without(4, !3)],
        "rename(2)",
    ),
    row(
        libc::SYS_linkat,
        "linkat",
        &[descriptor(0), descriptor(2), one_of(4, &[FOLLOW])],
        "link(2): of a file that is open",
    ),
    row(
        libc::SYS_symlinkat,
        "symlinkat",
        &[descriptor(1)],
        "symlink(2)",
    ),
    row(
        libc::SYS_mknodat,
        "mknodat",
        &[
            descriptor(0),
            masked(
                2,
                libc::S_IFMT,
                &[libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFREG],
            ),
            one_of(3, &[0]),
        ],
        "FIFOs, names of local sockets, plain files: no devices",
    ),
    row(
        libc::SYS_fchmodat,
        "fchmodat",
        &[descriptor(0), without(2, !MODE)],
        "chmod(2)",
    ),
    row(
        libc::SYS_fchownat,
        "fchownat",
        &[descriptor(0), one_of(4, &[ITSELF])],
        "chown(2) of what is open, not of a name",
    ),
    row(
        libc::SYS_utimensat,
        "utimensat",
        &[descriptor(0), one_of(3, &[ITSELF])],
        "utimensat(2) of what is open, not of a name",
    ),
    row(
        libc::SYS_fgetxattr,
        "fgetxattr",
        &[descriptor(0), up_to(3, 1 << 16)],
        "attributes; capabilities of programs",
    ),
    row(
        libc::SYS_fsetxattr,
        "fsetxattr",
        &[descriptor(0), up_to(3, 1 << 16), up_to(4, 3)],
        "attributes that belong to users",
    ),
    row(
        libc::SYS_flistxattr,
        "flistxattr",
        &[descriptor(0), up_to(2, 1 << 16)],
        "attributes",
    ),
    row(
        libc::SYS_fremovexattr,
        "fremovexattr",
        &[descriptor(0)],
        "attributes that belong to users",
    ),
    row(
        libc::SYS_memfd_create,
        "memfd_create",
        &[without(1, !MEMFD_FLAGS)],
        "programs' memory files",
    ),
    row(
        libc::SYS_inotify_init1,
        "inotify_init1",
        &[one_of(0, &[CLOSE_NONBLOCK])],
        "programs' watches",
    ),
    row(
        libc::SYS_inotify_add_watch,
        "inotify_add_watch",
        &[descriptor(0), without(2, !WATCH_MASK)],
        "programs' watches",
    ),
    row(
        libc::SYS_inotify_rm_watch,
        "inotify_rm_watch",
        &[descriptor(0), without(1, NEGATIVE)],
        "programs' watches",
    ),
    row(
        libc::SYS_sched_setaffinity,
        "sched_setaffinity",
        &[without(0, NEGATIVE), up_to(1, 128)],
        "the place of the thread that spins for programs, and of whom those wake meanwhile",
    ),
    row(
        libc::SYS_accept4,
        "accept4",
        &[descriptor(0), one_of(3, &[CLOSE, CLOSE_NONBLOCK])],
        "the control socket; programs' sockets",
    ),
    row(
        libc::SYS_recvmsg,
        "recvmsg",
        &[
            descriptor(0),
            masked(2, RECEIVE, &[RECEIVE]),
            without(2, !(RECEIVE | RECEIVE_FLAGS)),
        ],
        "the control socket; programs' sockets: never waiting",
    ),
    row(
        libc::SYS_sendmsg,
        "sendmsg",
        &[
            descriptor(0),
            masked(2, NO_SIGNAL, &[NO_SIGNAL]),
            without(2, !(SEND | SEND_FLAGS)),
        ],
        "the control socket; programs' sockets: never a signal",
    ),
    row(
        libc::SYS_socket,
        "socket",
        &[
            one_of(0, FAMILIES),
            masked(1, CLOSE_NONBLOCK, &[CLOSE_NONBLOCK]),
        ],
        "programs' sockets, in the container's network namespace. Local ones are the sentry's own: no family that could reach a process of the host",
    ),
    row(
        libc::SYS_bind,
        "bind",
        &[descriptor(0), up_to(2, 128)],
        "programs' sockets",
    ),
    row(
        libc::SYS_connect,
        "connect",
        &[descriptor(0), up_to(2, 128)],
        "programs' sockets",
    ),
    row(
        libc::SYS_listen,
        "listen",
        &[descriptor(0), up_to(1, 0xFFFF)],
        "programs' sockets",
    ),
    row(
        libc::SYS_shutdown,
        "shutdown",
        &[descriptor(0), up_to(1, 2)],
        "programs' sockets",
    ),
    row(
        libc::SYS_getsockname,
        "getsockname",
        &[descriptor(0)],
        "programs' sockets",
    ),
    row(
        libc::SYS_setsockopt,
        "setsockopt",
        &[descriptor(0), pair(1, 2, SETTABLE), up_to(4, 512)],
        "programs' sockets",
    ),
    row(
        libc::SYS_getsockopt,
        "getsockopt",
        &[descriptor(0), pair(1, 2, READABLE)],
        "programs' sockets",
    ),
];

/// What libraries ask for and bear to be refused, without a word. Memory that could move, grow or be given back.
pub const BORNE: &[(i64, i32)] = &[
    // This one fails by returning less than it was asked for.
    (libc::SYS_brk, 0),
    (libc::SYS_mremap, libc::ENOMEM),
    (libc::SYS_madvise, libc::ENOSYS),
    (libc::SYS_sched_yield, libc::ENOSYS),
    (libc::SYS_sched_getaffinity, libc::ENOSYS),
    // abort(3).
    (libc::SYS_rt_sigprocmask, libc::EPERM),
];
