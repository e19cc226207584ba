//! Memory slots that come while a machine exists.
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::{MappedVm, Window};

/// Slots of plugged memory have numbers of their own, above those of RAM and windows.
const FIRST_PLUGGED: u32 = 1024;

impl MappedVm {
    /// Shows a file to the guest at `address`, for as long as the machine exists.
    pub(crate) fn show_window(&self, window: Arc<Window>, address: u64) -> io::Result<()> {
        let flags = if window.is_read_only() {
            KVM_MEM_READONLY
        } else {
            0
        };
        let description = kvm_userspace_memory_region {
            slot: self.next_slot.fetch_add(1, Ordering::Relaxed),
            guest_phys_addr: address,
            memory_size: window.len() as u64,
            userspace_addr: window.start() as u64,
            flags,
        };
        // Before KVM knows of it, so that no failure in between can unmap what the guest sees.
        super::lock(&self.windows).push(window);
        // SAFETY: (1) start and length are one whole mapping, which the Arc in `self.windows` keeps as long as `self.vm`, and virtual CPUs
        // hold an Arc of neither less; (2) a guest range that is taken already is refused by KVM; (3) nobody else refers to the mapping.
        unsafe { self.vm.set_user_memory_region(description) }.map_err(io::Error::from)
    }

    /// Shows slot `number` of the memory that is plugged in while the guest runs: `length` bytes at `address`, of a region of the memory.
    pub(crate) fn show(&self, number: u64, address: u64, length: u64) -> io::Result<()> {
        let size = usize::try_from(length).map_err(io::Error::other)?;
        let slice = self
            .memory
            .get_slice(GuestAddress(address), size)
            .map_err(io::Error::other)?;
        let description = kvm_userspace_memory_region {
            slot: slot(number)?,
            guest_phys_addr: address,
            memory_size: length,
            userspace_addr: slice.ptr_guard().as_ptr() as u64,
            flags: 0,
        };
        // SAFETY: (1) `get_slice` found the whole range in one mapping of `self.memory`, which lives as long as `self.vm`; (2) KVM refuses
        // ranges that are taken; (3) the guest shares guest memory anyway.
        unsafe { self.vm.set_user_memory_region(description) }.map_err(io::Error::from)
    }

    /// Takes slot `number` away again.
    pub(crate) fn hide(&self, number: u64) -> io::Result<()> {
        let description = kvm_userspace_memory_region {
            slot: slot(number)?,
            ..kvm_userspace_memory_region::default()
        };
        // SAFETY: a size of zero removes a slot; KVM maps less than before.
        unsafe { self.vm.set_user_memory_region(description) }.map_err(io::Error::from)
    }
}

fn slot(number: u64) -> io::Result<u32> {
    u32::try_from(number)
        .ok()
        .and_then(|number| number.checked_add(FIRST_PLUGGED))
        .ok_or_else(|| io::Error::other("no such slot"))
}
