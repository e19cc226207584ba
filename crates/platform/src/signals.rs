//! Signals of the host to the sentry itself, as data: it has no handlers, so none of its threads is ever interrupted by one.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::check;

/// A signal that came, of `struct signalfd_siginfo`. signalfd(2).
#[derive(Debug, Clone, Copy)]
pub struct Came {
    pub signal: i32,
    pub code: i32,
    pub uid: u32,
}

const SIGINFO: usize = 128;

/// Blocks `signals` in this thread and those that it will start; the descriptor tells of them. A blocked signal is kept even for the first process of a
/// pid namespace, which is otherwise sent none that it has no handler for.
///
/// # Errors
/// As the host's, which is out of descriptors.
pub fn take(signals: &[i32]) -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset and the rest read it, and refuse numbers that are no signals.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    check(fd.into())?;
    // SAFETY: the call returned a new descriptor, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next that came, if there is one.
#[must_use]
pub fn next(fd: &OwnedFd) -> Option<Came> {
    use std::io::Read;
    let mut bytes = [0; SIGINFO];
    let mut file = std::fs::File::from(fd.try_clone().ok()?);
    if file.read(&mut bytes).ok()? < SIGINFO {
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
