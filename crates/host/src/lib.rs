//! Safe wrappers of the host kernel's calls that no library offers, or offers only for threaded programs.
//!
//! The engine is single-threaded until it executes a program; several wrappers rely on that and check it.
#![expect(unsafe_code, reason = "the crate that talks to the kernel directly")]

#[cfg(target_env = "musl")]
pub mod allocator;
pub mod child;
pub mod clone;
#[cfg(target_env = "musl")]
mod copies;
pub mod device;
pub mod entropy;
pub mod ids;
pub mod mount;
pub mod process;
pub mod sched;
pub mod seccomp;
pub mod tap;

use std::io;

/// `Ok` for a non-negative return of a libc call, else errno.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub(crate) fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
