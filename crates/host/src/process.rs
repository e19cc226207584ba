//! This process: descriptors, signals, rlimits, names, execution.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::{check, check_long};

/// Takes a descriptor that the starter passed by number.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn take_fd(raw: RawFd) -> io::Result<OwnedFd> {
    set_close_on_exec(raw, true)?;
    // SAFETY: the descriptor is open (fcntl succeeded); the plan hands each of its descriptors to the engine, and the engine takes each one once.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// # Errors
/// As fcntl(2) `F_SETFD`.
pub fn set_close_on_exec(raw: RawFd, close: bool) -> io::Result<()> {
    // SAFETY: no memory is passed; changing the flag of a foreign descriptor breaks no memory safety.
    check(unsafe { libc::fcntl(raw, libc::F_SETFD, if close { libc::FD_CLOEXEC } else { 0 }) })
        .map(drop)
}

/// A further descriptor, above the standard streams, of the open file behind `raw`.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn duplicate(raw: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let copy = check(unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Marks all descriptors from `first` on close-on-exec.
///
/// # Errors
/// As close_range(2).
pub fn close_range_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: marking does not close; no memory is passed. CLOSE_RANGE_CLOEXEC is 4.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 4) }).map(drop)
}

/// Closes all descriptors from 3 on but these, for a process that uses no other: what a starter left open, or what its former self owned.
///
/// # Errors
/// As close_range(2).
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(*fd).ok())
        .filter(|fd| *fd > 2)
        .collect();
    kept.sort_unstable();
    kept.dedup();
    let mut first = 3;
    for fd in kept.into_iter().chain([u32::MAX]) {
        let last = if fd == u32::MAX { fd } else { fd - 1 };
        if first <= last {
            // SAFETY: no memory is passed. Callers name every descriptor that an owner of theirs still uses.
            check_long(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// Gives all signals their default disposition and unblocks them, as a program expects after exec (Rust ignores SIGPIPE).
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: an all-zero struct sigaction, 32 bytes, is SIG_DFL; the call fails for SIGKILL and SIGSTOP, which have nothing to reset. Not the library's: it
        // refuses those that it uses itself, glibc 32 and 33, musl 34 as well, and a parent may have left them ignored.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                [0_u64; 4].as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    // SAFETY: an all-zero sigset is the empty set on Linux.
    let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `empty` is valid; the old set is not wanted.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
}

/// Executes `path`; returns only on failure.
pub fn execve(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| {
        list.iter()
            .map(|item| item.as_ptr())
            .chain([std::ptr::null()])
            .collect::<Vec<_>>()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: the arrays end with null and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// A resource limit of this process: soft, hard.
///
/// # Errors
/// As getrlimit(2).
pub fn rlimit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for a write; no new limit is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::null::<libc::rlimit64>(),
            &raw mut limit,
        )
    };
    check_long(result)?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// # Errors
/// As prlimit(2).
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` is valid; the old limit is not wanted.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    check_long(result).map(drop)
}

/// # Errors
/// As sethostname(2).
pub fn set_hostname(name: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length belong together.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// # Errors
/// As setdomainname(2).
pub fn set_domainname(name: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length belong together.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Joins a new session keyring of this name.
///
/// # Errors
/// As keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`.
pub fn join_session_keyring(name: &CString) -> io::Result<()> {
    // SAFETY: `name` is a C string. KEYCTL_JOIN_SESSION_KEYRING is 1.
    check_long(unsafe { libc::syscall(libc::SYS_keyctl, 1, name.as_ptr()) }).map(drop)
}

/// # Errors
/// As personality(2).
pub fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::personality(persona) }).map(drop)
}

/// Makes a device node or a FIFO below a directory.
///
/// # Errors
/// As mknodat(2).
pub fn mknodat(
    directory: RawFd,
    name: &CString,
    mode: u32,
    major: u32,
    minor: u32,
) -> io::Result<()> {
    // SAFETY: `name` is a C string.
    check(unsafe { libc::mknodat(directory, name.as_ptr(), mode, libc::makedev(major, minor)) })
        .map(drop)
}

/// Brings the loopback interface of this network namespace up.
///
/// # Errors
/// As socket(2) and ioctl(2) `SIOCSIFFLAGS`.
pub fn loopback_up() -> io::Result<()> {
    const SIOCSIFFLAGS: libc::Ioctl = 0x8914;
    // SAFETY: no memory is passed.
    let raw =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and ours.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: all-zero is a legal ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = i8::try_from(b'l').unwrap_or_default();
    request.ifr_name[1] = i8::try_from(b'o').unwrap_or_default();
    request.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    use std::os::fd::AsRawFd;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFFLAGS, &raw const request) }).map(drop)
}
