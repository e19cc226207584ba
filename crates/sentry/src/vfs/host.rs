//! Regular files and directories of the host's tree.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, OFlags, RawDir, SeekFrom, StatxFlags};
use rustix::io::ReadWriteFlags;

use super::attributes::Attributes;
use super::cache::{Cache, Id, Lends, Opened, Trail, Watch};
use super::description::Description;
use super::file::{Entry, File};
use super::place::Place;
use super::windows;
use crate::errno::{Errno, Result};
use crate::memory::{Address, Buffer};
use crate::syscalls::Cx;

/// Bytes that one transfer moves through the sentry at a time.
const CHUNK: usize = 256 << 10;
/// Transfers up to this size pass through the stack.
const SMALL: usize = 4096;
/// What the C library asks for at a time.
const DIRECTORY_CHUNK: usize = 32 << 10;
/// Bytes of `struct linux_dirent64` before the name.
const DIRENT: usize = 19;

#[derive(Debug)]
pub struct HostFile {
    /// Of a file that is only read it may be several descriptions' own: positions are not the host's, but a directory's.
    fd: Arc<OwnedFd>,
    place: Option<Place>,
    is_directory: bool,
    watch: Option<Watch>,
    /// Calls that a window would have answered.
    uses: AtomicU32,
}

/// Calls after which one is made, which takes some 20 us.
const OFTEN: u32 = 32;

impl HostFile {
    /// What the cache opened.
    #[must_use]
    pub fn opened(opened: Opened) -> Self {
        Self {
            place: Some(Place::Host(opened.fd.clone())),
            fd: opened.fd,
            is_directory: opened.is_directory,
            watch: Some(opened.watch),
            uses: AtomicU32::new(0),
        }
    }

    /// A regular file that was opened with these flags: the cache is told of what may change by it.
    pub fn watched(cache: &Arc<Cache>, fd: OwnedFd, flags: OFlags) -> Result<Self> {
        let fd = Arc::new(fd);
        let attributes = attributes_of(&fd)?;
        Ok(Self {
            place: Some(Place::Host(fd.clone())),
            fd,
            is_directory: false,
            watch: Some(Watch::new(cache, &attributes, flags)),
            uses: AtomicU32::new(0),
        })
    }

    /// A directory that lies beyond what is remembered.
    #[must_use]
    pub fn directory(fd: OwnedFd) -> Self {
        Self {
            is_directory: true,
            ..Self::anonymous(fd)
        }
    }

    /// A file without a name anywhere.
    #[must_use]
    pub fn anonymous(fd: OwnedFd) -> Self {
        let fd = Arc::new(fd);
        Self {
            place: Some(Place::Host(fd.clone())),
            fd,
            is_directory: false,
            watch: None,
            uses: AtomicU32::new(0),
        }
    }

    /// The same file, but that /proc asks the host for its name.
    #[must_use]
    pub fn unnamed(self) -> Self {
        Self {
            place: None,
            ..self
        }
    }

    /// A process maps it; `for_writing`: what it stores there reaches the file.
    pub fn was_mapped(&self, for_writing: bool) {
        if let Some(watch) = &self.watch {
            watch.was_read();
            if for_writing {
                watch.was_mapped_for_writing();
            }
        }
    }

    /// Which file its bytes may be lent of, and what may be done to them: a regular one on a remembered mount, which nobody watches.
    #[must_use]
    pub fn lendable(&self) -> Option<(Id, Lends)> {
        let watch = self.watch.as_ref().filter(|_| !self.is_directory)?;
        watch.lends().map(|lends| (watch.id(), lends))
    }

    /// A call that a window would have answered.
    pub fn note_use(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_used_often(&self) -> bool {
        self.uses.load(Ordering::Relaxed) >= OFTEN
    }

    /// It has a window now, or could not be given one: which is tried again after so many calls.
    pub fn forget_uses(&self) {
        self.uses.store(0, Ordering::Relaxed);
    }

    pub fn end_windows(&self) {
        if let Some(watch) = &self.watch {
            windows::ended(watch.id());
        }
    }

    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// The host's entries in the program's layout, which is the same: as many as fit.
    fn pack(&self, description: &Description, room: usize) -> Result<Vec<u8>> {
        self.was_read();
        let mut position = description.position();
        let mut buffer = [MaybeUninit::uninit(); DIRECTORY_CHUNK];
        let room = room.min(buffer.len());
        let mut reader = RawDir::new(&*self.fd, &mut buffer[..room]);
        let mut bytes = Vec::with_capacity(room);
        while let Some(entry) = reader.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if bytes.is_empty() => return Err(error.into()),
                Err(_) => break,
            };
            let name = entry.file_name().to_bytes();
            let len = (DIRENT + name.len() + 1).next_multiple_of(8);
            let end = bytes.len() + len;
            bytes.extend(entry.ino().to_le_bytes());
            bytes.extend(entry.next_entry_cookie().to_le_bytes());
            bytes.extend((len as u16).to_le_bytes());
            bytes.push(kind_of(entry.file_type()));
            bytes.extend_from_slice(name);
            bytes.resize(end, 0);
            *position = entry.next_entry_cookie();
            if reader.is_buffer_empty() {
                break;
            }
        }
        Ok(bytes)
    }

    fn was_read(&self) {
        if let Some(watch) = &self.watch {
            watch.was_read();
        }
    }
}

