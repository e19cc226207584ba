//! copy_file_range(2).

use super::arguments::Flags;
use super::transfer::{CHUNK, MOST, Offset, input, output, read_some};
use super::{Cx, SysResult, value};
use crate::errno::Errno;
use crate::memory::{Address, Buffer};
use crate::vfs::description::Description;

const APPEND: u32 = libc::O_APPEND.cast_unsigned();

pub fn copy_file_range(
    cx: &mut Cx<'_>,
    from: i32,
    from_offset: Address,
    to: i32,
    to_offset: Address,
    len: usize,
    flags: Flags,
) -> SysResult {
    flags.only(0)?;
    let (source, target) = (input(cx, from)?, output(cx, to)?);
    let (one, other) = (source.file.attributes()?, target.file.attributes()?);
    if one.is_directory() || other.is_directory() {
        return Err(Errno::EISDIR);
    }
    if one.kind() != libc::S_IFREG || other.kind() != libc::S_IFREG {
        return Err(Errno::EINVAL);
    }
    if target.flags() & APPEND != 0 {
        return Err(Errno::EBADF);
    }
    // A text of /proc: no file system copies out of that, since Linux 5.19.
    if source.file.content(cx).is_some() {
        return Err(Errno::EXDEV);
    }
    let mut in_at = Offset::read(cx, &source, from_offset)?;
    let mut out_at = Offset::read(cx, &target, to_offset)?;
    let start = |offset: Offset, description: &Description| {
        offset.value().unwrap_or_else(|| description.next_byte())
    };
    let (first, second) = (start(in_at, &source), start(out_at, &target));
    let len = len.min(MOST).min(one.size.saturating_sub(first) as usize);
    let is_same = (one.dev, one.ino) == (other.dev, other.ino);
    if is_same && first < second + len as u64 && second < first + len as u64 {
        return Err(Errno::EINVAL);
    }
    let mut done = 0;
    while done < len {
        let offset = done as u64;
        let bytes = read_some(&source, CHUNK.min(len - done), Some(first + offset))?;
        if bytes.is_empty() {
            break;
        }
        match target
            .file
            .write(&target, &mut Buffer::source(bytes), Some(second + offset))
        {
            Ok(0) => break,
            Ok(moved) => done += moved,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    for (offset, description) in [(&mut in_at, &source), (&mut out_at, &target)] {
        match offset {
            Offset::Own => description.move_to(description.next_byte() + done as u64),
            Offset::At(..) => offset.advance(cx, done)?,
        }
    }
    value(done)
}
