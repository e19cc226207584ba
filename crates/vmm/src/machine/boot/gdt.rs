//! Segments, page tables and control registers in which a kernel starts.
use kvm_bindings::{kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::Memory;
use crate::machine::boot::Entry;
use crate::machine::layout::{GDT, IDT, PD, PD_DEVICES, PDPT, PML4};

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Access byte and flags nibble of a descriptor (Intel SDM volume 3, §3.4.5), as `flags << 12 | access`.
const CODE_64: u16 = 0xa09b;
const CODE_32: u16 = 0xc09b;
const DATA: u16 = 0xc093;
const TASK: u16 = 0x808b;

/// Writes descriptor and page tables into memory and sets the registers that point to them.
///
/// 64-bit: Linux's boot protocol asks for `__BOOT_CS` 0x10, `__BOOT_DS` 0x18, paging with an identity map (boot.rst "64-bit BOOT
/// PROTOCOL"). PVH: flat 32-bit segments, paging off (Xen, docs/misc/pvh.pandoc). 2 MiB pages do for the map.
pub(crate) fn write(
    memory: &Memory,
    entry: Entry,
    registers: &mut kvm_sregs,
) -> Result<(), GuestMemoryError> {
    let code = if entry.is_pvh() { CODE_32 } else { CODE_64 };
    // Selector 0x8 stays unused, so that code is 0x10 and data 0x18.
    let table = [0, 0, code, DATA, TASK];
    let (code_index, data_index, task_index) = (2, 3, 4);
    for (index, flags) in (0_u64..).zip(table) {
        let limit = if flags == TASK { 0x67 } else { 0xf_ffff };
        let descriptor = if flags == 0 {
            0
        } else {
            descriptor(flags, limit)
        };
        memory.write_obj(descriptor, GuestAddress(GDT + 8 * index))?;
    }
    memory.write_obj(0_u64, GuestAddress(IDT))?;
    registers.gdt.base = GDT;
    registers.gdt.limit = 39;
    registers.idt.base = IDT;
    registers.idt.limit = 7;
    registers.cs = segment(code, code_index, 0xffff_ffff);
    let data = segment(DATA, data_index, 0xffff_ffff);
    registers.ds = data;
    registers.es = data;
    registers.fs = data;
    registers.gs = data;
    registers.ss = data;
    registers.tr = segment(TASK, task_index, 0x67);
    if entry.is_pvh() {
        registers.cr0 = CR0_PE | CR0_ET;
        registers.cr4 = 0;
        return Ok(());
    }
    write_identity_map(memory)?;
    registers.cr3 = PML4;
    registers.cr4 |= CR4_PAE;
    registers.cr0 |= CR0_PE | CR0_PG;
    registers.efer |= EFER_LME | EFER_LMA;
    Ok(())
}

/// The first GiB, and the fourth: a guest of ours reaches its devices without tables of its own. Linux builds its own anyway.
fn write_identity_map(memory: &Memory) -> Result<(), GuestMemoryError> {
    const PRESENT_WRITABLE: u64 = 3;
    memory.write_obj(PDPT | PRESENT_WRITABLE, GuestAddress(PML4))?;
    for (gib, directory) in [(0, PD), (3, PD_DEVICES)] {
        memory.write_obj(directory | PRESENT_WRITABLE, GuestAddress(PDPT + 8 * gib))?;
        memory.write_slice(
            &large_pages(gib << 30, PRESENT_WRITABLE),
            GuestAddress(directory),
        )?;
    }
    Ok(())
}

/// A page directory that maps one GiB from `start` on to itself by 2 MiB pages.
fn large_pages(start: u64, flags: u64) -> [u8; 4096] {
    const LARGE: u64 = 1 << 7;
    let mut directory = [0_u8; 4096];
    for (page, slot) in (0_u64..).zip(directory.chunks_exact_mut(8)) {
        slot.copy_from_slice(&((start + (page << 21)) | flags | LARGE).to_le_bytes());
    }
    directory
}

fn descriptor(flags: u16, limit: u32) -> u64 {
    let flags = u64::from(flags);
    let limit = u64::from(limit);
    (limit & 0xffff) | (flags & 0xff) << 40 | (limit >> 16 & 0xf) << 48 | (flags >> 12) << 52
}

fn segment(flags: u16, index: u16, limit: u32) -> kvm_segment {
    let bit = |at: u16| u8::from(flags >> at & 1 == 1);
    kvm_segment {
        base: 0,
        limit,
        selector: index * 8,
        type_: (flags & 0xf).to_le_bytes()[0],
        present: bit(7),
        dpl: 0,
        db: bit(14),
        s: bit(4),
        l: bit(13),
        g: bit(15),
        avl: 0,
        padding: 0,
        unusable: 0,
    }
}
