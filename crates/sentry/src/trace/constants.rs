//! Names of what calls take as flags and as one of several values, by call and argument of the table.

/// Bits or values with their names.
pub(super) type Names = &'static [(u64, &'static str)];

macro_rules! names {
    ($table:ident: $($name:ident)*) => {
        const $table: Names = &[$((libc::$name as u32 as u64, stringify!($name))),*];
    };
}

names!(OPEN: O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_TMPFILE O_DIRECTORY O_SYNC O_DSYNC O_ASYNC O_DIRECT O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH);
names!(ACCESS_MODE: O_RDONLY O_WRONLY O_RDWR);
names!(PROT: PROT_READ PROT_WRITE PROT_EXEC);
names!(MAP: MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_DENYWRITE MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_STACK MAP_HUGETLB MAP_FIXED_NOREPLACE);
names!(AT: AT_SYMLINK_NOFOLLOW AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH);
names!(AT_UNLINK: AT_REMOVEDIR);
names!(AT_ACCESS: AT_EACCESS AT_SYMLINK_NOFOLLOW AT_EMPTY_PATH);
names!(RENAME: RENAME_NOREPLACE RENAME_EXCHANGE RENAME_WHITEOUT);
names!(CLONE: CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PIDFD CLONE_PTRACE CLONE_VFORK CLONE_PARENT CLONE_THREAD CLONE_NEWNS CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_UNTRACED CLONE_CHILD_SETTID CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_IO);
names!(MSG: MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_TRUNC MSG_DONTWAIT MSG_EOR MSG_WAITALL MSG_CONFIRM MSG_ERRQUEUE MSG_NOSIGNAL MSG_MORE MSG_WAITFORONE MSG_CMSG_CLOEXEC);
names!(SOCKET_FLAGS: SOCK_NONBLOCK SOCK_CLOEXEC);
names!(SOCKET_KIND: SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET);
names!(DOMAIN: AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET);
names!(EVENTFD: EFD_SEMAPHORE EFD_NONBLOCK EFD_CLOEXEC);
names!(DESCRIPTOR: O_CLOEXEC O_NONBLOCK O_DIRECT);
names!(WAIT: WNOHANG WUNTRACED WEXITED WCONTINUED WNOWAIT __WALL __WCLONE);
names!(WAIT_KIND: P_ALL P_PID P_PGID P_PIDFD);
names!(POLL: POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL POLLRDHUP);
names!(EPOLL: EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLLEXCLUSIVE EPOLLWAKEUP EPOLLONESHOT EPOLLET);
names!(EPOLL_OPERATION: EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD);
names!(WHENCE: SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE);
names!(CLOCK: CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_REALTIME_ALARM CLOCK_BOOTTIME_ALARM CLOCK_TAI);
names!(TIMER: TIMER_ABSTIME);
names!(ITIMER: ITIMER_REAL ITIMER_VIRTUAL ITIMER_PROF);
names!(MASK_HOW: SIG_BLOCK SIG_UNBLOCK SIG_SETMASK);
names!(SHUTDOWN: SHUT_RD SHUT_WR SHUT_RDWR);
names!(FCNTL: F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETLEASE F_GETLEASE F_NOTIFY F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS);
names!(IOCTL: TCGETS TCSETS TCSETSW TCSETSF TCSBRK TCXONC TCFLSH TIOCSCTTY TIOCNOTTY TIOCGPGRP TIOCSPGRP TIOCGSID TIOCOUTQ TIOCGWINSZ TIOCSWINSZ FIONREAD FIONBIO FIOCLEX FIONCLEX TIOCGPTN TIOCSPTLCK FICLONE);
names!(MADVISE: MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_REMOVE MADV_DONTFORK MADV_DOFORK MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_WIPEONFORK MADV_KEEPONFORK);
names!(MSYNC: MS_ASYNC MS_INVALIDATE MS_SYNC);
names!(RESOURCE: RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE RLIMIT_MEMLOCK RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME);
names!(ACCESS: R_OK W_OK X_OK);
names!(FLOCK: LOCK_SH LOCK_EX LOCK_NB LOCK_UN);
names!(MEMFD: MFD_CLOEXEC MFD_ALLOW_SEALING MFD_HUGETLB);
names!(RANDOM: GRND_NONBLOCK GRND_RANDOM);
names!(CLOSE_RANGE: CLOSE_RANGE_UNSHARE CLOSE_RANGE_CLOEXEC);
names!(SPLICE: SPLICE_F_MOVE SPLICE_F_NONBLOCK SPLICE_F_MORE SPLICE_F_GIFT);
names!(INOTIFY: IN_ACCESS IN_MODIFY IN_ATTRIB IN_CLOSE_WRITE IN_CLOSE_NOWRITE IN_OPEN IN_MOVED_FROM IN_MOVED_TO IN_CREATE IN_DELETE IN_DELETE_SELF IN_MOVE_SELF IN_ONLYDIR IN_DONT_FOLLOW IN_EXCL_UNLINK IN_MASK_ADD IN_ISDIR IN_ONESHOT);
names!(STATX: STATX_TYPE STATX_MODE STATX_NLINK STATX_UID STATX_GID STATX_ATIME STATX_MTIME STATX_CTIME STATX_INO STATX_SIZE STATX_BLOCKS STATX_BTIME STATX_MNT_ID);
names!(FALLOCATE: FALLOC_FL_KEEP_SIZE FALLOC_FL_PUNCH_HOLE FALLOC_FL_COLLAPSE_RANGE FALLOC_FL_ZERO_RANGE FALLOC_FL_INSERT_RANGE);
names!(IPC: IPC_CREAT IPC_EXCL IPC_NOWAIT);
names!(PRCTL: PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_DUMPABLE PR_GET_KEEPCAPS PR_SET_KEEPCAPS PR_SET_NAME PR_GET_NAME PR_GET_SECCOMP PR_SET_SECCOMP PR_CAPBSET_READ PR_CAPBSET_DROP PR_SET_TIMERSLACK PR_GET_TIMERSLACK PR_SET_CHILD_SUBREAPER PR_GET_CHILD_SUBREAPER PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS PR_CAP_AMBIENT);
names!(FUTEX: FUTEX_WAIT FUTEX_WAKE FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI FUTEX_UNLOCK_PI FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET);
names!(FUTEX_FLAGS: FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME);
names!(LEVEL: SOL_SOCKET IPPROTO_TCP IPPROTO_IPV6 IPPROTO_UDP);
names!(MLOCKALL: MCL_CURRENT MCL_FUTURE MCL_ONFAULT);

