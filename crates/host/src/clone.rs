//! clone3(2), setns(2), unshare(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{check, check_long};

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a clone this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Parent(i32),
    Child,
}

/// Clones this process as fork(2) does, into new namespaces, as a sibling (`CLONE_PARENT`): the child's parent is this process's parent.
/// `cgroup`: a v2 directory that the child starts in.
///
/// # Errors
/// As clone3(2); `EINVAL` if this process has more than one thread, since locks held by the others would stay held in the child.
pub fn clone_sibling(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: all-zero is a legal clone_args: no pidfd, no stack (fork semantics), no tid set.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | libc::CLONE_PARENT as u64;
    if let Some(directory) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(directory.as_raw_fd().unsigned_abs());
    }
    // With CLONE_PARENT the exit signal is the parent's own; clone3 demands 0 here.
    args.exit_signal = 0;
    // SAFETY: `args` is valid for its size; without a stack the child runs on a copy of this address space, as after fork, and this
    // process is single-threaded (checked above), so no lock is held by a thread that the child lacks.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    let pid = check_long(result)?;
    Ok(if pid == 0 {
        Side::Child
    } else {
        Side::Parent(i32::try_from(pid).unwrap_or(i32::MAX))
    })
}

/// Joins the namespaces of `fd`: a namespace file, or a pidfd with several `CLONE_NEW*` bits.
///
/// # Errors
/// As setns(2).
pub fn setns(fd: BorrowedFd<'_>, flags: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setns(fd.as_raw_fd(), flags) }).map(drop)
}

/// # Errors
/// As unshare(2).
pub fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: no memory is passed; CLONE_FILES and CLONE_FS would be sound too, this process is single-threaded.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Clones a child of this process into new namespaces.
///
/// # Errors
/// As `clone_sibling`.
pub fn clone_child(namespaces: u64) -> io::Result<Side> {
    // SAFETY: all-zero is a legal clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces;
    args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    // SAFETY: as in `clone_sibling`: fork semantics; callers run in the engine's single thread.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    let pid = check_long(result)?;
    Ok(if pid == 0 {
        Side::Child
    } else {
        Side::Parent(i32::try_from(pid).unwrap_or(i32::MAX))
    })
}

/// Reaps a child.
pub fn wait(pid: i32) {
    // SAFETY: a null status is allowed.
    while unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}
