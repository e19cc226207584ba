//! Puts a kernel, its initramfs, its command line and the tables it expects into guest memory.
mod acpi;
pub(crate) mod gdt;
mod pvh;
mod zero_page;

use std::fs::File;
use std::io::Read;

use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use linux_loader::loader::{KernelLoader, KernelLoaderResult};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::Memory;
use crate::machine::layout::{
    COMMAND_LINE, COMMAND_LINE_MAX, HIGH_RAM, LOW_RAM_END, MMIO_END, MMIO_START, RSDP,
};
use crate::virtio::Slot;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error("cannot load the kernel: {0}")]
    Kernel(#[from] linux_loader::loader::Error),
    #[error("the kernel is a bzImage without a 64-bit entry (XLF_KERNEL_64)")]
    No64BitEntry,
    #[error("the kernel is neither a 64-bit ELF nor a bzImage")]
    UnknownImage,
    #[error("the initrd of {size} bytes does not fit below {end:#x}, behind the kernel")]
    InitrdTooLarge { size: u64, end: u64 },
    #[error("cannot read the initrd or the kernel")]
    Read(#[source] std::io::Error),
    #[error("the command line is {0} bytes long; the limit is {COMMAND_LINE_MAX}")]
    CommandLineTooLong(usize),
    #[error("the command line contains a zero byte")]
    CommandLineZero,
    #[error("the memory is too small for the tables a guest starts with")]
    Tables(#[from] vm_memory::GuestMemoryError),
    #[error("the ACPI tables do not fit into the BIOS area")]
    Acpi,
}

/// Where and how the first virtual CPU starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    /// 64-bit mode, `boot_params` in RSI.
    Linux64(GuestAddress),
    /// 32-bit mode without paging, `hvm_start_info` in EBX.
    Pvh(GuestAddress),
}

impl Entry {
    pub(crate) fn is_pvh(self) -> bool {
        matches!(self, Entry::Pvh(_))
    }
}

/// What a machine boots.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) kernel: &'a File,
    pub(crate) initrd: Option<&'a File>,
    pub(crate) command_line: &'a str,
}

/// An initramfs in guest memory.
#[derive(Clone, Copy, Debug)]
struct Initrd {
    start: u64,
    size: u64,
}

/// Loads everything and returns where the first virtual CPU starts.
pub(crate) fn load(
    memory: &Memory,
    source: &Source<'_>,
    nr_cpus: u8,
    slots: &[Slot],
) -> Result<Entry, BootError> {
    let (entry, kernel) = load_kernel(memory, source.kernel)?;
    let initrd = source
        .initrd
        .map(|file| load_initrd(memory, file, kernel.kernel_end))
        .transpose()?;
    let command_line = command_line(source.command_line, slots)?;
    memory.write_slice(&command_line, COMMAND_LINE)?;
    acpi::write(memory, nr_cpus, slots)?;
    match entry {
        Entry::Linux64(_) => zero_page::write(
            memory,
            kernel.setup_header.as_ref(),
            command_line.len(),
            initrd,
        )?,
        Entry::Pvh(_) => pvh::write(memory, initrd)?,
    }
    Ok(entry)
}

fn load_kernel(memory: &Memory, kernel: &File) -> Result<(Entry, KernelLoaderResult), BootError> {
    let mut magic = [0; 4];
    let mut file = kernel.try_clone().map_err(BootError::Read)?;
    std::io::Seek::rewind(&mut file).map_err(BootError::Read)?;
    file.read_exact(&mut magic)
        .map_err(|_| BootError::UnknownImage)?;
    if magic == *b"\x7fELF" {
        let loaded = Elf::load(memory, None, &mut file, Some(HIGH_RAM))?;
        let entry = match loaded.pvh_boot_cap {
            PvhBootCapability::PvhEntryPresent(address) => Entry::Pvh(address),
            _ => Entry::Linux64(loaded.kernel_load),
        };
        return Ok((entry, loaded));
    }
    let loaded =
        BzImage::load(memory, None, &mut file, Some(HIGH_RAM)).map_err(|error| match error {
            linux_loader::loader::Error::Bzimage(
                linux_loader::loader::bzimage::Error::InvalidBzImage,
            ) => BootError::UnknownImage,
            other => other.into(),
        })?;
    // boot.rst: XLF_KERNEL_64 is bit 0 of xloadflags; the 64-bit entry lies 0x200 behind the start of the protected-mode kernel.
    match loaded.setup_header {
        Some(header) if header.xloadflags & 1 == 1 => Ok((
            Entry::Linux64(GuestAddress(loaded.kernel_load.0 + 0x200)),
            loaded,
        )),
        _ => Err(BootError::No64BitEntry),
    }
}

/// Puts the initramfs at the end of the memory below the device window, page-aligned, as far from the kernel as it gets.
fn load_initrd(memory: &Memory, file: &File, kernel_end: u64) -> Result<Initrd, BootError> {
    let size = file.metadata().map_err(BootError::Read)?.len();
    let end = memory.last_addr().0.saturating_add(1).min(MMIO_START);
    let start = end
        .checked_sub(size)
        .map(|start| start & !0xfff)
        .filter(|start| *start >= kernel_end.max(HIGH_RAM.0))
        .ok_or(BootError::InitrdTooLarge { size, end })?;
    let mut file = file.try_clone().map_err(BootError::Read)?;
    std::io::Seek::rewind(&mut file).map_err(BootError::Read)?;
    let length = usize::try_from(size).map_err(|_| BootError::InitrdTooLarge { size, end })?;
    memory.read_exact_volatile_from(GuestAddress(start), &mut file, length)?;
    Ok(Initrd { start, size })
}

/// The command line, ended by zero, with the devices appended for kernels that read no ACPI tables.
///
/// They stand before a ` -- `, behind which Linux passes words on to init.
fn command_line(given: &str, slots: &[Slot]) -> Result<Vec<u8>, BootError> {
    let (kernel, init) = match given.split_once(" -- ") {
        Some((kernel, init)) => (kernel, Some(init)),
        None => (given, None),
    };
    let mut line = kernel.to_owned();
    for slot in slots {
        line.push_str(&format!(
            " virtio_mmio.device=4K@{:#x}:{}",
            slot.address, slot.irq
        ));
    }
    if let Some(init) = init {
        line.push_str(&format!(" -- {init}"));
    }
    if line.contains('\0') {
        return Err(BootError::CommandLineZero);
    }
    if line.len() >= COMMAND_LINE_MAX {
        return Err(BootError::CommandLineTooLong(line.len()));
    }
    let mut bytes = line.into_bytes();
    bytes.push(0);
    Ok(bytes)
}

/// Kinds of memory in e820 and PVH maps; both use the same numbers.
const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// The guest's memory map as (start, size, kind).
fn memory_map(memory: &Memory) -> Vec<(u64, u64, u32)> {
    let size = memory.last_addr().0 + 1;
    let mut map = vec![
        (0, LOW_RAM_END, RAM),
        // The ACPI tables: a guest must not use this as memory (ACPI 6.5 §15).
        (RSDP, HIGH_RAM.0 - RSDP, RESERVED),
        (HIGH_RAM.0, size.min(MMIO_START) - HIGH_RAM.0, RAM),
    ];
    if size > MMIO_END {
        map.push((MMIO_END, size - MMIO_END, RAM));
    }
    map
}
