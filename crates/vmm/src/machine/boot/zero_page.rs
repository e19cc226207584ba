//! Linux's `boot_params`. Offsets: Documentation/arch/x86/zero-page.rst and boot.rst.
use linux_loader::bootparam::setup_header;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryError};

use super::{Initrd, memory_map};
use crate::Memory;
use crate::machine::layout::{COMMAND_LINE, RSDP, ZERO_PAGE};

const ACPI_RSDP_ADDR: usize = 0x070;
const E820_ENTRIES: usize = 0x1e8;
const SETUP_HEADER: usize = 0x1f1;
const E820_TABLE: usize = 0x2d0;
const E820_ENTRY: usize = 20;

/// A loader without an assigned number (boot.rst "type_of_loader").
const LOADER_UNDEFINED: u8 = 0xff;
const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: u32 = 0x5372_6448;

/// Writes the page for a kernel started at its 64-bit entry; `header` is the bzImage's, if it was one.
pub(super) fn write(
    memory: &Memory,
    header: Option<&setup_header>,
    command_line_size: usize,
    initrd: Option<Initrd>,
) -> Result<(), GuestMemoryError> {
    let mut header = header.copied().unwrap_or(setup_header {
        boot_flag: BOOT_FLAG,
        header: MAGIC,
        kernel_alignment: 0x0100_0000,
        ..setup_header::default()
    });
    header.type_of_loader = LOADER_UNDEFINED;
    header.cmd_line_ptr = low(COMMAND_LINE.0);
    header.cmdline_size = u32::try_from(command_line_size).unwrap_or(u32::MAX);
    if let Some(initrd) = initrd {
        header.ramdisk_image = low(initrd.start);
        header.ramdisk_size = low(initrd.size);
    }
    let mut page = [0_u8; 4096];
    put(&mut page, ACPI_RSDP_ADDR, &RSDP.to_le_bytes());
    put(&mut page, SETUP_HEADER, header.as_slice());
    let map = memory_map(memory);
    page[E820_ENTRIES] = u8::try_from(map.len()).unwrap_or(u8::MAX);
    for (index, (start, size, kind)) in map.into_iter().enumerate() {
        let at = E820_TABLE + index * E820_ENTRY;
        put(&mut page, at, &start.to_le_bytes());
        put(&mut page, at + 8, &size.to_le_bytes());
        put(&mut page, at + 16, &kind.to_le_bytes());
    }
    memory.write_slice(&page, GuestAddress(ZERO_PAGE))
}

/// Addresses here lie below 4 GiB: the loader puts an initramfs below the device window.
fn low(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}

fn put(page: &mut [u8; 4096], at: usize, bytes: &[u8]) {
    page[at..at + bytes.len()].copy_from_slice(bytes);
}
