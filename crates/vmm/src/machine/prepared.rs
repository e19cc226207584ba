//! What a machine needs of KVM before anybody knows what it will look like.
//!
//! Making a virtual machine, its interrupt controllers and its task segment takes 1.6 - 3.6 ms on this project's development machine
//! (2026-11-24), most of it waiting inside the kernel. The monitor starts with it on a thread of its own, while its user still sends
//! the configuration, so that InstanceStart finds it done.
use std::thread::{self, JoinHandle};

use kvm_bindings::{CpuId, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_xsave};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use crate::machine::cpu_state::Abilities;
use crate::machine::{MachineError, cpu, layout};
use crate::seccomp::Filters;

pub(crate) struct Prepared {
    pub(crate) vm: VmFd,
    /// The first virtual CPU: every machine has one.
    pub(crate) first: VcpuFd,
    pub(crate) cpuid: CpuId,
    pub(crate) abilities: Abilities,
}

/// A thread that prepares, or its result.
#[derive(Debug)]
pub(crate) struct Preparation(JoinHandle<Result<Prepared, MachineError>>);

impl Preparation {
    /// `filters` closes the thread, where its maker is not closed yet. `kvm`: if it was opened already.
    pub(crate) fn begin(filters: Filters, kvm: Option<Kvm>) -> Result<Preparation, MachineError> {
        let body = move || {
            filters.close_loop().map_err(MachineError::Filter)?;
            prepare(kvm)
        };
        let thread = thread::Builder::new()
            .name("prepare".to_owned())
            .spawn(body);
        Ok(Preparation(thread.map_err(MachineError::Thread)?))
    }

    /// Waits for the result.
    pub(crate) fn finish(self) -> Result<Prepared, MachineError> {
        self.0.join().unwrap_or(Err(MachineError::Panicked))
    }
}

pub(crate) fn prepare(kvm: Option<Kvm>) -> Result<Prepared, MachineError> {
    let kvm = kvm
        .map_or_else(Kvm::new, Ok)
        .map_err(MachineError::kvm("/dev/kvm"))?;
    let version = kvm.get_api_version();
    if version != 12 {
        return Err(MachineError::Version(version));
    }
    let wanted = [
        Cap::Irqchip,
        Cap::Irqfd,
        Cap::Pit2,
        Cap::UserMemory,
        Cap::SetTssAddr,
        Cap::ExtCpuid,
        Cap::ImmediateExit,
    ];
    if let Some(missing) = wanted
        .into_iter()
        .find(|capability| !kvm.check_extension(*capability))
    {
        return Err(MachineError::Missing(missing));
    }
    let vm = kvm
        .create_vm()
        .map_err(MachineError::kvm("KVM_CREATE_VM"))?;
    vm.set_tss_address(layout::KVM_TSS)
        .map_err(MachineError::kvm("KVM_SET_TSS_ADDR"))?;
    vm.create_irq_chip()
        .map_err(MachineError::kvm("KVM_CREATE_IRQCHIP"))?;
    let timer = kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..kvm_pit_config::default()
    };
    vm.create_pit2(timer)
        .map_err(MachineError::kvm("KVM_CREATE_PIT2"))?;
    let first = vm
        .create_vcpu(0)
        .map_err(MachineError::kvm("KVM_CREATE_VCPU"))?;
    let msrs = kvm
        .get_msr_index_list()
        .map_err(MachineError::kvm("KVM_GET_MSR_INDEX_LIST"))?;
    let abilities = Abilities {
        msrs: msrs.as_slice().to_vec(),
        // Zero where the kernel is older than the capability: then it is the fixed size.
        extended_size: usize::try_from(vm.check_extension_int(Cap::Xsave2))
            .unwrap_or(0)
            .max(size_of::<kvm_xsave>()),
    };
    Ok(Prepared {
        vm,
        first,
        cpuid: cpu::supported(&kvm)?,
        abilities,
    })
}
