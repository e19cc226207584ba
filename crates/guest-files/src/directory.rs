//! What is in directories.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom, seek};
use rustix::io::Errno;

use crate::server::{MAX_WRITE, Server};
use crate::wire::{Answer, ENTRY, Fields};

const DIRENT: usize = 24;
const BUFFER: usize = 32 << 10;

/// An entry as the kernel told it.
struct Entry {
    inode: u64,
    next: u64,
    kind: FileType,
    name: Vec<u8>,
}

impl Server {
    pub(crate) fn open_directory(&mut self, node: u64) -> Result<Answer, Errno> {
        let fd = self.open_node(node, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut answer = Answer::default();
        answer.u64(self.keep_handle(fd)).u64(0);
        Ok(answer)
    }

    /// struct fuse_read_in; `plus`: each entry is looked up as well.
    pub(crate) fn read_directory(
        &mut self,
        node: u64,
        fields: &mut Fields<'_>,
        plus: bool,
    ) -> Result<Answer, Errno> {
        let (handle, offset, size) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let room = (size as usize).min(MAX_WRITE);
        let mut answer = Answer::default();
        for entry in self.entries(handle, offset)? {
            let head = if plus { ENTRY + DIRENT } else { DIRENT };
            let padded = (head + entry.name.len()).next_multiple_of(8);
            if answer.0.len() + padded > room {
                break;
            }
            if plus {
                self.look_up_entry(node, &entry, &mut answer);
            }
            let length = u32::try_from(entry.name.len()).map_err(|_| Errno::NAMETOOLONG)?;
            answer
                .u64(entry.inode)
                .u64(entry.next)
                .u32(length)
                .u32(entry.kind.as_raw_mode() >> 12);
            answer.0.extend_from_slice(&entry.name);
            answer.zeros(padded - head - entry.name.len());
        }
        Ok(answer)
    }

    /// An entry that cannot be looked up, and those of the directory itself and the one above, have no node: the guest's kernel takes the name alone then.
    fn look_up_entry(&mut self, directory: u64, entry: &Entry, answer: &mut Answer) {
        let name = OsStr::from_bytes(&entry.name);
        let found = match &entry.name[..] {
            b"." | b".." => None,
            _ => self.nodes.look_up(directory, name).ok(),
        };
        match found {
            Some((node, stat)) => answer.entry(node, &stat),
            None => answer.zeros(ENTRY),
        };
    }

    /// Some entries from this offset on, which is the kernel's own; none at the end.
    fn entries(&mut self, handle: u64, offset: u64) -> Result<Vec<Entry>, Errno> {
        let directory = self.handle(handle)?;
        seek(directory, SeekFrom::Start(offset))?;
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut reader = RawDir::new(directory, &mut buffer);
        let mut found = Vec::new();
        while let Some(entry) = reader.next() {
            let entry = entry?;
            found.push(Entry {
                inode: entry.ino(),
                next: entry.next_entry_cookie(),
                kind: entry.file_type(),
                name: entry.file_name().to_bytes().to_vec(),
            });
            // What is in the buffer, and no further call.
            if reader.is_buffer_empty() {
                break;
            }
        }
        Ok(found)
    }
}
