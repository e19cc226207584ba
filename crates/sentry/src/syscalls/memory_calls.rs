//! Memory. The host's kernel keeps the address space; calls on it reach the sentry only where the filter is not sure of them. mmap(2).

use super::arguments::Flags;
use super::{Cx, Outcome, SysResult};
use crate::errno::Errno;
use crate::memory::Address;
use crate::vfs::host::HostFile;

const MAP_TYPE: u32 = 0xF;
const MAP_SHARED_VALIDATE: u32 = 3;
const MAP_HUGETLB: i32 = 0x4_0000;

/// A file's mapping: the host maps the descriptor of that number, which is made to be the file's.
pub fn mmap(
    cx: &mut Cx<'_>,
    _addr: Address,
    len: u64,
    prot: Flags,
    flags: Flags,
    fd: i32,
    offset: u64,
) -> SysResult {
    if cx.task()?.image.is_some() {
        // The loader maps what it was given.
        return Ok(Outcome::Native);
    }
    if flags.has(libc::MAP_ANONYMOUS) {
        // Huge pages are the host's to spare.
        return if flags.has(MAP_HUGETLB) {
            Err(Errno::ENOMEM)
        } else {
            Ok(Outcome::Native)
        };
    }
    let call = cx.call;
    if cx.kernel.maps_own(&call)? {
        return Ok(Outcome::Native);
    }
    if len == 0 || !offset.is_multiple_of(4096) {
        return Err(Errno::EINVAL);
    }
    let description = cx.open_description(fd)?;
    let shared = matches!(flags.0 & MAP_TYPE, 1 | MAP_SHARED_VALIDATE);
    if !description.is_readable()
        || (shared && prot.has(libc::PROT_WRITE) && !description.is_writable())
    {
        return Err(Errno::EACCES);
    }
    let Some(host) = description.file.host() else {
        return Err(Errno::ENODEV);
    };
    if description.file.is_stream() {
        return Err(Errno::ENODEV);
    }
    if let Some(file) = description.file.downcast_ref::<HostFile>() {
        file.was_mapped(shared && description.is_writable());
    }
    let number = u32::try_from(fd).map_err(|_| Errno::EBADF)?;
    cx.kernel
        .listener
        .give_fd(cx.call.id, host, number, false)?;
    Ok(Outcome::Native)
}

pub fn msync(_cx: &mut Cx<'_>, _addr: Address, _len: u64, _flags: Flags) -> SysResult {
    Ok(Outcome::Native)
}

/// What the filter lets through by itself, and what is for other kernels or for machines' owners.
pub fn madvise(_cx: &mut Cx<'_>, _addr: Address, _len: u64, advice: i32) -> SysResult {
    // MADV_COLD to MADV_COLLAPSE; below are the filter's own, and MADV_KEEPONFORK and its like.
    if (0..=25).contains(&advice) {
        Ok(Outcome::Native)
    } else {
        Err(Errno::EINVAL)
    }
}

/// An operation that futex(2) does not have.
pub fn futex(
    _cx: &mut Cx<'_>,
    _address: Address,
    _operation: i32,
    _value: u32,
    _timeout: Address,
    _address2: Address,
    _value3: u32,
) -> SysResult {
    Err(Errno::ENOSYS)
}
