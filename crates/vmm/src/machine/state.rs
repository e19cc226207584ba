//! A paused machine as plain data: processors, interrupt controllers, timer, clock, devices. Memory is not part of it.
use kvm_bindings::{
    KVM_CLOCK_REALTIME, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    kvm_clock_data, kvm_irqchip, kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};

use crate::devices::state::DeviceState;
use crate::machine::MachineError;
use crate::machine::cpu_state::CpuState;
use crate::virtio::TransportState;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MachineState {
    pub(crate) chips: Chips,
    pub(crate) cpus: Vec<CpuState>,
    pub(crate) serial: DeviceState,
    pub(crate) keyboard: DeviceState,
    pub(crate) transports: Vec<TransportState>,
}

/// What KVM keeps for the machine as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Chips {
    first_pic: kvm_irqchip,
    second_pic: kvm_irqchip,
    io_apic: kvm_irqchip,
    timer: kvm_pit_state2,
    clock: kvm_clock_data,
}

impl Chips {
    pub(crate) fn save(vm: &VmFd) -> Result<Chips, MachineError> {
        let chip = |chip_id| {
            let mut chip = kvm_irqchip {
                chip_id,
                ..kvm_irqchip::default()
            };
            vm.get_irqchip(&mut chip)
                .map_err(MachineError::kvm("KVM_GET_IRQCHIP"))?;
            Ok::<_, MachineError>(chip)
        };
        let mut clock = vm.get_clock().map_err(MachineError::kvm("KVM_GET_CLOCK"))?;
        // The flags say how the clock was read, not what to set: with KVM_CLOCK_REALTIME a later KVM_SET_CLOCK would move the
        // guest's monotonic clock on by the time that the snapshot lay on disk. Who wants that says so (follow_time).
        clock.flags = 0;
        Ok(Chips {
            first_pic: chip(KVM_IRQCHIP_PIC_MASTER)?,
            second_pic: chip(KVM_IRQCHIP_PIC_SLAVE)?,
            io_apic: chip(KVM_IRQCHIP_IOAPIC)?,
            timer: vm.get_pit2().map_err(MachineError::kvm("KVM_GET_PIT2"))?,
            clock,
        })
    }

    /// From the restore on the guest's clock of KVM's has gone on all the time. Without effect where the host could not tell when the state was saved.
    pub(crate) fn follow_time(&mut self) {
        if self.clock.realtime != 0 {
            self.clock.flags |= KVM_CLOCK_REALTIME;
        }
    }

    pub(crate) fn restore(&self, vm: &VmFd) -> Result<(), MachineError> {
        let wanted = [
            (&self.first_pic, KVM_IRQCHIP_PIC_MASTER),
            (&self.second_pic, KVM_IRQCHIP_PIC_SLAVE),
            (&self.io_apic, KVM_IRQCHIP_IOAPIC),
        ];
        for (chip, id) in wanted {
            if chip.chip_id != id {
                return Err(MachineError::State("interrupt controllers"));
            }
            vm.set_irqchip(chip)
                .map_err(MachineError::kvm("KVM_SET_IRQCHIP"))?;
        }
        vm.set_pit2(&self.timer)
            .map_err(MachineError::kvm("KVM_SET_PIT2"))?;
        vm.set_clock(&self.clock)
            .map_err(MachineError::kvm("KVM_SET_CLOCK"))
    }
}

#[cfg(test)]
impl MachineState {
    /// For tests of what carries it.
    pub(crate) fn sample() -> MachineState {
        let device = || DeviceState::new(1, 1, &(1, "x"));
        MachineState {
            chips: Chips::default(),
            cpus: vec![CpuState::default(), CpuState::default()],
            serial: device(),
            keyboard: device(),
            transports: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_follows_the_time_only_if_it_was_known() {
        let mut chips = Chips::default();
        chips.follow_time();
        assert_eq!(chips.clock.flags, 0);
        chips.clock.realtime = 1;
        chips.follow_time();
        assert_eq!(chips.clock.flags, KVM_CLOCK_REALTIME);
    }
}
