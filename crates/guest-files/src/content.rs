//! What is in files.

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fdatasync, fsync, seek};
use rustix::io::{Errno, pread, pwrite};

use crate::server::{MAX_WRITE, Server};
use crate::wire::{Answer, Fields};

const DATA_ONLY: u32 = 1;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

impl Server {
    /// Of what the guest's program asked for, what its kernel leaves to us.
    pub(crate) fn open_flags(flags: u32) -> OFlags {
        let asked = OFlags::from_bits_retain(flags);
        let kept = OFlags::APPEND | OFlags::TRUNC | OFlags::SYNC | OFlags::DSYNC;
        (asked & OFlags::RWMODE) | (asked & kept)
    }

    pub(crate) fn open(&mut self, node: u64, fields: &mut Fields<'_>) -> Result<Answer, Errno> {
        let flags = Self::open_flags(fields.u32()?);
        let fd = self.open_node(node, flags)?;
        let mut answer = Answer::default();
        answer.u64(self.keep_handle(fd)).u64(0);
        Ok(answer)
    }

    /// struct fuse_read_in
    pub(crate) fn read(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Errno> {
        let (handle, offset, size) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let mut bytes = vec![0; (size as usize).min(MAX_WRITE)];
        let mut filled = 0;
        while filled < bytes.len() {
            let place = offset.checked_add(filled as u64).ok_or(Errno::INVAL)?;
            match pread(self.handle(handle)?, &mut bytes[filled..], place) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) if filled == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        bytes.truncate(filled);
        Ok(Answer(bytes))
    }

    /// struct fuse_write_in
    pub(crate) fn write(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Errno> {
        let (handle, offset, size) = (fields.u64()?, fields.u64()?, fields.u32()?);
        fields.take(20)?;
        let bytes = fields.take(size as usize)?;
        let mut written = 0;
        while written < bytes.len() {
            let place = offset.checked_add(written as u64).ok_or(Errno::FBIG)?;
            match pwrite(self.handle(handle)?, &bytes[written..], place) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(errno) if written == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        let mut answer = Answer::default();
        answer.u32(u32::try_from(written).unwrap_or(0)).u32(0);
        Ok(answer)
    }

    pub(crate) fn synchronize(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Errno> {
        let (handle, flags) = (fields.u64()?, fields.u32()?);
        let file = self.handle(handle)?;
        if flags & DATA_ONLY != 0 {
            fdatasync(file)?;
        } else {
            fsync(file)?;
        }
        Ok(Answer::default())
    }

    pub(crate) fn allocate(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Errno> {
        let (handle, offset, length) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let flags = FallocateFlags::from_bits(fields.u32()?).ok_or(Errno::OPNOTSUPP)?;
        fallocate(self.handle(handle)?, flags, offset, length)?;
        Ok(Answer::default())
    }

    /// Where data or a hole begins; all else the guest's kernel knows.
    pub(crate) fn seek(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Errno> {
        let (handle, offset, whence) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let place = match whence {
            SEEK_DATA => SeekFrom::Data(offset),
            SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let mut answer = Answer::default();
        answer.u64(seek(self.handle(handle)?, place)?);
        Ok(answer)
    }
}
