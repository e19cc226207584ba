//! Guest memory out of and into a file.
//!
//! Which pages are written: the kernel's page tables know (PAGEMAP_SCAN). They see what the guest writes and what our devices write alike,
//! where KVM's dirty log sees only the guest, and cost nothing until they are asked.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap,
    MemoryRegionAddress, MmapRegion, VolatileSlice,
};

use super::file;
use super::pending::{Pending, remove};
use super::{Saved, file::FileError};
use crate::Memory;
use crate::machine::{Extent, layout};
use crate::raw::{self, FaultFd, Pages};

const PAGE: usize = 4096;

/// How the pages of a machine come and are watched.
#[derive(Debug, Default)]
pub(crate) struct Paging {
    /// Another process serves them. Kept open: were it closed and the handler gone, missing pages would read as zeroes.
    pub(crate) handler: Option<FaultFd>,
    /// The client wants diff snapshots of what changed since the last one.
    pub(crate) tracks: bool,
    /// Notes writes since the last snapshot; there from the first one on.
    tracker: Option<FaultFd>,
}

/// Writes a snapshot of `saved` and `memory`. Up to the last step there is either no state file at its path or, after a failure before
/// the first, the earlier snapshot: never a state file with the memory of another.
pub(crate) fn write(
    saved: &Saved,
    memory: &Memory,
    paging: &mut Paging,
    is_full: bool,
    state_path: &Path,
    memory_path: &Path,
) -> Result<(), FileError> {
    let mut state = Pending::create(state_path)?;
    let mut content = Pending::create(memory_path)?;
    file::write(state.file(), saved)?;
    write_memory(content.file(), memory, paging, is_full)?;
    state.finish()?;
    content.finish()?;
    remove(state_path)?;
    content.publish()?;
    state.publish()?;
    Ok(())
}

fn write_memory(
    file: &File,
    memory: &Memory,
    paging: &mut Paging,
    is_full: bool,
) -> io::Result<()> {
    let total: u64 = memory.iter().map(GuestMemoryRegion::len).sum();
    file.set_len(total)?;
    let mut offset = 0;
    for region in memory.iter() {
        let slice = whole(region)?;
        if is_full {
            write_full(file, offset, region, &slice, paging.handler.is_some())?;
        } else {
            let pages = if paging.tracker.is_some() {
                Pages::Written
            } else {
                Pages::Own
            };
            // Where the page tables cannot be read, every page counts: right, and larger.
            let runs = raw::scan(&slice, pages)?.unwrap_or_else(|| vec![(0, slice.len())]);
            write_runs(file, offset, &slice, &runs)?;
        }
        offset += region.len();
    }
    begin_anew(memory, paging, is_full)
}

/// What is written from now on belongs to the next diff.
fn begin_anew(memory: &Memory, paging: &mut Paging, is_full: bool) -> io::Result<()> {
    if paging.tracker.is_some() {
        if is_full {
            for region in memory.iter() {
                raw::scan(&whole(region)?, Pages::Written)?;
            }
        }
    } else if paging.tracks && paging.handler.is_none() {
        // Pages of a handler belong to its userfaultfd, and a mapping has only one: there each diff holds all pages that ever came.
        let tracker = FaultFd::for_writes()?;
        for region in memory.iter() {
            tracker.note_writes(&whole(region)?)?;
        }
        paging.tracker = Some(tracker);
    }
    Ok(())
}

fn write_full(
    file: &File,
    offset: u64,
    region: &GuestRegionMmap<()>,
    slice: &VolatileSlice<'_, ()>,
    is_served: bool,
) -> io::Result<()> {
    if is_served {
        // Only the handler knows the rest: ask for all.
        return write_runs(file, offset, slice, &[(0, slice.len())]);
    }
    if let Some(base) = region.file_offset() {
        copy_data(base.file(), base.start(), file, offset, region.len())?;
    }
    match raw::scan(slice, Pages::Own)? {
        Some(runs) => write_runs(file, offset, slice, &runs),
        None if region.file_offset().is_some() => {
            write_runs(file, offset, slice, &[(0, slice.len())])
        }
        None => write_runs(file, offset, slice, &not_zero(slice)?),
    }
}

