//! A file of the host that a guest sees as memory.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Windows start and end on borders of this size, as Linux wants it of device memory.
pub(crate) const ALIGNMENT: usize = 2 << 20;

/// The mapping of a whole file, padded with zeroes up to the alignment.
#[derive(Debug)]
pub struct Window {
    file: File,
    start: usize,
    length: usize,
    is_read_only: bool,
}

impl Window {
    pub(crate) fn open(path: &Path, is_read_only: bool) -> io::Result<Window> {
        let file = OpenOptions::new()
            .read(true)
            .write(!is_read_only)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
            .open(path)?;
        let metadata = file.metadata()?;
        let size = usize::try_from(metadata.len()).map_err(io::Error::other)?;
        if !metadata.is_file() || size == 0 {
            return Err(io::Error::other("not a regular file with something in it"));
        }
        let length = size
            .checked_next_multiple_of(ALIGNMENT)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let access = if is_read_only {
            libc::PROT_READ
        } else {
            libc::PROT_READ | libc::PROT_WRITE
        };
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping where the kernel likes; nothing else can lie there.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let window = Window {
            file,
            start: start as usize,
            length,
            is_read_only,
        };
        let fixed = libc::MAP_SHARED | libc::MAP_FIXED;
        let fd = window.file.as_raw_fd();
        // SAFETY: replaces the first `size` bytes of the mapping made above, of which nobody else knows yet.
        let placed = unsafe { libc::mmap(start, size, access, fixed, fd, 0) };
        if placed == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(window)
    }

    pub(crate) fn start(&self) -> usize {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Writes what the guest changed to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.is_read_only {
            return Ok(());
        }
        // SAFETY: the range is this window's own mapping; the call reads no memory of ours.
        let result = unsafe { libc::msync(self.start as *mut _, self.length, libc::MS_SYNC) };
        if result == 0 {
            self.file.sync_data()
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the mapping is this window's own, and whoever shows it to a guest holds an Arc of it (`MappedVm`).
        unsafe { libc::munmap(self.start as *mut _, self.length) };
    }
}
