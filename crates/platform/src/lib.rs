//! What runs a program until it traps: the seccomp filter, notifications, a program's memory, the loader and stub mapped into it, and the zygote that
//! programs are forked from. docs/design/sentry.md tells how they fit; docs/decisions/2026-11-24-sentry-platform.md why, with figures.
//!
//! Everything the sentry does that is unsafe is here. Callers get safe functions over plain numbers: an address or a process id that a program made
//! up can make a call fail, never touch the sentry's own memory.
#![expect(
    unsafe_code,
    reason = "the sentry's only crate that talks to the kernel directly"
)]
#![expect(clippy::cast_possible_truncation, reason = "x86-64 only: usize is u64")]

pub mod answers;
mod call;
pub mod channel;
pub mod fast;
pub mod filter;
pub mod jail;
pub mod line;
pub mod loader;
pub mod memory;
pub mod notify;
pub mod process;
pub mod signals;
pub mod socket;
mod socket_options;
pub mod stacks;
pub mod windows;
pub mod zygote;

pub use casemate_host::device;

use std::io;
use std::os::fd::RawFd;

/// For a thread that lives as long as the process: it keeps small blocks of memory for itself, where the allocator is ours.
pub fn keep_small_blocks() {
    #[cfg(target_env = "musl")]
    casemate_host::allocator::keep_small_blocks();
}

/// Calls of ours, above every number of Linux (and below x32's bit): only the sentry answers them.
pub mod magic {
    /// The loader asks what to do: rdi is where the commands go, rsi the stack pointer at entry. The answer is how many there are.
    pub const LOADER: i32 = 0x2001;
    /// The stub runs a signal's native frame: rdi the signal, rsi its siginfo, rdx its ucontext.
    pub const DELIVER: i32 = 0x2002;
    /// Either side of a clone that the sentry had a thread make at the stub: rdi is its result.
    pub const CLONED: i32 = 0x2004;
    /// The zygote waits for something to fork: rdi is the child that it forked last, or a negated errno; 0 at first.
    pub const ZYGOTE: i32 = 0x2003;
}

pub(crate) fn check(result: libc::c_long) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// preadv2(2) or pwritev2(2), `number`, of one part without flags. Not the library's: without flags musl's makes an older call, which the jail refuses.
///
/// # Safety
/// `part` describes memory that the call may write or read.
pub(crate) unsafe fn transfer(
    number: libc::c_long,
    fd: RawFd,
    part: &libc::iovec,
    at: i64,
) -> libc::c_long {
    // SAFETY: the caller's.
    unsafe {
        libc::syscall(
            number,
            fd,
            std::ptr::from_ref(part),
            1_usize,
            at,
            0_u64,
            0_u64,
        )
    }
}
