//! The file behind a block device.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vm_memory::VolatileSlice;

use crate::raw;

pub(super) const SECTOR: u64 = 512;
/// VIRTIO_BLK_ID_BYTES (§5.2.6).
pub(super) const ID_BYTES: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("Virtio backend error: Error manipulating the backing file: {source} {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("Virtio backend error: {}: neither a regular file nor a block device", path.display())]
    Kind { path: PathBuf },
}

/// A disk image or a host's block device.
#[derive(Debug)]
pub struct Disk {
    file: File,
    nr_sectors: u64,
    is_read_only: bool,
    id: [u8; ID_BYTES],
}

impl Disk {
    /// Opens `path`. Bytes behind its last whole sector are not part of the disk.
    ///
    /// # Errors
    /// If it cannot be opened, or is a pipe or a character device, which have no sectors.
    pub fn open(path: &Path, is_read_only: bool) -> Result<Disk, DiskError> {
        let failed = |source| DiskError::Open {
            path: path.to_owned(),
            source,
        };
        // Not blocking: a FIFO in the place of a disk must not hang the API.
        let file = OpenOptions::new()
            .read(true)
            .write(!is_read_only)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() && !metadata.file_type().is_block_device() {
            return Err(DiskError::Kind {
                path: path.to_owned(),
            });
        }
        // A block device's length is where its end is.
        let length = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(failed)?;
        // The identity only has to differ between disks; Firecracker's is made of the same three numbers.
        let mut id = [0; ID_BYTES];
        let name = format!("{}{}{}", metadata.dev(), metadata.rdev(), metadata.ino());
        id.iter_mut()
            .zip(name.bytes())
            .for_each(|(to, from)| *to = from);
        Ok(Disk {
            file,
            nr_sectors: length / SECTOR,
            is_read_only,
            id,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    pub(super) fn nr_sectors(&self) -> u64 {
        self.nr_sectors
    }

    pub(super) fn id(&self) -> &[u8; ID_BYTES] {
        &self.id
    }

    /// Where `length` bytes from `sector` on start in the file, if they lie on the disk and are whole sectors.
    pub(super) fn place(&self, sector: u64, length: usize) -> Option<u64> {
        let length = u64::try_from(length).ok()?;
        let end = sector.checked_add(length / SECTOR)?;
        (length.is_multiple_of(SECTOR) && end <= self.nr_sectors).then_some(sector * SECTOR)
    }

    /// Reads whole slices. A file that was cut off meanwhile reads as an error.
    pub(super) fn read(&self, mut offset: u64, slices: &[VolatileSlice<'_, ()>]) -> io::Result<()> {
        transfer(slices, |slice| {
            let done = raw::read_at(&self.file, offset, slice)?;
            offset += done as u64;
            Ok(done)
        })
    }

    pub(super) fn write(
        &self,
        mut offset: u64,
        slices: &[VolatileSlice<'_, ()>],
    ) -> io::Result<()> {
        transfer(slices, |slice| {
            let done = raw::write_at(&self.file, offset, slice)?;
            offset += done as u64;
            Ok(done)
        })
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Repeats `step` on what is left of each slice.
fn transfer(
    slices: &[VolatileSlice<'_, ()>],
    mut step: impl FnMut(&VolatileSlice<'_, ()>) -> io::Result<usize>,
) -> io::Result<()> {
    for slice in slices {
        let mut done = 0;
        while done < slice.len() {
            let rest = slice.offset(done).map_err(io::Error::other)?;
            match step(&rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => done += more,
                // A pause's signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
