//! Signals of the host to the sentry itself, as data: none of its threads is ever interrupted by one. (What it has handlers for is not taken: see `stacks`.)

use std::os::fd::{AsRawFd, OwnedFd};

/// A signal that came, of `struct signalfd_siginfo`. signalfd(2).
#[derive(Debug, Clone, Copy)]
pub struct Came {
    pub signal: i32,
    pub code: i32,
    pub uid: u32,
}

const SIGINFO: usize = 128;

pub use casemate_host::child::signal_events as take;

/// The next that came, if there is one.
#[must_use]
pub fn next(fd: &OwnedFd) -> Option<Came> {
    let mut bytes = [0_u8; SIGINFO];
    let part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: SIGINFO,
    };
    // SAFETY: the part describes `bytes`, which the kernel writes.
    let count = unsafe { crate::transfer(libc::SYS_preadv2, fd.as_raw_fd(), &part, -1) };
    if usize::try_from(count).unwrap_or(0) < SIGINFO {
        return None;
    }
    let word =
        |at: usize| i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Some(Came {
        signal: word(0),
        code: word(8),
        uid: word(16).cast_unsigned(),
    })
}
