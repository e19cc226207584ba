//! Children of a process 1: their ends, their signals, who is at the other end of a socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;
use crate::clone::Side;

/// fork(2): by way of clone(2), since clone3 is what a seccomp profile must refuse (its flags are in memory).
///
/// # Errors
/// As fork(2).
pub fn fork() -> io::Result<Side> {
    // SAFETY: the engine is single-threaded, so no lock is held by a thread that the child lacks.
    let pid = check(unsafe { libc::fork() })?;
    Ok(if pid == 0 {
        Side::Child
    } else {
        Side::Parent(pid)
    })
}

/// A child that ended. Times in microseconds, memory in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub pid: i32,
    /// waitpid(2)'s status.
    pub status: i32,
    pub user_us: i64,
    pub system_us: i64,
    pub max_rss_kib: i64,
}

impl Ended {
    /// The exit code, or None if a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        libc::WIFEXITED(self.status).then(|| libc::WEXITSTATUS(self.status))
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        libc::WIFSIGNALED(self.status).then(|| libc::WTERMSIG(self.status))
    }
}

/// Reaps one child that has ended; None if all others still run.
///
/// # Errors
/// `ECHILD` if there is no child at all.
pub fn reap() -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: all-zero is a legal rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    let pid = check(unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) })?;
    let micros = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    Ok((pid > 0).then(|| Ended {
        pid,
        status,
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        max_rss_kib: usage.ru_maxrss,
    }))
}

/// A descriptor that is readable when a child has ended. Blocks SIGCHLD's delivery.
///
/// # Errors
/// As signalfd(2).
pub fn child_events() -> io::Result<OwnedFd> {
    signal_events(&[libc::SIGCHLD])
}

/// A descriptor that every signal that can be caught arrives at, as a `signalfd_siginfo`. Blocks their delivery.
///
/// # Errors
/// As signalfd(2).
pub fn all_signals() -> io::Result<OwnedFd> {
    let all: Vec<i32> = (1..=64).collect();
    signal_events(&all)
}

/// A descriptor that these signals arrive at, as a `signalfd_siginfo`. Blocks their delivery in this thread and those that it will start: a blocked signal is
/// kept even for the first process of a pid namespace, which is otherwise sent none that it has no handler for. Numbers that are no signals are passed over.
///
/// # Errors
/// As signalfd(2).
pub fn signal_events(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: an all-zero sigset is the empty set on Linux.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: `set` is valid; sigaddset refuses numbers that are no signals.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    // SAFETY: `set` is valid; the old set is not wanted.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
    // SAFETY: `set` is valid; -1 makes a new descriptor.
    let raw = check(unsafe {
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    })?;
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// kill(2): a process, a group (negative) or all (-1).
///
/// # Errors
/// As kill(2).
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// The pid of a Unix socket's peer as this pid namespace sees it: 0 if the peer is not in it.
///
/// # Errors
/// As getsockopt(2).
pub fn peer_pid(socket: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: all-zero is a legal ucred.
    let mut peer: libc::ucred = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: `peer` has `length` bytes.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    })?;
    Ok(peer.pid)
}

/// Ends this process without running destructors: for a child that could not become its program.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes no memory and does not return.
    unsafe { libc::_exit(code) }
}