/// O_LARGEFILE is 0 in C, and what the kernel adds.
const KERNEL_OPEN: Names = &[(0x8000, "O_LARGEFILE")];

/// How a number is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    /// A set of bits.
    Bits(Names),
    /// One of these.
    One(Names),
    /// One of the first in the bits of the mask, and bits of the second.
    Both(Names, u64, Names),
}
use Reading::{Bits, Both, One};

/// What the table's argument means, if it has names.
pub(super) fn reading(call: &str, argument: &str) -> Option<Reading> {
    let open = Both(ACCESS_MODE, crate::vfs::description::O_ACCMODE as u64, OPEN);
    Some(match (call, argument) {
        ("open" | "openat" | "mq_open", "flags") => open,
        (
            "pipe2" | "dup3" | "inotify_init1" | "epoll_create1" | "signalfd4" | "timerfd_create",
            "flags",
        ) => Bits(DESCRIPTOR),
        ("eventfd2", "flags") => Bits(EVENTFD),
        ("mmap" | "pkey_mprotect", "prot") => Bits(PROT),
        ("mmap", "flags") => Bits(MAP),
        (
            "newfstatat" | "statx" | "fchownat" | "linkat" | "utimensat" | "execveat" | "fchmodat2",
            "flags",
        ) => Bits(AT),
        ("unlinkat", "flags") => Bits(AT_UNLINK),
        ("faccessat2", "flags") => Bits(AT_ACCESS),
        ("renameat2", "flags") => Bits(RENAME),
        ("unshare", "flags") => Bits(CLONE),
        ("clone", "flags") => Both(super::numbers::SIGNALS, 0xFF, CLONE),
        ("sendto" | "recvfrom" | "sendmsg" | "recvmsg" | "sendmmsg" | "recvmmsg", "flags") => {
            Bits(MSG)
        }
        ("accept4", "flags") => Bits(SOCKET_FLAGS),
        ("socket" | "socketpair", "domain") => One(DOMAIN),
        ("socket" | "socketpair", "kind") => Both(SOCKET_KIND, 0xF, SOCKET_FLAGS),
        ("setsockopt" | "getsockopt", "level") => One(LEVEL),
        ("wait4" | "waitid", "options") => Bits(WAIT),
        ("waitid", "kind") => One(WAIT_KIND),
        ("epoll_ctl", "operation") => One(EPOLL_OPERATION),
        ("lseek", "whence") => One(WHENCE),
        (_, "clock") => One(CLOCK),
        ("timer_settime" | "timerfd_settime" | "clock_nanosleep", "flags") => Bits(TIMER),
        ("setitimer" | "getitimer", "which") => One(ITIMER),
        ("rt_sigprocmask", "how") => One(MASK_HOW),
        ("shutdown", "how") => One(SHUTDOWN),
        ("fcntl", "command") => One(FCNTL),
        ("ioctl", "request") => One(IOCTL),
        ("madvise", "advice") => One(MADVISE),
        ("msync", "flags") => Bits(MSYNC),
        ("mlockall", "flags") => Bits(MLOCKALL),
        (_, "resource") => One(RESOURCE),
        ("access" | "faccessat" | "faccessat2", "mode") => Bits(ACCESS),
        ("flock", "operation") => Bits(FLOCK),
        ("memfd_create", "flags") => Bits(MEMFD),
        ("getrandom", "flags") => Bits(RANDOM),
        ("close_range", "flags") => Bits(CLOSE_RANGE),
        ("splice" | "tee" | "vmsplice", "flags") => Bits(SPLICE),
        ("inotify_add_watch", "mask") => Bits(INOTIFY),
        ("statx", "mask") => Bits(STATX),
        ("fallocate", "mode") => Bits(FALLOCATE),
        ("shmget" | "semget" | "msgget", "flags") => Bits(IPC),
        ("prctl", "option") => One(PRCTL),
        ("futex", "operation") => Both(FUTEX, 0x7F, FUTEX_FLAGS),
        ("signalfd", "flags") => Bits(SOCKET_FLAGS),
        (_, "signal" | "signum") => One(super::numbers::SIGNALS),
        _ => return None,
    })
}