/// Runs of pages with something in them, by looking: what a full snapshot needs to hold, since the file starts as one hole.
fn not_zero(slice: &VolatileSlice<'_, ()>) -> io::Result<Vec<(usize, usize)>> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut page = [0_u64; PAGE / 8];
    for start in (0..slice.len()).step_by(PAGE) {
        slice
            .subslice(start, PAGE)
            .map_err(io::Error::other)?
            .copy_to(&mut page);
        match runs.last_mut() {
            _ if page.iter().all(|word| *word == 0) => {}
            Some(last) if last.0 + last.1 == start => last.1 += PAGE,
            _ => runs.push((start, PAGE)),
        }
    }
    Ok(runs)
}

fn write_runs(
    file: &File,
    offset: u64,
    slice: &VolatileSlice<'_, ()>,
    runs: &[(usize, usize)],
) -> io::Result<()> {
    for (start, length) in runs {
        let mut done = 0;
        while done < *length {
            let rest = slice
                .subslice(start + done, length - done)
                .map_err(io::Error::other)?;
            match raw::write_at(file, offset + (start + done) as u64, &rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => done += more,
            }
        }
    }
    Ok(())
}

/// Copies what is no hole: shared extents where the file system has them, else inside the kernel.
fn copy_data(from: &File, start: u64, to: &File, offset: u64, length: u64) -> io::Result<()> {
    let end = start + length;
    let mut at = start;
    while at < end {
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) if data < end => data,
            Ok(_) | Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let hole = seek(from, SeekFrom::Hole(data))?.min(end);
        copy_range(from, data, to, offset + (data - start), hole - data)?;
        at = hole;
    }
    Ok(())
}

fn copy_range(
    from: &File,
    mut start: u64,
    to: &File,
    mut offset: u64,
    length: u64,
) -> io::Result<()> {
    let end = start + length;
    while start < end {
        let want = usize::try_from(end - start).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut start), to, Some(&mut offset), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // Between file systems that cannot.
            Err(rustix::io::Errno::XDEV | rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                let mut buffer = vec![0; want.min(1 << 20)];
                from.read_exact_at(&mut buffer, start)?;
                to.write_all_at(&buffer, offset)?;
                start += buffer.len() as u64;
                offset += buffer.len() as u64;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Maps a memory file privately: pages come in when they are touched, and the file stays as it is.
pub(crate) fn map_file(path: &Path, extent: Extent) -> io::Result<Arc<Memory>> {
    let size = extent.total();
    let file = Arc::new(file::open(path)?);
    let found = file.metadata()?.len();
    if found != size {
        // A shorter file would kill the monitor where it ends (SIGBUS).
        return Err(io::Error::other(format!(
            "it has {found} bytes; the machine's memory has {size}"
        )));
    }
    let mut offset = 0;
    map(extent, |length| {
        let place = FileOffset::from_arc(Arc::clone(&file), offset);
        offset += length as u64;
        Some(place)
    })
}

/// Memory that a handler of page faults fills.
pub(crate) fn map_empty(extent: Extent) -> io::Result<Arc<Memory>> {
    map(extent, |_| None)
}

fn map(
    extent: Extent,
    mut place: impl FnMut(usize) -> Option<FileOffset>,
) -> io::Result<Arc<Memory>> {
    let region = |(address, length): (GuestAddress, usize)| {
        let place = place(length);
        let kind = if place.is_some() {
            0
        } else {
            libc::MAP_ANONYMOUS
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE | kind;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let mapping = MmapRegion::build(place, length, access, flags).map_err(io::Error::other)?;
        GuestRegionMmap::new(mapping, address)
            .ok_or_else(|| io::Error::other("the memory is too large"))
    };
    let regions = layout::regions(extent)
        .into_iter()
        .map(region)
        .collect::<io::Result<Vec<_>>>()?;
    let memory = Memory::from_regions(regions).map_err(io::Error::other)?;
    Ok(Arc::new(memory))
}

/// All of a region.
pub(crate) fn whole(region: &GuestRegionMmap<()>) -> io::Result<VolatileSlice<'_, ()>> {
    let length = usize::try_from(region.len()).map_err(io::Error::other)?;
    region
        .get_slice(MemoryRegionAddress(0), length)
        .map_err(io::Error::other)
}
