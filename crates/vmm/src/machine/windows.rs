//! Guest memory that devices bring with them, behind the RAM: files (pmem) and memory that is plugged in later.
use std::sync::Arc;

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use crate::machine::{MachineError, layout};
use crate::raw::MappedVm;
use crate::virtio::Device;

/// Gives every such device its place. The same devices get the same places, so that a copy's are where the original's were.
pub(super) fn place(
    devices: &mut [Box<dyn Device>],
    vm: &Arc<MappedVm>,
) -> Result<(), MachineError> {
    let memory = vm.memory();
    let mut next = layout::behind(memory.last_addr().0 + 1);
    for device in devices {
        if device.hotplug().is_some() {
            // Its region is the last one: see `layout::regions`.
            let region = memory.iter().last().map(GuestMemoryRegion::start_addr);
            device.place(region.map_or(0, |address| address.0));
            device.attach_vm(vm);
        }
        if let Some(window) = device.window().cloned() {
            let length = window.len() as u64;
            vm.show_window(window, next)
                .map_err(|source| MachineError::Kvm {
                    call: "KVM_SET_USER_MEMORY_REGION",
                    source,
                })?;
            device.place(next);
            next = layout::behind(next + length);
        }
    }
    Ok(())
}
