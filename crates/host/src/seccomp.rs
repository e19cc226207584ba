//! seccomp(2).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::check_long;

/// One instruction of classic BPF (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

pub const FLAG_TSYNC: u64 = 1;
pub const FLAG_LOG: u64 = 2;
pub const FLAG_SPEC_ALLOW: u64 = 4;
pub const FLAG_NEW_LISTENER: u64 = 8;
pub const FLAG_WAIT_KILLABLE_RECV: u64 = 32;

/// Installs a filter on this thread; with `FLAG_NEW_LISTENER` returns the notify descriptor.
///
/// # Errors
/// As seccomp(2) `SECCOMP_SET_MODE_FILTER`.
pub fn install(filter: &[Instruction], flags: u64) -> io::Result<Option<OwnedFd>> {
    let len =
        u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = Program {
        len,
        filter: filter.as_ptr(),
    };
    // SAFETY: the program points to `len` instructions that live through the call; the kernel copies and checks them.
    let result =
        check_long(unsafe { libc::syscall(libc::SYS_seccomp, 1, flags, &raw const program) })?;
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let raw = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: with FLAG_NEW_LISTENER the return value is a new descriptor, ours alone.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) }))
}
