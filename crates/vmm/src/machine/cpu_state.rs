//! A virtual CPU's whole state, taken from KVM and given back to it.
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state,
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};

use crate::machine::MachineError;
use crate::raw;

/// IA32_TSC_DEADLINE: means nothing before the APIC's timer mode and the TSC are there.
const TSC_DEADLINE: u32 = 0x6e0;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct CpuState {
    cpuid: Vec<kvm_cpuid_entry2>,
    run_state: kvm_mp_state,
    registers: kvm_regs,
    special: kvm_sregs,
    /// XSAVE area, as long as the host's features make it.
    extended: Vec<u8>,
    extended_control: kvm_xcrs,
    debug: kvm_debugregs,
    local_apic: kvm_lapic_state,
    tsc_khz: u32,
    msrs: Vec<(u32, u64)>,
    events: kvm_vcpu_events,
}

/// What KVM says about every CPU of this host.
#[derive(Clone, Debug)]
pub(crate) struct Abilities {
    /// Model-specific registers that KVM keeps for a guest.
    pub(crate) msrs: Vec<u32>,
    /// Bytes of an XSAVE area.
    pub(crate) extended_size: usize,
}

/// Takes the state of a CPU that does not run. Its last exit is completed: the CPU's thread re-entered KVM before it parked.
pub(crate) fn save(cpu: &VcpuFd, abilities: &Abilities) -> Result<CpuState, MachineError> {
    let kvm = MachineError::kvm;
    Ok(CpuState {
        // First: it makes KVM apply an INIT or SIPI that waits, which changes all that follows.
        run_state: cpu.get_mp_state().map_err(kvm("KVM_GET_MP_STATE"))?,
        registers: cpu.get_regs().map_err(kvm("KVM_GET_REGS"))?,
        special: cpu.get_sregs().map_err(kvm("KVM_GET_SREGS"))?,
        extended: raw::xsave(cpu, abilities.extended_size).map_err(kvm("KVM_GET_XSAVE2"))?,
        extended_control: cpu.get_xcrs().map_err(kvm("KVM_GET_XCRS"))?,
        debug: cpu.get_debug_regs().map_err(kvm("KVM_GET_DEBUGREGS"))?,
        local_apic: cpu.get_lapic().map_err(kvm("KVM_GET_LAPIC"))?,
        // Hosts with an unstable TSC do not say.
        tsc_khz: cpu.get_tsc_khz().unwrap_or(0),
        msrs: save_msrs(cpu, &abilities.msrs)?,
        events: cpu.get_vcpu_events().map_err(kvm("KVM_GET_VCPU_EVENTS"))?,
        cpuid: cpu
            .get_cpuid2(KVM_MAX_CPUID_ENTRIES)
            .map_err(kvm("KVM_GET_CPUID2"))?
            .as_slice()
            .to_vec(),
    })
}

/// Reads all registers of the list. KVM stops at one that this CPU model has not: it is left out.
fn save_msrs(cpu: &VcpuFd, list: &[u32]) -> Result<Vec<(u32, u64)>, MachineError> {
    let mut saved = Vec::with_capacity(list.len());
    let mut rest = list;
    while !rest.is_empty() {
        let mut msrs = entries(rest.iter().map(|index| (*index, 0)))?;
        let done = cpu
            .get_msrs(&mut msrs)
            .map_err(MachineError::kvm("KVM_GET_MSRS"))?;
        let read = msrs.as_slice().iter().take(done);
        saved.extend(read.map(|entry| (entry.index, entry.data)));
        rest = rest.get(done + 1..).unwrap_or_default();
    }
    Ok(saved)
}

fn entries(pairs: impl Iterator<Item = (u32, u64)>) -> Result<Msrs, MachineError> {
    let entries: Vec<kvm_msr_entry> = pairs
        .map(|(index, data)| kvm_msr_entry {
            index,
            data,
            ..kvm_msr_entry::default()
        })
        .collect();
    Msrs::from_entries(&entries).map_err(|_| MachineError::TooManyMsrs)
}

