//! Signals to programs' threads, and descriptors that tell their end.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::check;

/// Sends a native signal to one thread.
///
/// # Errors
/// `ESRCH` it is gone.
pub fn signal_thread(pid: i32, tid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) }).map(drop)
}

/// Wakes whoever waits for the word to change by futex(2), in whatever process that shares it.
pub fn wake(word: &std::sync::atomic::AtomicU32) {
    const FUTEX_WAKE: i32 = 1;
    // SAFETY: FUTEX_WAKE reads nothing at the address, which is mapped while it is borrowed.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            FUTEX_WAKE,
            i32::MAX,
            0,
            0,
            0,
        )
    };
}

/// Sends a native signal to a process.
///
/// # Errors
/// `ESRCH` it is gone.
pub fn signal_process(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Has writes of this process beyond its limit of file size fail (`EFBIG`) without ending it.
pub fn ignore_file_size_signal() {
    // SAFETY: SIG_IGN is a legal disposition of SIGXFSZ; no handler and no memory is passed.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// A descriptor that becomes readable when the process has ended.
///
/// # Errors
/// `ESRCH` it is gone.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call returned a new descriptor, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `struct pidfd_info` of Linux 6.15 (linux/pidfd.h), as far as it is asked for.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    ids: [u32; 11],
    exit_code: i32,
}
const _: () = assert!(size_of::<PidfdInfo>() == 64);
pub(crate) const PIDFD_GET_INFO: u64 = 3 << 30 | (64 << 16) | (0xFF << 8) | 11;
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// The parent's number of the process behind a pidfd; `None` where the kernel (before 6.13) cannot tell, or it has ended.
#[must_use]
pub fn parent(pidfd: &OwnedFd) -> Option<i32> {
    use std::os::fd::AsRawFd;
    const PIDFD_INFO_PID: u64 = 1;
    const PARENT: usize = 2;
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_PID,
        ..PidfdInfo::default()
    };
    // SAFETY: the ioctl writes at most the 64 bytes that its number names.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            pidfd.as_raw_fd(),
            PIDFD_GET_INFO,
            &raw mut info,
        )
    };
    (result == 0).then(|| info.ids[PARENT].cast_signed())
}

pub(crate) const NS_GET_PID_FROM_PIDNS: u64 = 0x8004_B706;
pub(crate) const NS_GET_PID_IN_PIDNS: u64 = 0x8004_B708;
pub(crate) const NS_GET_TGID_IN_PIDNS: u64 = 0x8004_B709;

/// The numbers that a thread and its process have in a pid namespace below this one; `None` where the kernel (before 6.11) cannot tell, or it is gone.
#[must_use]
pub fn numbers_in(namespace: &OwnedFd, tid: i32) -> Option<(i32, i32)> {
    use std::os::fd::AsRawFd;
    let ask = |request: u64| {
        // SAFETY: both take a number by value.
        let number = unsafe {
            libc::syscall(
                libc::SYS_ioctl,
                namespace.as_raw_fd(),
                request,
                i64::from(tid),
            )
        };
        i32::try_from(number).ok().filter(|number| *number > 0)
    };
    Some((ask(NS_GET_PID_IN_PIDNS)?, ask(NS_GET_TGID_IN_PIDNS)?))
}

/// The number here of the thread that has `number` in a pid namespace below this one; `None` as in `numbers_in`.
#[must_use]
pub fn number_here(namespace: &OwnedFd, number: i32) -> Option<i32> {
    use std::os::fd::AsRawFd;
    // SAFETY: it takes a number by value.
    let tid = unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            namespace.as_raw_fd(),
            NS_GET_PID_FROM_PIDNS,
            i64::from(number),
        )
    };
    i32::try_from(tid).ok().filter(|tid| *tid > 0)
}

/// How the process behind a pidfd ended, as wait(2)'s status; `None` where the kernel (before 6.15) cannot tell, or it has not been reaped yet.
#[must_use]
pub fn exit_status(pidfd: &OwnedFd) -> Option<i32> {
    use std::os::fd::AsRawFd;
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the ioctl writes at most the 64 bytes that its number names.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            pidfd.as_raw_fd(),
            PIDFD_GET_INFO,
            &raw mut info,
        )
    };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// Sets a resource limit of another process, which only its own and its children's memory and time are bound by.
///
/// # Errors
/// `ESRCH` it is gone; `EPERM` above its hard limit.
pub fn set_limit(pid: i32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = [soft, hard];
    // SAFETY: prlimit reads one rlimit, of two numbers; the old one is not asked for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            limit.as_ptr(),
            std::ptr::null_mut::<u64>(),
        )
    };
    check(result).map(drop)
}

/// Has the host reap this process's children. Programs become them when the zygote is killed, and the first of their pid namespace only ends when all others
/// there are reaped (pid_namespaces(7)).
pub fn reap_children_unseen() {
    // SAFETY: SIG_IGN for a valid signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// How many bytes of a CPU mask the host's kernel has: what sched_getaffinity(2) returns, as the library's wrappers do not tell.
#[must_use]
pub fn cpu_mask_bytes() -> usize {
    const MOST: usize = 8192 / 8;
    // Asked once: the jail does not have the call.
    static BYTES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *BYTES.get_or_init(|| {
        let mut mask = [0_u64; MOST / 8];
        // SAFETY: the call writes at most the `MOST` bytes that the array has.
        let result =
            unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, MOST, mask.as_mut_ptr()) };
        usize::try_from(result).unwrap_or(size_of::<u64>())
    })
}

/// Which part of a process's CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuClock {
    UserAndSystem = 0,
    User = 1,
    /// The scheduler's own count, exact.
    All = 2,
}

/// CPU time that a process has used. clock_getcpuclockid(3) tells how such clocks are numbered.
///
/// # Errors
/// `EINVAL` it is gone.
pub fn cpu_time(pid: i32, clock: CpuClock) -> io::Result<std::time::Duration> {
    let number = !pid << 3 | clock as i32;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one timespec.
    check(unsafe { libc::clock_gettime(number, &raw mut time) }.into())?;
    let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    let nanoseconds = u32::try_from(time.tv_nsec).map_err(io::Error::other)?;
    Ok(std::time::Duration::new(seconds, nanoseconds))
}
