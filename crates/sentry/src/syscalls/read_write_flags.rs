//! Reads and writes with flags (preadv2(2)), and advice on what will be read (readahead(2), posix_fadvise(2)).

use std::sync::Arc;

use super::arguments::Flags;
use super::read_write::write_from;
use super::transfer::{input, output, pipe_of};
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::memory::{Address, Buffer};
use crate::vfs::description::Description;

const APPEND: u32 = libc::O_APPEND.cast_unsigned();

/// A number whose bits are RWF_*. `EOPNOTSUPP` for those that are not known. preadv2(2).
fn check_rwf(flags: Flags, known: u32) -> Result<()> {
    if flags.0 & !known == 0 {
        Ok(())
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}

const RWF_HIPRI: u32 = 1;
const RWF_DSYNC: u32 = 2;
const RWF_SYNC: u32 = 4;
const RWF_NOWAIT: u32 = 8;
const RWF_APPEND: u32 = 16;
const RWF_NOAPPEND: u32 = 32;

pub fn preadv2(
    cx: &mut Cx<'_>,
    fd: i32,
    iov: Address,
    count: u64,
    offset: i64,
    _high: u64,
    flags: Flags,
) -> SysResult {
    check_rwf(flags, RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT)?;
    if flags.0 & RWF_NOWAIT != 0 {
        let description = input(cx, fd)?;
        if description.file.is_stream() {
            if offset != -1 {
                return Err(Errno::ESPIPE);
            }
            if pipe_of(&description).is_some() {
                return Err(Errno::EOPNOTSUPP);
            }
            let stretches = cx.memory().read_iovec(iov, count)?;
            let mut buffer = Buffer::new(cx.memory(), stretches);
            return value(description.file.read(&description, &mut buffer, None)?);
        }
    }
    if offset == -1 {
        super::read_write::readv(cx, fd, iov, count)
    } else {
        super::read_write::preadv(cx, fd, iov, count, offset)
    }
}

pub fn pwritev2(
    cx: &mut Cx<'_>,
    fd: i32,
    iov: Address,
    count: u64,
    offset: i64,
    _high: u64,
    flags: Flags,
) -> SysResult {
    let known = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND | RWF_NOAPPEND;
    check_rwf(flags, known)?;
    let description = output(cx, fd)?;
    let result = match otherwise_opened(&description, flags)? {
        Some(other) => {
            let stretches = cx.memory().read_iovec(iov, count)?;
            let mut buffer = Buffer::new(cx.memory(), stretches);
            *other.position() = *description.position();
            let result = write_from(cx, &other, &mut buffer, position(offset)?);
            *description.position() = *other.position();
            result
        }
        None if offset == -1 => super::read_write::writev(cx, fd, iov, count),
        None => super::read_write::pwritev(cx, fd, iov, count, offset),
    };
    if flags.0 & (RWF_SYNC | RWF_DSYNC) != 0
        && result.is_ok()
        && let Some(host) = description.file.host()
    {
        rustix::fs::fsync(host)?;
    }
    result
}

/// The same file as if it had been opened with O_APPEND, or without, if the flags ask for that. Linux: kiocb_set_rw_flags().
fn otherwise_opened(description: &Description, flags: Flags) -> Result<Option<Arc<Description>>> {
    let (appends, not) = (flags.0 & RWF_APPEND != 0, flags.0 & RWF_NOAPPEND != 0);
    if appends && not {
        return Err(Errno::EINVAL);
    }
    if !(appends || not) || description.file.is_stream() {
        return Ok(None);
    }
    let kept = description.flags() & !APPEND;
    let flags = if appends { kept | APPEND } else { kept };
    Ok(Some(Description::new(description.file.clone(), flags)))
}

/// -1: the description's own.
fn position(offset: i64) -> Result<Option<u64>> {
    match offset {
        -1 => Ok(None),
        _ => u64::try_from(offset).map(Some).map_err(|_| Errno::EINVAL),
    }
}

/// Only checked: the host reads ahead by itself.
pub fn readahead(cx: &mut Cx<'_>, fd: i32, _offset: i64, _count: usize) -> SysResult {
    let description = input(cx, fd)?;
    if description.file.attributes()?.kind() != libc::S_IFREG {
        return Err(Errno::EINVAL);
    }
    DONE
}

/// Advice is checked and not followed. posix_fadvise(2).
pub fn fadvise64(cx: &mut Cx<'_>, fd: i32, _offset: i64, len: i64, advice: i32) -> SysResult {
    let description = cx.open_description(fd)?;
    if pipe_of(&description).is_some() {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || !(0..=5).contains(&advice) {
        return Err(Errno::EINVAL);
    }
    DONE
}