pub(super) const POLL_EVENTS: Names = POLL;
pub(super) const EPOLL_EVENTS: Names = EPOLL;
pub(super) const FAMILIES: Names = DOMAIN;

/// A number by a reading; what has no name in hexadecimal, as strace(1).
pub(super) fn shown(reading: Reading, value: u64) -> String {
    match reading {
        One(names) => one(names, value).unwrap_or_else(|| format!("{value:#x}")),
        Bits(names) => bits(names, value, Vec::new()),
        Both(values, mask, flags) => {
            let first = one(values, value & mask);
            let zero = value & mask == 0;
            let first = match first {
                None if zero => Vec::new(),
                None => vec![format!("{:#x}", value & mask)],
                Some(first) => vec![first],
            };
            bits(flags, value & !mask, first)
        }
    }
}

fn one(names: Names, value: u64) -> Option<String> {
    let found = names.iter().find(|(other, _)| *other == value);
    found.map(|(_, name)| (*name).to_owned())
}

fn bits(names: Names, value: u64, mut shown: Vec<String>) -> String {
    let mut rest = value;
    // What has more bits first: O_TMPFILE before O_DIRECTORY, O_SYNC before O_DSYNC.
    let mut ordered: Vec<_> = names.iter().filter(|(bits, _)| *bits != 0).collect();
    ordered.sort_by_key(|(bits, _)| std::cmp::Reverse(bits.count_ones()));
    if std::ptr::eq(names, OPEN) {
        ordered.extend(KERNEL_OPEN);
    }
    for (bits, name) in ordered {
        if rest & bits == *bits {
            shown.push((*name).to_owned());
            rest &= !bits;
        }
    }
    if rest != 0 {
        shown.push(format!("{rest:#x}"));
    }
    if shown.is_empty() {
        return "0".to_owned();
    }
    shown.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_names_and_what_has_none_is_hexadecimal() {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TMPFILE | 0x4000_0000;
        let open = reading("openat", "flags").map(|reading| shown(reading, flags as u64));
        assert_eq!(open.as_deref(), Some("O_RDWR|O_TMPFILE|O_CREAT|0x40000000"));
        let clone = reading("clone", "flags");
        let clone = clone.map(|reading| shown(reading, libc::CLONE_VM as u64 | 17));
        assert_eq!(clone.as_deref(), Some("SIGCHLD|CLONE_VM"));
        assert_eq!(shown(One(WHENCE), 77), "0x4d");
        assert_eq!(shown(Bits(PROT), 0), "0");
    }

    #[test]
    fn the_tables_arguments_that_are_read_here_exist() {
        let rows = crate::syscalls::table::ROWS;
        let named = rows.iter().flat_map(|row| {
            let arguments = row.arguments.iter();
            arguments.filter(|argument| reading(row.name, argument.name).is_some())
        });
        assert!(named.count() > 80);
    }
}
