//! The listener of seccomp user notifications: how a program's calls reach the sentry, and how it answers. seccomp_unotify(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use crate::check;

/// One call of a program: registers as they were. All of it is the program's to choose but `id` and `tid`.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub id: u64,
    /// The thread, in the sentry's pid namespace.
    pub tid: i32,
    pub nr: i32,
    pub ip: u64,
    pub args: [u64; 6],
}

#[repr(C)]
#[derive(Default)]
struct RawCall {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    ip: u64,
    args: [u64; 6],
}
const _: () = assert!(size_of::<RawCall>() == 80);

#[repr(C)]
struct RawAnswer {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}
const _: () = assert!(size_of::<RawAnswer>() == 24);

#[repr(C)]
struct RawAddFd {
    id: u64,
    flags: u32,
    srcfd: u32,
    newfd: u32,
    newfd_flags: u32,
}
const _: () = assert!(size_of::<RawAddFd>() == 24);

// By syscall(2) below: glibc's ioctl(3) takes the request as an unsigned long, musl's as an int.
const fn ioctl_number(direction: u64, number: u64, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | (b'!' as u64) << 8 | number
}
pub(crate) const RECV: u64 = ioctl_number(3, 0, size_of::<RawCall>());
pub(crate) const SEND: u64 = ioctl_number(3, 1, size_of::<RawAnswer>());
pub(crate) const ADD_FD: u64 = ioctl_number(1, 3, size_of::<RawAddFd>());
const SET_FLAGS: u64 = ioctl_number(1, 4, size_of::<u64>());
const FLAG_CONTINUE: u32 = 1;
const FLAG_SYNC_WAKE_UP: u64 = 1;
const ADD_FD_SETFD: u32 = 1;

/// What a call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The call's result, as the register will hold it: a value, or a negated errno.
    Value(i64),
    /// The host's kernel executes the call as it stands. Only sound for what the sentry checked in registers: memory can change meanwhile.
    Continue,
}

#[derive(Debug)]
pub struct Listener(OnceLock<OwnedFd>);

impl Listener {
    /// One whose descriptor comes later, by `bind`: until then there is nobody who could call.
    #[must_use]
    pub fn pending() -> Self {
        Self(OnceLock::new())
    }

    /// Takes the descriptor that installing the filter returned, and asks for wake-ups on the caller's own core where the kernel (6.6) offers them:
    /// the program waits anyway, and a wake-up across cores costs more than the call.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        // SAFETY: SET_FLAGS takes the flags by value.
        let _ = unsafe {
            libc::syscall(
                libc::SYS_ioctl,
                fd.as_raw_fd(),
                SET_FLAGS,
                FLAG_SYNC_WAKE_UP,
            )
        };
        Self::received(fd)
    }

    /// A `pending` one becomes `other`.
    pub fn bind(&self, other: Self) {
        if let Some(fd) = other.0.into_inner() {
            let _ = self.0.set(fd);
        }
    }

    /// One that another process of ours made by `new`, and sent: its flags are the filter's.
    #[must_use]
    pub fn received(fd: OwnedFd) -> Self {
        Self(OnceLock::from(fd))
    }

    /// The descriptor's number, for who closes all others; -1 while it is `pending`.
    #[must_use]
    pub fn raw(&self) -> i32 {
        self.0.get().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// The next call; waits for one. `None`: no process with the filter is left.
    ///
    /// # Errors
    /// As the ioctl's, but interruptions and calls whose caller died meanwhile, which are passed over.
    pub fn receive(&self) -> io::Result<Option<Call>> {
        loop {
            let mut raw = RawCall::default();
            // SAFETY: RECV writes one RawCall, which is zeroed as the kernel demands.
            if unsafe { libc::syscall(libc::SYS_ioctl, self.raw(), RECV, &raw mut raw) } == 0 {
                return Ok(Some(Call {
                    id: raw.id,
                    tid: raw.pid.cast_signed(),
                    nr: raw.nr,
                    ip: raw.ip,
                    args: raw.args,
                }));
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // Without a process left there is nothing to wait for, either: the kernel says the same, at once and for ever.
                Some(libc::ENOENT) if self.is_deserted() => return Ok(None),
                Some(libc::ENOENT) => {}
                Some(libc::ENOTCONN) => return Ok(None),
                _ => return Err(error),
            }
        }
    }

    /// Whether no process with the filter is left. Linux: seccomp_notify_poll().
    fn is_deserted(&self) -> bool {
        let mut polled = libc::pollfd {
            fd: self.raw(),
            events: 0,
            revents: 0,
        };
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: ppoll reads and writes the one pollfd, and reads the time limit; no mask is passed.
        let count = unsafe { libc::ppoll(&raw mut polled, 1, &raw const now, std::ptr::null()) };
        count == 1 && polled.revents & libc::POLLHUP != 0
    }

    /// Answers the call `id`; false if its caller waits no longer (it was killed).
    #[must_use]
    pub fn answer(&self, id: u64, answer: Answer) -> bool {
        let raw = match answer {
            Answer::Value(val) => RawAnswer {
                id,
                val,
                error: 0,
                flags: 0,
            },
            Answer::Continue => RawAnswer {
                id,
                val: 0,
                error: 0,
                flags: FLAG_CONTINUE,
            },
        };
        // SAFETY: SEND reads one RawAnswer.
        unsafe { libc::syscall(libc::SYS_ioctl, self.raw(), SEND, &raw const raw) == 0 }
    }

    /// Makes `fd` the caller's descriptor `number` (replacing one), close-on-exec unless `keep`, while the call `id` waits.
    ///
    /// # Errors
    /// `EBADF` the number is beyond the process's limit; `ENOENT` the caller is gone.
    pub fn give_fd(&self, id: u64, fd: BorrowedFd<'_>, number: u32, keep: bool) -> io::Result<()> {
        let raw = RawAddFd {
            id,
            flags: ADD_FD_SETFD,
            srcfd: fd.as_raw_fd().cast_unsigned(),
            newfd: number,
            newfd_flags: if keep {
                0
            } else {
                libc::O_CLOEXEC.cast_unsigned()
            },
        };
        // SAFETY: ADD_FD reads one RawAddFd; `fd` is open through the call.
        check(unsafe { libc::syscall(libc::SYS_ioctl, self.raw(), ADD_FD, &raw const raw) })
            .map(drop)
    }
}
