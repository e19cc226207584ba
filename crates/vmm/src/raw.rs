//! The monitor's only unsafe code: memory slots of a virtual machine, file transfers straight into guest memory, tap interfaces.
#![expect(unsafe_code, reason = "KVM maps our memory; the guest shares it")]

mod tap;
mod transfers;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, VolatileSlice};

use crate::Memory;
pub(crate) use tap::{HEADER as TAP_HEADER, Tap};
pub(crate) use transfers::Transfers;

/// A virtual machine and the memory KVM maps for it.
///
/// `vm` may not leave this type: the memory has to live as long as it. Virtual CPUs keep the machine alive too, so whoever runs
/// one holds an `Arc` of the memory (see `machine/vcpu.rs`).
#[derive(Debug)]
pub(crate) struct MappedVm {
    vm: VmFd,
    _memory: Arc<Memory>,
}

impl MappedVm {
    /// Gives every region of `memory` to `vm`, one slot each.
    pub(crate) fn new(vm: VmFd, memory: Arc<Memory>) -> io::Result<MappedVm> {
        for (slot, region) in memory.iter().enumerate() {
            let slot = u32::try_from(slot).map_err(io::Error::other)?;
            let address = region
                .get_host_address(vm_memory::MemoryRegionAddress(0))
                .map_err(io::Error::other)?;
            let description = kvm_userspace_memory_region {
                slot,
                guest_phys_addr: vm_memory::GuestMemoryRegion::start_addr(region).0,
                memory_size: region.len(),
                userspace_addr: address as u64,
                flags: 0,
            };
            // SAFETY: (1) address and length are one whole mapping owned by `memory`; (2) `memory` outlives `vm`, because both are
            // fields of this type and virtual CPUs hold an Arc of it; (3) slots and guest ranges do not overlap, as vm-memory sorted them.
            unsafe { vm.set_user_memory_region(description) }.map_err(io::Error::from)?;
        }
        Ok(MappedVm {
            vm,
            _memory: memory,
        })
    }

    pub(crate) fn vm(&self) -> &VmFd {
        &self.vm
    }
}

/// pread(2) into guest memory: no copy of ours, no reference to shared bytes. Returns how many were read.
pub(crate) fn read_at(file: &File, offset: u64, into: &VolatileSlice<'_, ()>) -> io::Result<usize> {
    let guard = into.ptr_guard_mut();
    // SAFETY: the guard keeps `into.len()` writable bytes mapped; the kernel is the one that writes, so a racing guest is no data race of ours.
    let done = unsafe {
        libc::pread64(
            file.as_raw_fd(),
            guard.as_ptr().cast(),
            into.len(),
            signed(offset)?,
        )
    };
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// pwrite(2) from guest memory. Returns how many bytes were written.
pub(crate) fn write_at(
    file: &File,
    offset: u64,
    from: &VolatileSlice<'_, ()>,
) -> io::Result<usize> {
    let guard = from.ptr_guard();
    // SAFETY: the guard keeps `from.len()` readable bytes mapped; the kernel is the one that reads.
    let done = unsafe {
        libc::pwrite64(
            file.as_raw_fd(),
            guard.as_ptr().cast(),
            from.len(),
            signed(offset)?,
        )
    };
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// Fills guest memory from the host's generator. Returns how many bytes it gave.
pub(crate) fn fill_random(into: &VolatileSlice<'_, ()>) -> io::Result<usize> {
    let guard = into.ptr_guard_mut();
    // SAFETY: as in `read_at`.
    let done = unsafe { libc::getrandom(guard.as_ptr().cast(), into.len(), 0) };
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// Gives the pages behind `pages` back to the host; the guest reads zeroes there afterwards.
pub(crate) fn discard(pages: &VolatileSlice<'_, ()>) -> io::Result<()> {
    let guard = pages.ptr_guard_mut();
    // SAFETY: the range lies in one private anonymous mapping of guest memory, of which no Rust reference exists.
    let result = unsafe { libc::madvise(guard.as_ptr().cast(), pages.len(), libc::MADV_DONTNEED) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}
