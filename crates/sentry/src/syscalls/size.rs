//! A file's length and holes: truncate(2), fallocate(2), and the limit RLIMIT_FSIZE.

use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags};

use super::{Cx, DONE, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::MAY_WRITE;
use crate::kernel::signals::{Info, SI_KERNEL};
use crate::memory::{Address, Buffer};
use crate::vfs::description::Description;
use crate::vfs::host::HostFile;

const SIGXFSZ: i32 = 25;

pub fn truncate(cx: &mut Cx<'_>, path: Address, length: i64) -> SysResult {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let path = cx.memory().read_path(path)?;
    let place = cx.resolve(libc::AT_FDCWD, &path, true)?;
    let attributes = place.attributes(cx.kernel)?;
    match attributes.kind() {
        libc::S_IFREG => {}
        libc::S_IFDIR => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    let who = &cx.task()?.credentials;
    if !who.may(MAY_WRITE, attributes.mode, attributes.uid, attributes.gid) {
        return Err(Errno::EACCES);
    }
    may_grow_to(cx, attributes.size, length)?;
    let file = cx
        .kernel
        .reopen(place.host().map_err(|_| Errno::EACCES)?, OFlags::WRONLY)?;
    let done = rustix::fs::ftruncate(&file, length);
    cx.kernel.files.file_changed(&attributes);
    done?;
    DONE
}

pub fn ftruncate(cx: &mut Cx<'_>, fd: i32, length: i64) -> SysResult {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let description = cx.open_description(fd)?;
    let attributes = description.file.attributes()?;
    if attributes.kind() != libc::S_IFREG || !description.is_writable() {
        return Err(Errno::EINVAL);
    }
    may_grow_to(cx, attributes.size, length)?;
    let host = description.file.host().ok_or(Errno::EINVAL)?;
    rustix::fs::ftruncate(host, length)?;
    DONE
}

pub fn fallocate(cx: &mut Cx<'_>, fd: i32, mode: u32, offset: i64, len: i64) -> SysResult {
    let description = cx.open_description(fd)?;
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL);
    }
    let end = offset.checked_add(len);
    // FALLOC_FL_KEEP_SIZE .. FALLOC_FL_UNSHARE_RANGE but NO_HIDE_STALE, which Linux has no more than the jail lets through; collapsing and inserting
    // need the file system's blocks, which the host checks.
    const KNOWN: u32 = 0x7B;
    if mode & !KNOWN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if !description.is_writable() {
        return Err(Errno::EBADF);
    }
    let attributes = description.file.attributes()?;
    match attributes.kind() {
        libc::S_IFREG => {}
        libc::S_IFIFO => return Err(Errno::ESPIPE),
        libc::S_IFDIR => return Err(Errno::EISDIR),
        _ => return Err(Errno::ENODEV),
    }
    let end = end.ok_or(Errno::EFBIG)?;
    const KEEP_SIZE: u32 = 1;
    if mode & KEEP_SIZE == 0 {
        may_grow_to(cx, attributes.size, end.cast_unsigned())?;
    }
    let host = description.file.host().ok_or(Errno::ENODEV)?;
    let flags = FallocateFlags::from_bits_retain(mode);
    rustix::fs::fallocate(host, flags, offset.cast_unsigned(), len.cast_unsigned())?;
    DONE
}

/// RLIMIT_FSIZE: `EFBIG` and SIGXFSZ for what would grow beyond it. Linux: inode_newsize_ok().
fn may_grow_to(cx: &mut Cx<'_>, size: u64, length: u64) -> Result<()> {
    let limit = cx.process()?.limits.0[libc::RLIMIT_FSIZE as usize].0;
    if length > size && length > limit {
        return Err(exceeded(cx));
    }
    Ok(())
}

fn exceeded(cx: &mut Cx<'_>) -> Errno {
    let tid = cx.tid();
    cx.kernel.send_to_thread(tid, Info::new(SIGXFSZ, SI_KERNEL));
    Errno::EFBIG
}

/// Cuts a write to a regular file off at RLIMIT_FSIZE. Linux: generic_write_check_limits().
pub fn limit_write(
    cx: &mut Cx<'_>,
    description: &Arc<Description>,
    buffer: &mut Buffer,
    at: Option<u64>,
) -> Result<()> {
    let limit = cx.process()?.limits.0[libc::RLIMIT_FSIZE as usize].0;
    let is_regular = description.file.as_any().is::<HostFile>();
    if limit == u64::MAX || !is_regular || buffer.remaining() == 0 {
        return Ok(());
    }
    let start = if description.flags() & libc::O_APPEND.cast_unsigned() != 0 {
        description.file.attributes()?.size
    } else {
        at.unwrap_or(*description.position())
    };
    if start >= limit {
        return Err(exceeded(cx));
    }
    let room = limit - start;
    buffer.cut(usize::try_from(room).unwrap_or(usize::MAX));
    Ok(())
}
