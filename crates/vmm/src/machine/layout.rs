//! Where things lie in the guest's physical address space. The numbers are those that Firecracker's guests already know.
use vm_memory::GuestAddress;

/// Global descriptor table; the interrupt table behind it is empty.
pub(crate) const GDT: u64 = 0x500;
pub(crate) const IDT: u64 = 0x530;
/// PVH start information and, behind it, module list and memory map.
pub(crate) const PVH_INFO: u64 = 0x6000;
/// Linux's `boot_params`.
pub(crate) const ZERO_PAGE: u64 = 0x7000;
pub(crate) const BOOT_STACK: u64 = 0x8ff0;
/// Page tables: one page each.
pub(crate) const PML4: u64 = 0x9000;
pub(crate) const PDPT: u64 = 0xa000;
pub(crate) const PD: u64 = 0xb000;
pub(crate) const PD_DEVICES: u64 = 0xc000;
pub(crate) const COMMAND_LINE: GuestAddress = GuestAddress(0x20000);
pub(crate) const COMMAND_LINE_MAX: usize = 2048;
/// End of the conventional memory; system tables follow up to 640 KiB, ACPI tables at `RSDP`.
pub(crate) const LOW_RAM_END: u64 = 0x9_fc00;
/// In the BIOS area, where a guest without a pointer to it searches (ACPI 6.5 §5.2.5.1).
pub(crate) const RSDP: u64 = 0xe_0000;
pub(crate) const ACPI_END: u64 = 0xf_f000;
/// The generation id of `machine/generation.rs`, in a page of its own that no guest takes for memory.
pub(crate) const GENERATION: GuestAddress = GuestAddress(0xf_f000);
pub(crate) const HIGH_RAM: GuestAddress = GuestAddress(0x10_0000);

/// 3 GiB to 4 GiB holds devices; memory that does not fit below continues at 4 GiB.
pub(crate) const MMIO_START: u64 = 0xc000_0000;
pub(crate) const MMIO_END: u64 = 1 << 32;
pub(crate) const BOOT_TIMER: u64 = MMIO_START;
pub(crate) const VIRTIO_START: u64 = MMIO_START + 0x1000;
pub(crate) const VIRTIO_LEN: u64 = 0x1000;
pub(crate) const IOAPIC: u32 = 0xfec0_0000;
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages KVM wants on Intel processors without unrestricted guest mode.
pub(crate) const KVM_TSS: usize = 0xfffb_d000;

/// Interrupt lines of the I/O APIC that virtio devices take.
pub(crate) const FIRST_IRQ: u32 = 5;
pub(crate) const LAST_IRQ: u32 = 23;
pub(crate) const GENERATION_IRQ: u32 = 3;
pub(crate) const SERIAL_IRQ: u32 = 4;
pub(crate) const KEYBOARD_IRQ: u32 = 1;

/// How much memory a machine has, and how much it can get. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) ram: u64,
    pub(crate) hotplug: u64,
}

impl Extent {
    pub(crate) fn total(self) -> u64 {
        self.ram + self.hotplug
    }
}

/// Linux plugs memory, and takes that of devices, in sections of this size on x86.
const SECTION: u64 = 128 << 20;

/// The first place behind `end` for memory that is no RAM from the start: above 4 GiB.
pub(crate) fn behind(end: u64) -> u64 {
    end.max(MMIO_END).next_multiple_of(SECTION)
}

/// The guest's memory as (start, length) pairs. What can be plugged in is the last of them.
pub(crate) fn regions(extent: Extent) -> Vec<(GuestAddress, usize)> {
    let low = extent.ram.min(MMIO_START);
    let high = extent.ram - low;
    let length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut regions = vec![(GuestAddress(0), length(low))];
    if high > 0 {
        regions.push((GuestAddress(MMIO_END), length(high)));
    }
    if extent.hotplug > 0 {
        let start = behind(MMIO_END + high);
        regions.push((GuestAddress(start), length(extent.hotplug)));
    }
    regions
}
