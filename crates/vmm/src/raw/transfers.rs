//! Transfers between files and guest memory that nobody waits for: io_uring.
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use io_uring::{IoUring, opcode, types};
use rustix::event::{EventfdFlags, eventfd};
use vm_memory::VolatileSlice;

use crate::Memory;

/// struct iovec; with a number for its pointer, a device that holds it can go from thread to thread.
#[repr(C)]
struct Piece {
    base: usize,
    length: usize,
}

/// A ring of transfers. Each carries a number of the caller's, which comes back with its result.
pub(crate) struct Transfers {
    ring: IoUring,
    /// Written when a transfer ends after `submit` has returned.
    ended: OwnedFd,
    /// Kept for as long as the kernel may write to it.
    memory: Arc<Memory>,
    in_flight: u32,
    entries: u32,
    /// What entries that are not submitted yet point to.
    vectors: Vec<Box<[Piece]>>,
}

impl Transfers {
    /// A ring for `entries` transfers at once.
    ///
    /// Fails where the kernel has no io_uring, or forbids it (kernel.io_uring_disabled, seccomp).
    pub(crate) fn new(memory: Arc<Memory>, entries: u32) -> io::Result<Transfers> {
        let ring = IoUring::new(entries)?;
        if !ring.params().is_feature_submit_stable() {
            // Linux before 5.5 reads vectors after the submission.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let ended = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        // What ends within the submission, as a read from the page cache does, is seen by who submits and needs no event.
        ring.submitter().register_eventfd_async(ended.as_raw_fd())?;
        Ok(Transfers {
            ring,
            ended,
            memory,
            in_flight: 0,
            entries,
            vectors: Vec::new(),
        })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.in_flight >= self.entries
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Reads into the slices that `find` takes from the guest's memory.
    pub(crate) fn read<E>(
        &mut self,
        file: &File,
        offset: u64,
        number: u64,
        find: impl for<'a> FnOnce(&'a Memory) -> Result<Vec<VolatileSlice<'a, ()>>, E>,
    ) -> Result<(), E> {
        let vector = vector(&find(&self.memory)?);
        let (file, pointer, count) = place(file, &vector);
        let entry = opcode::Readv::new(file, pointer, count).offset(offset);
        self.push(entry.build().user_data(number), Some(vector));
        Ok(())
    }

    /// As `read`, in the other direction.
    pub(crate) fn write<E>(
        &mut self,
        file: &File,
        offset: u64,
        number: u64,
        find: impl for<'a> FnOnce(&'a Memory) -> Result<Vec<VolatileSlice<'a, ()>>, E>,
    ) -> Result<(), E> {
        let vector = vector(&find(&self.memory)?);
        let (file, pointer, count) = place(file, &vector);
        let entry = opcode::Writev::new(file, pointer, count).offset(offset);
        self.push(entry.build().user_data(number), Some(vector));
        Ok(())
    }

    /// fdatasync(2).
    pub(crate) fn flush(&mut self, file: &File, number: u64) {
        let entry = opcode::Fsync::new(types::Fd(file.as_raw_fd()));
        let entry = entry.flags(types::FsyncFlags::DATASYNC);
        self.push(entry.build().user_data(number), None);
    }

    fn push(&mut self, entry: io_uring::squeue::Entry, vector: Option<Box<[Piece]>>) {
        debug_assert!(!self.is_full());
        // SAFETY: (1) the vector, if there is one, lives in `self.vectors` until the entry is submitted, after which the kernel has its own
        // copy (submit_stable, checked in `new`); (2) its slices are of `self.memory`, because `find` knows no other, and that lives until
        // `drop` has waited for every transfer; (3) the guest shares that memory, so no Rust reference to it exists.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        // There is room: the queue has as many places as transfers may be under way.
        if pushed.is_ok() {
            self.vectors.extend(vector);
            self.in_flight += 1;
        }
    }

    /// Hands everything new to the kernel.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        loop {
            match self.ring.submit() {
                Ok(_) if self.ring.submission().is_empty() => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.vectors.clear();
        Ok(())
    }

    /// The numbers and results of transfers that have ended: bytes, or a negated error number.
    pub(crate) fn take_ended(&mut self) -> Vec<(u64, i32)> {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.ended, &mut count);
        let ended: Vec<_> = self
            .ring
            .completion()
            .map(|entry| (entry.user_data(), entry.result()))
            .collect();
        let done = u32::try_from(ended.len()).unwrap_or(u32::MAX);
        self.in_flight = self.in_flight.saturating_sub(done);
        ended
    }

    /// Waits until one transfer has ended.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => {
                if self.ring.submission().is_empty() {
                    self.vectors.clear();
                }
                Ok(())
            }
        }
    }
}

impl AsFd for Transfers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // The kernel writes to the guest's memory until the last transfer has ended.
        while self.in_flight > 0 && self.wait().is_ok() {
            self.take_ended();
        }
        if self.in_flight > 0 {
            // Nothing tells when the kernel is done: the memory stays for ever.
            std::mem::forget(Arc::clone(&self.memory));
        }
    }
}

impl std::fmt::Debug for Transfers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Transfers")
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

/// What an entry of the ring is told of a vector.
fn place(file: &File, vector: &[Piece]) -> (types::Fd, *const libc::iovec, u32) {
    let count = u32::try_from(vector.len()).unwrap_or(u32::MAX);
    (types::Fd(file.as_raw_fd()), vector.as_ptr().cast(), count)
}

fn vector(slices: &[VolatileSlice<'_, ()>]) -> Box<[Piece]> {
    slices
        .iter()
        .map(|slice| Piece {
            base: slice.ptr_guard_mut().as_ptr() as usize,
            length: slice.len(),
        })
        .collect()
}
