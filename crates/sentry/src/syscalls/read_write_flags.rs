//! Reads and writes with flags (preadv2(2)), and advice on what will be read (readahead(2), posix_fadvise(2)).

use super::arguments::Flags;
use super::splice::{input, output, pipe_of};
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
    check_rwf(flags, RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND)?;
    let description = output(cx, fd)?;
    let result = if flags.0 & RWF_APPEND != 0 && !description.file.is_stream() {
        let stretches = cx.memory().read_iovec(iov, count)?;
        let mut buffer = Buffer::new(cx.memory(), stretches);
        let appending = Description::new(description.file.clone(), description.flags() | APPEND);
        let written = appending.file.write(&appending, &mut buffer, None)?;
        if offset == -1 {
            *description.position() = *appending.position();
        }
        value(written)
    } else if offset == -1 {
        super::read_write::writev(cx, fd, iov, count)
    } else {
        super::read_write::pwritev(cx, fd, iov, count, offset)
    };
    if flags.0 & (RWF_SYNC | RWF_DSYNC) != 0
        && result.is_ok()
        && let Some(host) = description.file.host()
    {
        rustix::fs::fsync(host)?;
    }
    result
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
