//! What arguments of the list's calls may be.

use crate::loader::{KICK as KICK_SIGNAL, KICK_ON_ALTERNATE_STACK as KICK_ALTERNATE_SIGNAL};
use crate::notify;

pub(super) const NEGATIVE: u32 = 0x8000_0000;
pub(super) const ALL: u32 = u32::MAX;
pub(super) const KICK: u32 = KICK_SIGNAL.cast_unsigned();
pub(super) const STACK: u32 = crate::stacks::SIGNAL.cast_unsigned();
pub(super) const KICK_ON_ALTERNATE_STACK: u32 = KICK_ALTERNATE_SIGNAL.cast_unsigned();
pub(super) const KILL: u32 = libc::SIGKILL.cast_unsigned();
pub(super) const CLOSE: u32 = libc::O_CLOEXEC.cast_unsigned();
pub(super) const CLOSE_NONBLOCK: u32 = (libc::O_CLOEXEC | libc::O_NONBLOCK).cast_unsigned();
pub(super) const READ_WRITE: u32 = (libc::PROT_READ | libc::PROT_WRITE).cast_unsigned();
/// No MAP_FIXED, no huge pages, nothing that grows.
pub(super) const MAP_FLAGS: u32 = (libc::MAP_SHARED
    | libc::MAP_PRIVATE
    | libc::MAP_ANONYMOUS
    | libc::MAP_NORESERVE
    | libc::MAP_POPULATE)
    .cast_unsigned();
pub(super) const READ_FLAGS: u32 = libc::RWF_NOWAIT.cast_unsigned();
/// RWF_NOAPPEND of pwritev2(2).
pub const NO_APPEND: u32 = 0x20;
pub(super) const WRITE_FLAGS: u32 =
    (libc::RWF_NOWAIT | libc::RWF_APPEND).cast_unsigned() | NO_APPEND;
pub(super) const STAT_FLAGS: u32 =
    (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT).cast_unsigned();
pub(super) const ITSELF: u32 = (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW).cast_unsigned();
pub(super) const FOLLOW: u32 = libc::AT_SYMLINK_FOLLOW.cast_unsigned();
pub(super) const REMOVE_DIRECTORY: u32 = libc::AT_REMOVEDIR.cast_unsigned();
pub(super) const MODE: u32 = 0o7777;
pub(super) const EPOLL_ADD: u32 = libc::EPOLL_CTL_ADD.cast_unsigned();
pub(super) const EPOLL_DELETE: u32 = libc::EPOLL_CTL_DEL.cast_unsigned();
/// FALLOC_FL_KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE, UNSHARE_RANGE.
pub(super) const ALLOCATE_FLAGS: u32 = 0x7B;
/// MFD_CLOEXEC, ALLOW_SEALING, NOEXEC_SEAL, EXEC: no huge pages.
pub(super) const MEMFD_FLAGS: u32 = 0x1B;
/// Events, and how to watch; IN_DONT_FOLLOW means nothing for what is watched.
pub(super) const WATCH_MASK: u32 = 0xF500_EFFF;
pub(super) const RECEIVE: u32 = (libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC).cast_unsigned();
pub(super) const RECEIVE_FLAGS: u32 =
    (libc::MSG_OOB | libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_ERRQUEUE).cast_unsigned();
pub(super) const NO_SIGNAL: u32 = libc::MSG_NOSIGNAL.cast_unsigned();
pub(super) const SEND: u32 = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).cast_unsigned();
pub(super) const SEND_FLAGS: u32 = (libc::MSG_OOB
    | libc::MSG_DONTROUTE
    | libc::MSG_EOR
    | libc::MSG_CONFIRM
    | libc::MSG_MORE
    | libc::MSG_FASTOPEN)
    .cast_unsigned();

/// FUTEX_WAIT, FUTEX_WAKE and FUTEX_WAIT_BITSET, on memory of one process or of several, by either clock.
pub(super) const FUTEXES: &[u32] = &[0, 1, 9, 0x80, 0x81, 0x89, 0x109, 0x189];

pub(super) const FAMILIES: &[u32] = &[
    libc::AF_INET.cast_unsigned(),
    libc::AF_INET6.cast_unsigned(),
    libc::AF_NETLINK.cast_unsigned(),
];

pub(super) const LIMITS: &[u32] = &[
    libc::RLIMIT_CPU as _,
    libc::RLIMIT_DATA as _,
    libc::RLIMIT_STACK as _,
    libc::RLIMIT_MEMLOCK as _,
    libc::RLIMIT_AS as _,
];

pub(super) const FCNTLS: &[u32] = &[
    libc::F_DUPFD_CLOEXEC.cast_unsigned(),
    libc::F_GETFD.cast_unsigned(),
    libc::F_SETFD.cast_unsigned(),
    libc::F_GETFL.cast_unsigned(),
    libc::F_SETFL.cast_unsigned(),
    libc::F_ADD_SEALS.cast_unsigned(),
    libc::F_GET_SEALS.cast_unsigned(),
];

/// Requests of ioctl(2): the listener's, terminals', a stream's, pidfds'.
pub(super) const IOCTLS: &[u32] = &[
    notify::RECV as u32,
    notify::SEND as u32,
    notify::ADD_FD as u32,
    crate::process::PIDFD_GET_INFO as u32,
    crate::process::NS_GET_PID_FROM_PIDNS as u32,
    crate::process::NS_GET_PID_IN_PIDNS as u32,
    crate::process::NS_GET_TGID_IN_PIDNS as u32,
    libc::FIONREAD as u32,
    libc::FIONBIO as u32,
    libc::TCGETS as u32,
    libc::TCSETS as u32,
    libc::TCSETSW as u32,
    libc::TCSETSF as u32,
    0x802C_542A, // TCGETS2
    0x402C_542B, // TCSETS2
    0x402C_542C, // TCSETSW2
    0x402C_542D, // TCSETSF2
    libc::TCFLSH as u32,
    libc::TCSBRK as u32,
    libc::TCXONC as u32,
    libc::TIOCGWINSZ as u32,
    libc::TIOCSWINSZ as u32,
    libc::TIOCGPGRP as u32,
    libc::TIOCGSID as u32,
    libc::TIOCOUTQ as u32,
    0x8004_5430, // TIOCGPTN
    0x4004_5431, // TIOCSPTLCK
    0x5441,      // TIOCGPTPEER
    0x8004_5438, // TIOCGPKT
    0x8004_5439, // TIOCGPTLCK
    0x5420,      // TIOCPKT
    0x4004_9409, // FICLONE
    0x8008_6601, // FS_IOC_GETFLAGS
    // What `socket::REQUESTS` has besides: SIOCATMARK, and what an interface is, by its name.
    0x8905,
    0x8910,
    0x8912,
    0x8913,
    0x8915,
    0x8917,
    0x8919,
    0x891B,
    0x891D,
    0x8921,
    0x8927,
    0x8933,
    0x8942,
];