/// Gives a fresh CPU the state. The order is KVM's: identification before what is checked against it, the APIC's base before the APIC,
/// the APIC before its deadline, events last.
pub(crate) fn restore(
    cpu: &VcpuFd,
    state: &CpuState,
    abilities: &Abilities,
) -> Result<(), MachineError> {
    let kvm = MachineError::kvm;
    let cpuid = CpuId::from_entries(&state.cpuid).map_err(|_| MachineError::State("CPUID"))?;
    cpu.set_cpuid2(&cpuid).map_err(kvm("KVM_SET_CPUID2"))?;
    restore_tsc_frequency(cpu, state.tsc_khz)?;
    cpu.set_mp_state(state.run_state)
        .map_err(kvm("KVM_SET_MP_STATE"))?;
    cpu.set_regs(&state.registers)
        .map_err(kvm("KVM_SET_REGS"))?;
    cpu.set_sregs(&state.special)
        .map_err(kvm("KVM_SET_SREGS"))?;
    if state.extended.len() > abilities.extended_size {
        return Err(MachineError::State("XSAVE area"));
    }
    raw::set_xsave(cpu, &state.extended, abilities.extended_size).map_err(kvm("KVM_SET_XSAVE"))?;
    cpu.set_xcrs(&state.extended_control)
        .map_err(kvm("KVM_SET_XCRS"))?;
    cpu.set_debug_regs(&state.debug)
        .map_err(kvm("KVM_SET_DEBUGREGS"))?;
    cpu.set_lapic(&state.local_apic)
        .map_err(kvm("KVM_SET_LAPIC"))?;
    let (last, first): (Vec<_>, Vec<_>) = state
        .msrs
        .iter()
        .partition(|(index, _)| *index == TSC_DEADLINE);
    restore_msrs(cpu, &first)?;
    restore_msrs(cpu, &last)?;
    cpu.set_vcpu_events(&state.events)
        .map_err(kvm("KVM_SET_VCPU_EVENTS"))
}

/// Only a host whose TSC runs at another speed has to scale it; one that cannot is told so by KVM.
fn restore_tsc_frequency(cpu: &VcpuFd, tsc_khz: u32) -> Result<(), MachineError> {
    // KVM's own tolerance, tsc_tolerance_ppm, is 250.
    const TOLERANCE_PPM: u64 = 250;
    let own = cpu.get_tsc_khz().unwrap_or(0);
    let distance = u64::from(own.abs_diff(tsc_khz)) * 1_000_000;
    if tsc_khz == 0 || own == 0 || distance <= u64::from(own) * TOLERANCE_PPM {
        return Ok(());
    }
    cpu.set_tsc_khz(tsc_khz)
        .map_err(MachineError::kvm("KVM_SET_TSC_KHZ"))
}

/// Sets registers. One that KVM refuses is fine if it has the value already: some say what the host can do, and cannot be set.
fn restore_msrs(cpu: &VcpuFd, msrs: &[(u32, u64)]) -> Result<(), MachineError> {
    let mut rest = msrs;
    while !rest.is_empty() {
        let set = cpu
            .set_msrs(&entries(rest.iter().copied())?)
            .map_err(MachineError::kvm("KVM_SET_MSRS"))?;
        let Some((index, data)) = rest.get(set).copied() else {
            return Ok(());
        };
        let mut own = entries([(index, 0)].into_iter())?;
        let read = cpu
            .get_msrs(&mut own)
            .map_err(MachineError::kvm("KVM_GET_MSRS"))?;
        let has_it = read == 1 && own.as_slice().iter().all(|entry| entry.data == data);
        if !has_it {
            return Err(MachineError::RefusedMsr {
                index,
                set: msrs.len() - rest.len() + set,
                wanted: msrs.len(),
            });
        }
        rest = rest.get(set + 1..).unwrap_or_default();
    }
    Ok(())
}
