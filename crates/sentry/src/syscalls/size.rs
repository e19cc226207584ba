//! A file's length and holes: truncate(2), fallocate(2), and the limit RLIMIT_FSIZE.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags};

use super::{Cx, DONE, Outcome, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::MAY_WRITE;
use crate::kernel::signals::{Info, SI_KERNEL};
use crate::memory::{Address, Buffer};
use crate::vfs::description::Description;
use crate::vfs::host::HostFile;
use crate::vfs::place::Place;
use crate::vfs::windows::Changing;

const SIGXFSZ: i32 = 25;
/// linux/magic.h.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
/// Less than what a program that is killed for it gives back: so nobody else is killed before that is seen.
const ALLOCATED_AT_ONCE: u64 = 1 << 20;

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
    if cx.kernel.is_executed(&attributes) {
        return Err(Errno::ETXTBSY);
    }
    if matches!(place, Place::Proc(_)) {
        return DONE;
    }
    may_grow_to(cx, attributes.size, length)?;
    let file = cx
        .kernel
        .reopen(place.host().map_err(|_| Errno::EACCES)?, OFlags::WRONLY)?;
    let changing = Changing::new(attributes.id());
    let done = rustix::fs::ftruncate(&file, length);
    drop(changing);
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
    // A file of /proc has no length, and nothing to lose. pam_loginuid(8) empties one first.
    if matches!(description.file.place(), Some(Place::Proc(_))) {
        return DONE;
    }
    may_grow_to(cx, attributes.size, length)?;
    let host = description.file.host().ok_or(Errno::EINVAL)?;
    let _changing = Changing::new(attributes.id());
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
    let _changing = Changing::new(attributes.id());
    let flags = FallocateFlags::from_bits_retain(mode);
    let (start, end) = (offset.cast_unsigned(), end.cast_unsigned());
    let takes_memory = mode & !KEEP_SIZE == 0 && end - start > ALLOCATED_AT_ONCE;
    if takes_memory && rustix::fs::fstatfs(host)?.f_type == TMPFS_MAGIC {
        return allocate_memory(cx, host, flags, (start, end), attributes.size);
    }
    rustix::fs::fallocate(host, flags, start, end - start)?;
    DONE
}

/// On a tmpfs, in steps, so that what the caller is killed of in the middle of it (the memory limit) ends it: the host would end the call of who makes it,
/// and that is not the caller. What was done of it is undone, as far as the file grew. Linux: shmem_fallocate().
fn allocate_memory(
    cx: &Cx<'_>,
    host: BorrowedFd<'_>,
    flags: FallocateFlags,
    (start, end): (u64, u64),
    size: u64,
) -> SysResult {
    let mut at = start;
    while at < end {
        let len = (end - at).min(ALLOCATED_AT_ONCE);
        let done = rustix::fs::fallocate(host, flags, at, len);
        let has_ended = cx.process()?.pidfd.as_ref().is_some_and(|pidfd| {
            !crate::host::ready(pidfd, rustix::event::PollFlags::IN).is_empty()
        });
        if has_ended || done.is_err() {
            if end > size {
                // To its own size, which frees what lies beyond, whoever put it there.
                rustix::fs::ftruncate(host, size)?;
            }
            done?;
            return Ok(Outcome::Gone);
        }
        at += len;
    }
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
    let is_regular = description.file.is::<HostFile>();
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
