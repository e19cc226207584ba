//! A virtual machine: memory, processors, interrupts, devices.
pub(crate) mod boot;
mod cpu;
pub(crate) mod layout;
mod prepared;
mod signal;
mod vcpu;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use kvm_ioctls::{Cap, VmFd};
use vm_memory::GuestMemoryError;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::Memory;
use crate::devices::{BootTimer, Bus, Keyboard, SerialPort};
use crate::log::Log;
use crate::raw::MappedVm;
use crate::virtio::{Device, Interrupt, Slot, Transport};
pub(crate) use prepared::Preparation;
pub(crate) use signal::Signal;
use vcpu::Vcpus;

#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error("{call}: {source}")]
    Kvm {
        call: &'static str,
        source: io::Error,
    },
    #[error("KVM speaks version {0} of its interface; 12 is needed")]
    Version(i32),
    #[error("KVM has no {0:?} on this host")]
    Missing(Cap),
    #[error("KVM refuses MSR {index:#x} ({set} of {wanted} were set)")]
    RefusedMsr {
        index: u32,
        set: usize,
        wanted: usize,
    },
    #[error("more model-specific registers than KVM takes")]
    TooManyMsrs,
    #[error("cannot map the guest's memory: {0}")]
    Memory(String),
    #[error("the first processor's tables do not fit the memory: {0}")]
    Tables(#[from] GuestMemoryError),
    #[error("{0}")]
    Boot(#[from] boot::BootError),
    #[error("cannot start a thread or make an event: {0}")]
    Thread(io::Error),
    #[error("the thread that prepares KVM ended early")]
    Panicked,
    #[error("{0} virtio devices; the interrupt controller has lines for {max}", max = layout::LAST_IRQ - layout::FIRST_IRQ + 1)]
    TooManyDevices(usize),
    #[error("a device's queue size is no power of two")]
    QueueSize,
}

impl MachineError {
    fn kvm(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
        move |error| MachineError::Kvm {
            call,
            source: error.into(),
        }
    }
}

/// What a machine is made of.
pub(crate) struct Plan<'a> {
    pub(crate) nr_cpus: u8,
    /// Whether two processors share a core.
    pub(crate) has_smt: bool,
    pub(crate) memory_mib: u64,
    pub(crate) source: boot::Source<'a>,
    pub(crate) devices: Vec<Box<dyn Device>>,
    pub(crate) boot_timer: Option<BootTimer>,
    pub(crate) output: Box<dyn Write + Send>,
    pub(crate) log: Arc<Log>,
}

/// A running or paused machine. Dropping it ends its processors, then its memory and devices.
pub(crate) struct Machine {
    vcpus: Vcpus,
    pub(crate) bus: Arc<Bus>,
    _vm: MappedVm,
    /// Written when the guest has ended.
    pub(crate) ended: Signal,
    /// Written when the guest's serial port has room again.
    pub(crate) input_emptied: Signal,
}

impl Machine {
    /// Builds and starts a machine.
    pub(crate) fn start(preparation: Preparation, plan: Plan<'_>) -> Result<Machine, MachineError> {
        let slots = slots(plan.devices.len())?;
        // Loading the kernel needs no KVM, so it runs while KVM may still be preparing.
        let memory = map_memory(plan.memory_mib)?;
        let entry = boot::load(&memory, &plan.source, plan.nr_cpus, &slots)?;
        let prepared = preparation.finish()?;
        let vm = MappedVm::new(prepared.vm, Arc::clone(&memory)).map_err(|source| {
            MachineError::Kvm {
                call: "KVM_SET_USER_MEMORY_REGION",
                source,
            }
        })?;
        let input_emptied = Signal::new().map_err(MachineError::Thread)?;
        let serial = SerialPort::new(
            line(vm.vm(), layout::SERIAL_IRQ)?,
            input_emptied.clone(),
            plan.output,
        );
        let keyboard = Keyboard::new(line(vm.vm(), layout::KEYBOARD_IRQ)?);
        let mut virtio = Vec::new();
        for (device, slot) in plan.devices.into_iter().zip(&slots) {
            let interrupt = Interrupt::new(line(vm.vm(), slot.irq)?);
            let transport = Transport::new(device, Arc::clone(&memory), interrupt);
            virtio.push(Mutex::new(transport.map_err(|_| MachineError::QueueSize)?));
        }
        let mut cpus = vec![prepared.first];
        for index in 1..plan.nr_cpus {
            cpus.push(
                vm.vm()
                    .create_vcpu(index.into())
                    .map_err(MachineError::kvm("KVM_CREATE_VCPU"))?,
            );
        }
        let processors = cpu::Processors {
            count: plan.nr_cpus,
            has_smt: plan.has_smt,
            supported: prepared.cpuid,
        };
        for (index, cpu) in (0..plan.nr_cpus).zip(&cpus) {
            cpu::configure(cpu, index, &processors, &memory, entry)?;
        }
        let bus = Arc::new(Bus {
            serial: Mutex::new(serial),
            keyboard: Mutex::new(keyboard),
            boot_timer: plan.boot_timer,
            virtio,
            log: plan.log,
        });
        let ended = Signal::new().map_err(MachineError::Thread)?;
        let vcpus = Vcpus::start(cpus, &bus, &memory, &ended)?;
        Ok(Machine {
            vcpus,
            bus,
            _vm: vm,
            ended,
            input_emptied,
        })
    }

    pub(crate) fn pause(&self) {
        self.vcpus.pause();
    }

    pub(crate) fn resume(&self) {
        self.vcpus.resume();
    }
}

fn slots(count: usize) -> Result<Vec<Slot>, MachineError> {
    let lines = layout::FIRST_IRQ..=layout::LAST_IRQ;
    if count > lines.clone().count() {
        return Err(MachineError::TooManyDevices(count));
    }
    let address = |index: u64| layout::VIRTIO_START + index * layout::VIRTIO_LEN;
    Ok((0..)
        .zip(lines)
        .take(count)
        .map(|(index, irq)| Slot {
            address: address(index),
            irq,
        })
        .collect())
}

/// Anonymous memory that costs nothing until it is touched.
fn map_memory(size_mib: u64) -> Result<Arc<Memory>, MachineError> {
    let regions = layout::regions(size_mib << 20);
    let memory =
        Memory::from_ranges(&regions).map_err(|error| MachineError::Memory(error.to_string()))?;
    Ok(Arc::new(memory))
}

/// An interrupt line: writing the event raises it, without a call into KVM by us (irqfd).
fn line(vm: &VmFd, irq: u32) -> Result<EventFd, MachineError> {
    let line = event()?;
    vm.register_irqfd(&line, irq)
        .map_err(MachineError::kvm("KVM_IRQFD"))?;
    Ok(line)
}

fn event() -> Result<EventFd, MachineError> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(MachineError::Thread)
}
