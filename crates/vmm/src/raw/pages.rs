//! Which pages of guest memory were written, and who serves those that are missing: PAGEMAP_SCAN and userfaultfd(2).
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Mutex;

use vm_memory::VolatileSlice;

use super::check;
use crate::devices::lock;

const PAGE: usize = 4096;

/// Takes the pages of our own code and constants out of this process's page tables. What the start needed stays away; the rest comes back when it is
/// next run, sixteen pages at a fault (fault_around_bytes), for a microsecond or two each.
pub(crate) fn release_code() {
    unsafe extern "C" {
        // The linker's: the first byte of the executable, and the first behind its code.
        safe static __executable_start: u8;
        safe static etext: u8;
    }
    let start = (&raw const __executable_start)
        .addr()
        .next_multiple_of(PAGE);
    let end = (&raw const etext).addr() / PAGE * PAGE;
    // SAFETY: from the start to the end of the code, no segment is writable (the linker puts those behind it) and none is relocated
    // (relocation-model=static), so every page is the file's, and reads the same when it comes back. Nothing depends on it: errors are none.
    unsafe {
        libc::madvise(
            ptr::with_exposed_provenance_mut(start),
            end.saturating_sub(start),
            libc::MADV_DONTNEED,
        );
    }
}

/// Which pages [`scan`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Those that have a content of their own: written since the mapping was made, or read from a handler of page faults.
    Own,
    /// Those written since the last scan of this kind, or since `Tracker::add`; they are protected anew.
    Written,
}

/// The page tables of the process that opened them, and which that was.
static KEPT: Mutex<Option<(u32, File)>> = Mutex::new(None);

/// Opens this process's page tables, for when there is no /proc any more.
pub(crate) fn keep_pagemap() {
    let kept = File::open("/proc/self/pagemap").ok();
    *lock(&KEPT) = kept.map(|file| (std::process::id(), file));
}

/// This process's page tables. A forked child's are others than those that its parent kept, and in a jail it has none.
fn pagemap() -> Option<File> {
    let mut kept = lock(&KEPT);
    match kept.as_ref() {
        Some((owner, file)) if *owner == std::process::id() => file.try_clone().ok(),
        Some(_) => {
            // Its number may be another file's by now: the child has closed what was its parent's.
            std::mem::forget(kept.take());
            None
        }
        None => File::open("/proc/self/pagemap").ok(),
    }
}

/// Runs of pages of a region, as (offset, length); none where the page tables cannot be read. PAGEMAP_SCAN: Linux 6.7, Documentation/admin-guide/mm/pagemap.rst.
pub(crate) fn scan(
    region: &VolatileSlice<'_, ()>,
    pages: Pages,
) -> io::Result<Option<Vec<(usize, usize)>>> {
    const WP_MATCHING: u64 = 1;
    const WRITTEN: u64 = 1 << 1;
    const FILE: u64 = 1 << 2;
    const PRESENT: u64 = 1 << 3;
    const SWAPPED: u64 = 1 << 4;
    const ZERO_PAGE: u64 = 1 << 5;
    const BATCH: usize = 512;
    let Some(pagemap) = pagemap() else {
        return Ok(None);
    };
    let guard = region.ptr_guard();
    let base = guard.as_ptr() as u64;
    let end = base + region.len() as u64;
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut start = base;
    while start < end {
        let mut batch = [PageRegion::default(); BATCH];
        let mut scan = PageScan {
            size: size_of::<PageScan>() as u64,
            start,
            end,
            regions: batch.as_mut_ptr() as u64,
            nr_regions: BATCH as u64,
            return_mask: FILE,
            ..PageScan::default()
        };
        match pages {
            Pages::Written => (scan.flags, scan.mask) = (WP_MATCHING, WRITTEN),
            // Neither the file's own pages nor the page of zeroes: a page that was only read.
            Pages::Own => {
                scan.inverted = FILE | ZERO_PAGE;
                scan.mask = FILE | ZERO_PAGE;
                scan.any_of = PRESENT | SWAPPED;
            }
        }
        // SAFETY: the kernel fills at most `nr_regions` entries of `batch`, which lives on. Write protection by WP_MATCHING is the
        // asynchronous one of `Tracker`: the kernel takes it off itself at the next write, nothing waits.
        let count = unsafe {
            libc::syscall(
                libc::SYS_ioctl,
                pagemap.as_raw_fd(),
                PAGEMAP_SCAN,
                &raw mut scan,
            )
        };
        match check(count) {
            // Linux before 6.7, as Debian 12's.
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => return Ok(None),
            result => result?,
        }
        for run in batch.iter().take(usize::try_from(count).unwrap_or(0)) {
            let (from, to) = (run.start - base, run.end - base);
            let from = usize::try_from(from).map_err(io::Error::other)?;
            let length = usize::try_from(to).map_err(io::Error::other)? - from;
            match found.last_mut() {
                Some(last) if last.0 + last.1 == from => last.1 += length,
                _ => found.push((from, length)),
            }
        }
        // Zero would mean no progress; the kernel always walks on.
        start = scan.walk_end.max(start + 1);
    }
    Ok(Some(found))
}