/// Reads from a position on until there is no room, or no more; returns how many bytes.
fn read_by(fd: &OwnedFd, chunk: &mut [u8], to: &mut Buffer, start: u64) -> Result<usize> {
    let mut done = 0;
    while to.remaining() > 0 {
        let len = to.remaining().min(chunk.len());
        let count = match crate::host::pread(fd, &mut chunk[..len], start + done as u64) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if done == 0 => return Err(error.into()),
            Err(_) => break,
        };
        let copied = match to.put(&chunk[..count]) {
            Ok(copied) => copied,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        done += copied;
        if copied < len {
            break;
        }
    }
    Ok(done)
}

/// Writes all there is, at a position or at the end; returns how many bytes.
fn write_by(
    fd: &OwnedFd,
    chunk: &mut [u8],
    from: &mut Buffer,
    start: u64,
    appends: bool,
) -> Result<usize> {
    let mut done = 0;
    while from.remaining() > 0 {
        let len = from.remaining().min(chunk.len());
        let taken = match from.take(&mut chunk[..len]) {
            Ok(taken) => taken,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        let (bytes, offset) = (&chunk[..taken], start + done as u64);
        let written = if appends {
            let iov = [rustix::io::IoSlice::new(bytes)];
            rustix::io::pwritev2(fd, &iov, offset, ReadWriteFlags::APPEND)
        } else {
            crate::host::pwrite(fd, bytes, offset)
        };
        match written {
            Ok(count) => {
                done += count;
                if count < len {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn attributes_of(fd: &OwnedFd) -> Result<Attributes> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    let raw = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, wanted)?;
    Ok(Attributes::from_host(&raw))
}

fn append(description: &Description) -> bool {
    description.flags() & libc::O_APPEND.cast_unsigned() != 0
}

impl File for HostFile {
    fn read(&self, description: &Description, to: &mut Buffer, at: Option<u64>) -> Result<usize> {
        if self.is_directory {
            return Err(Errno::EISDIR);
        }
        self.was_read();
        let mut position = at.is_none().then(|| description.position());
        let start = at.or(position.as_deref().copied()).unwrap_or_default();
        let done = if let Some(done) = to.read_file(self.fd.as_fd(), start) {
            done?
        } else if to.remaining() <= SMALL {
            read_by(&self.fd, &mut [0; SMALL], to, start)?
        } else {
            read_by(&self.fd, &mut vec![0; to.remaining().min(CHUNK)], to, start)?
        };
        if let Some(position) = &mut position {
            **position = start + done as u64;
        }
        Ok(done)
    }

    fn write(
        &self,
        description: &Description,
        from: &mut Buffer,
        at: Option<u64>,
    ) -> Result<usize> {
        if let Some(watch) = &self.watch {
            windows::written(watch.id());
        }
        let mut position = at.is_none().then(|| description.position());
        let start = at.or(position.as_deref().copied()).unwrap_or_default();
        let appends = append(description);
        let direct = (!appends).then(|| from.write_file(self.fd.as_fd(), start));
        let done = if let Some(done) = direct.flatten() {
            done?
        } else if from.remaining() <= SMALL {
            write_by(&self.fd, &mut [0; SMALL], from, start, appends)?
        } else {
            let chunk = &mut vec![0; from.remaining().min(CHUNK)];
            write_by(&self.fd, chunk, from, start, appends)?
        };
        if let Some(position) = &mut position {
            **position = if appends {
                rustix::fs::seek(&*self.fd, SeekFrom::End(0))?
            } else {
                start + done as u64
            };
        }
        Ok(done)
    }

    fn attributes(&self) -> Result<Attributes> {
        if let Some(known) = self.watch.as_ref().and_then(Watch::attributes) {
            return Ok(known);
        }
        let attributes = attributes_of(&self.fd)?;
        if let Some(watch) = &self.watch {
            watch.learn(&attributes);
        }
        Ok(attributes)
    }

    fn attributes_told(&self, trail: &Trail) -> Result<Attributes> {
        let known = self
            .watch
            .as_ref()
            .and_then(|watch| watch.attributes_told(trail));
        known.map_or_else(
            || {
                trail.leave();
                self.attributes()
            },
            Ok,
        )
    }

    fn identity(&self) -> Result<(u64, u64)> {
        match &self.watch {
            Some(watch) if watch.writes() => Ok(watch.id()),
            // An overlay gives a file another number when somebody else opens it for writing.
            _ => self.attributes().map(|attributes| attributes.id()),
        }
    }

    fn kind(&self) -> Result<u32> {
        Ok(if self.is_directory {
            libc::S_IFDIR
        } else {
            libc::S_IFREG
        })
    }

    fn seek(&self, description: &Description, offset: i64, whence: i32) -> Result<u64> {
        let mut position = description.position_to_seek();
        let new = if self.is_directory {
            seek_host(&self.fd, offset, whence)?
        } else {
            match whence {
                libc::SEEK_SET => offset,
                libc::SEEK_CUR => offset
                    .checked_add_unsigned(*position)
                    .ok_or(Errno::EINVAL)?,
                _ => {
                    return seek_host(&self.fd, offset, whence).map(|new| {
                        *position = new.cast_unsigned();
                        *position
                    });
                }
            }
        };
        *position = u64::try_from(new).map_err(|_| Errno::EINVAL)?;
        Ok(*position)
    }

    fn host(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    fn entries(
        &self,
        _cx: &mut Cx<'_>,
        description: &Description,
        room: usize,
    ) -> Result<Vec<Entry>> {
        if !self.is_directory {
            return Err(Errno::ENOTDIR);
        }
        self.was_read();
        let mut buffer = vec![MaybeUninit::uninit(); room.clamp(512, 64 << 10)];
        let mut position = description.position();
        let mut reader = RawDir::new(&*self.fd, &mut buffer);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if entries.is_empty() => return Err(error.into()),
                Err(_) => break,
            };
            entries.push(Entry {
                ino: entry.ino(),
                next: entry.next_entry_cookie().cast_signed(),
                kind: kind_of(entry.file_type()),
                name: entry.file_name().to_bytes().to_vec(),
            });
            if reader.is_buffer_empty() {
                break;
            }
        }
        *position = entries
            .last()
            .map_or(*position, |last| last.next.cast_unsigned());
        Ok(entries)
    }

    fn packed_entries(&self, description: &Description, room: usize) -> Option<Result<Vec<u8>>> {
        // Smaller buffers than the host's longest entry take the way that can give some back.
        (self.is_directory && room >= 512).then(|| self.pack(description, room))
    }

    fn is_stream(&self) -> bool {
        false
    }

    fn ioctl(
        &self,
        cx: &mut Cx<'_>,
        description: &Description,
        request: u32,
        argument: Address,
    ) -> Result<i64> {
        let attributes = self.attributes()?;
        super::host_ioctl::ioctl(cx, &self.fd, description, &attributes, request, argument)
    }

    fn flushed(&self, pid: i32) {
        if crate::kernel::locks::any()
            && let Ok(identity) = self.identity()
        {
            crate::kernel::locks::process_closed(identity, pid);
        }
    }
}

pub(super) fn seek_host(fd: &OwnedFd, offset: i64, whence: i32) -> Result<i64> {
    let start = || u64::try_from(offset).map_err(|_| Errno::EINVAL);
    let target = match whence {
        libc::SEEK_SET => SeekFrom::Start(start()?),
        libc::SEEK_CUR => SeekFrom::Current(offset),
        libc::SEEK_END => SeekFrom::End(offset),
        libc::SEEK_DATA => SeekFrom::Data(u64::try_from(offset).map_err(|_| Errno::ENXIO)?),
        libc::SEEK_HOLE => SeekFrom::Hole(u64::try_from(offset).map_err(|_| Errno::ENXIO)?),
        _ => return Err(Errno::EINVAL),
    };
    Ok(rustix::fs::seek(fd, target)?.cast_signed())
}

fn kind_of(kind: rustix::fs::FileType) -> u8 {
    use rustix::fs::FileType;
    match kind {
        FileType::RegularFile => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::Socket => libc::DT_SOCK,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::Unknown => libc::DT_UNKNOWN,
    }
}
