//! A virtual CPU's first state: identification, model-specific registers, general registers, local APIC.
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_fpu, kvm_msr_entry, kvm_regs};
use kvm_ioctls::{Kvm, VcpuFd};

use crate::Memory;
use crate::machine::MachineError;
use crate::machine::boot::{Entry, gdt};
use crate::machine::layout::{BOOT_STACK, PVH_INFO, ZERO_PAGE};

/// What the host's KVM can show a guest. Asked once per machine.
pub(crate) fn supported(kvm: &Kvm) -> Result<CpuId, MachineError> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(MachineError::kvm("KVM_GET_SUPPORTED_CPUID"))
}

/// All processors of a machine.
#[derive(Debug)]
pub(crate) struct Processors {
    pub(crate) count: u8,
    pub(crate) has_smt: bool,
    pub(crate) supported: CpuId,
}

/// Sets processor `index` up; the first one starts at `entry`, the others wait for INIT and SIPI.
pub(crate) fn configure(
    vcpu: &VcpuFd,
    index: u8,
    processors: &Processors,
    memory: &Memory,
    entry: Entry,
) -> Result<(), MachineError> {
    vcpu.set_cpuid2(&processors.identify(index))
        .map_err(MachineError::kvm("KVM_SET_CPUID2"))?;
    set_msrs(vcpu)?;
    set_local_apic(vcpu)?;
    if index > 0 {
        return Ok(());
    }
    vcpu.set_fpu(&kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..kvm_fpu::default()
    })
    .map_err(MachineError::kvm("KVM_SET_FPU"))?;
    let mut special = vcpu
        .get_sregs()
        .map_err(MachineError::kvm("KVM_GET_SREGS"))?;
    gdt::write(memory, entry, &mut special)?;
    vcpu.set_sregs(&special)
        .map_err(MachineError::kvm("KVM_SET_SREGS"))?;
    vcpu.set_regs(&first_registers(entry))
        .map_err(MachineError::kvm("KVM_SET_REGS"))
}

fn first_registers(entry: Entry) -> kvm_regs {
    // Bit 1 of RFLAGS is always set; interrupts are off.
    let start = kvm_regs {
        rflags: 2,
        ..kvm_regs::default()
    };
    match entry {
        Entry::Linux64(rip) => kvm_regs {
            rip: rip.0,
            rsp: BOOT_STACK,
            rbp: BOOT_STACK,
            rsi: ZERO_PAGE,
            ..start
        },
        Entry::Pvh(rip) => kvm_regs {
            rip: rip.0,
            rbx: PVH_INFO,
            ..start
        },
    }
}

impl Processors {
    /// Tells a processor its own number, and how many there are (Intel SDM volume 2, CPUID).
    fn identify(&self, index: u8) -> CpuId {
        const HYPERVISOR: u32 = 1 << 31;
        const DEADLINE_TIMER: u32 = 1 << 24;
        let (own, count) = (u32::from(index), u32::from(self.count));
        let threads = if self.has_smt { 2 } else { 1 };
        let bits = |number: u32| u32::BITS - (number - 1).leading_zeros();
        let mut cpuid = self.supported.clone();
        for entry in cpuid.as_mut_slice() {
            match (entry.function, entry.index) {
                (1, _) => {
                    entry.ebx = entry.ebx & 0xffff | count << 16 | own << 24;
                    entry.ecx |= HYPERVISOR | DEADLINE_TIMER;
                }
                // Extended topology: threads of a core, then all of the one package.
                (0xb | 0x1f, level) => {
                    entry.edx = own;
                    (entry.eax, entry.ebx, entry.ecx) = match level {
                        0 => (bits(threads), threads, 1 << 8),
                        1 => (bits(count), count, 2 << 8 | 1),
                        other => (0, 0, other),
                    };
                }
                _ => {}
            }
        }
        cpuid
    }
}

fn set_msrs(vcpu: &VcpuFd) -> Result<(), MachineError> {
    const SYSENTER: [u32; 3] = [0x174, 0x175, 0x176];
    const STAR_TO_MASK: [u32; 4] = [0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084];
    const KERNEL_GS_BASE: u32 = 0xc000_0102;
    const TSC: u32 = 0x10;
    const MISC_ENABLE: u32 = 0x1a0;
    const FAST_STRING: u64 = 1;
    const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
    const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;
    let zeroed = SYSENTER
        .into_iter()
        .chain(STAR_TO_MASK)
        .chain([KERNEL_GS_BASE, TSC]);
    let entries: Vec<kvm_msr_entry> = zeroed
        .map(|index| (index, 0))
        .chain([
            (MISC_ENABLE, FAST_STRING),
            (MTRR_DEFAULT_TYPE, MTRR_ENABLED_WRITE_BACK),
        ])
        .map(|(index, data)| kvm_msr_entry {
            index,
            data,
            ..kvm_msr_entry::default()
        })
        .collect();
    let wanted = entries.len();
    let msrs = Msrs::from_entries(&entries).map_err(|_| MachineError::TooManyMsrs)?;
    let set = vcpu
        .set_msrs(&msrs)
        .map_err(MachineError::kvm("KVM_SET_MSRS"))?;
    match entries.get(set) {
        None => Ok(()),
        Some(refused) => Err(MachineError::RefusedMsr {
            index: refused.index,
            set,
            wanted,
        }),
    }
}

/// LINT0 takes interrupts of the PIC, LINT1 is the NMI, as firmware leaves them (Intel MultiProcessor Specification 1.4 §3.6.2).
fn set_local_apic(vcpu: &VcpuFd) -> Result<(), MachineError> {
    const LINT0: usize = 0x350;
    const LINT1: usize = 0x360;
    const EXTINT: [u8; 2] = [0x00, 0x07];
    const NMI: [u8; 2] = [0x00, 0x04];
    let mut state = vcpu
        .get_lapic()
        .map_err(MachineError::kvm("KVM_GET_LAPIC"))?;
    for (at, [low, high]) in [(LINT0, EXTINT), (LINT1, NMI)] {
        state.regs[at] = low.cast_signed();
        state.regs[at + 1] = (state.regs[at + 1].cast_unsigned() & !0x07 | high).cast_signed();
    }
    vcpu.set_lapic(&state)
        .map_err(MachineError::kvm("KVM_SET_LAPIC"))
}