// By syscall(2), this and those below: glibc's ioctl(3) takes the request as an unsigned long, musl's as an int.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct PageScan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    nr_regions: u64,
    max_pages: u64,
    inverted: u64,
    mask: u64,
    any_of: u64,
    return_mask: u64,
}

/// A userfaultfd(2) object: serves missing pages from another process, or notes which pages are written.
#[derive(Debug)]
pub(crate) struct FaultFd(OwnedFd);

const UFFD_API: u64 = 0xaa;
const USERFAULTFD_IOC_NEW: u64 = 0xaa00;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;
/// UFFD_FEATURE_EVENT_REMOVE: the handler hears of pages that the balloon gave back.
const EVENT_REMOVE: u64 = 1 << 3;
/// UFFD_FEATURE_WP_ASYNC (Linux 6.7): the kernel notes the write and lets it go on.
const WP_ASYNC: u64 = 1 << 15;
const MISSING: u64 = 1;
const WRITE_PROTECT: u64 = 2;

impl FaultFd {
    /// For a handler in another process.
    pub(crate) fn for_missing_pages() -> io::Result<FaultFd> {
        FaultFd::open(EVENT_REMOVE)
    }

    /// For noting writes.
    pub(crate) fn for_writes() -> io::Result<FaultFd> {
        FaultFd::open(WP_ASYNC)
    }

    fn open(features: u64) -> io::Result<FaultFd> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // By the device first: its owner may use it without capabilities, for faults inside of KVM too (userfaultfd(2)).
        let made = match File::open("/dev/userfaultfd") {
            // SAFETY: no memory is passed.
            Ok(device) => unsafe {
                libc::syscall(
                    libc::SYS_ioctl,
                    device.as_raw_fd(),
                    USERFAULTFD_IOC_NEW,
                    flags,
                )
            },
            // SAFETY: no memory is passed.
            Err(_) => unsafe { libc::syscall(libc::SYS_userfaultfd, flags) },
        };
        check(made)?;
        let fd = i32::try_from(made).map_err(io::Error::other)?;
        // SAFETY: the descriptor is new and ours.
        let fd = FaultFd(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut request = [UFFD_API, features, 0];
        fd.request(UFFDIO_API, &mut request)?;
        Ok(fd)
    }

    /// Has the handler asked for every page of the region that is not there yet.
    pub(crate) fn serve_missing(&self, region: &VolatileSlice<'_, ()>) -> io::Result<()> {
        self.register(region, MISSING)
    }

    /// Notes writes to the region from now on.
    pub(crate) fn note_writes(&self, region: &VolatileSlice<'_, ()>) -> io::Result<()> {
        self.register(region, WRITE_PROTECT)?;
        let guard = region.ptr_guard();
        let mut request = [guard.as_ptr() as u64, region.len() as u64, 1];
        self.request(UFFDIO_WRITEPROTECT, &mut request)
    }

    fn register(&self, region: &VolatileSlice<'_, ()>, mode: u64) -> io::Result<()> {
        let guard = region.ptr_guard();
        let mut request = [guard.as_ptr() as u64, region.len() as u64, mode, 0];
        self.request(UFFDIO_REGISTER, &mut request)
    }

    fn request(&self, number: u64, words: &mut [u64]) -> io::Result<()> {
        // SAFETY: each number above carries the size of its structure, which is the number of words that its caller passes. A region
        // stays mapped for as long as this monitor lives; guest memory is only ever touched by volatile and atomic accesses, so a fault
        // that another process serves is no more than a slow access.
        check(unsafe {
            libc::syscall(
                libc::SYS_ioctl,
                self.0.as_raw_fd(),
                number,
                words.as_mut_ptr(),
            )
        })
    }
}

/// Whether the kernel can note writes.
pub(crate) fn notes_writes() -> bool {
    FaultFd::for_writes().is_ok()
}

impl AsFd for FaultFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
