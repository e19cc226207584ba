//! A program's memory, copied: process_vm_readv(2) and process_vm_writev(2). Nothing of it is ever mapped or referenced here.

use std::io;

use crate::check;

/// Copies from address `from` of the thread's process into `into`; returns how many bytes were readable, from the start on.
///
/// # Errors
/// `EFAULT` not even the first byte is; `ESRCH` the thread is gone.
pub fn read(tid: i32, from: u64, into: &mut [u8]) -> io::Result<usize> {
    if into.is_empty() {
        return Ok(0);
    }
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = remote(from, into.len());
    // SAFETY: `local` describes `into`, borrowed mutably; the remote address is only a number to this process, checked by the kernel.
    let copied =
        check(
            unsafe { libc::process_vm_readv(tid, &raw const local, 1, &raw const remote, 1, 0) }
                as i64,
        )?;
    usize::try_from(copied).map_err(io::Error::other)
}

/// Copies `from` to address `to` of the thread's process; returns how many bytes were writable, from the start on.
///
/// # Errors
/// `EFAULT` not even the first byte is; `ESRCH` the thread is gone.
pub fn write(tid: i32, to: u64, from: &[u8]) -> io::Result<usize> {
    if from.is_empty() {
        return Ok(0);
    }
    let local = libc::iovec {
        iov_base: from.as_ptr().cast_mut().cast(),
        iov_len: from.len(),
    };
    let remote = remote(to, from.len());
    // SAFETY: `local` describes `from`, which the call only reads; the remote address is only a number to this process.
    let copied =
        check(
            unsafe { libc::process_vm_writev(tid, &raw const local, 1, &raw const remote, 1, 0) }
                as i64,
        )?;
    usize::try_from(copied).map_err(io::Error::other)
}

fn remote(address: u64, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::without_provenance_mut(usize::try_from(address).unwrap_or(usize::MAX)),
        iov_len: len,
    }
}
