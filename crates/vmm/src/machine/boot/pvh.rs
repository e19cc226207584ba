//! The start information of the PVH boot protocol. Layout: Xen, public/arch-x86/hvm/start_info.h.
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::{Initrd, memory_map};
use crate::Memory;
use crate::machine::layout::{COMMAND_LINE, PVH_INFO, RSDP};

const MAGIC: u32 = 0x336e_c578;
/// Version 1 has the memory map.
const VERSION: u32 = 1;
const INFO_SIZE: u64 = 56;
const MODULE_SIZE: u64 = 32;

pub(super) fn write(memory: &Memory, initrd: Option<Initrd>) -> Result<(), GuestMemoryError> {
    let modules = PVH_INFO + INFO_SIZE;
    let map_start = modules + MODULE_SIZE;
    let map = memory_map(memory);
    let mut info = Vec::new();
    for word in [MAGIC, VERSION, 0, u32::from(initrd.is_some())] {
        info.extend(word.to_le_bytes());
    }
    for address in [
        if initrd.is_some() { modules } else { 0 },
        COMMAND_LINE.0,
        RSDP,
        map_start,
    ] {
        info.extend(address.to_le_bytes());
    }
    info.extend(u32::try_from(map.len()).unwrap_or(u32::MAX).to_le_bytes());
    info.extend(0_u32.to_le_bytes());
    let initrd = initrd.unwrap_or(Initrd { start: 0, size: 0 });
    for word in [initrd.start, initrd.size, 0, 0] {
        info.extend(word.to_le_bytes());
    }
    for (start, size, kind) in map {
        info.extend(start.to_le_bytes());
        info.extend(size.to_le_bytes());
        info.extend(kind.to_le_bytes());
        info.extend(0_u32.to_le_bytes());
    }
    memory.write_slice(&info, GuestAddress(PVH_INFO))
}
