//! A virtual machine: memory, processors, interrupts, devices.
pub(crate) mod boot;
mod cpu;
mod cpu_state;
mod cpu_template;
mod generation;
pub(crate) mod layout;
mod prepared;
mod signal;
mod state;
mod vcpu;
mod windows;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use kvm_bindings::CpuId;
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use vm_memory::mmap::MmapRegion;
use vm_memory::{GuestMemoryBackend, GuestMemoryError, GuestRegionMmap};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::Memory;
use crate::controller::Shared;
use crate::devices::state::StateError;
use crate::devices::{BootTimer, Bus, EXITS, Keyboard, SerialPort, UART, lock};
use crate::log::Log;
use crate::raw::{self, MappedVm};
use crate::seccomp::Filters;
use crate::virtio::{Device, Interrupt, Slot, Transport};
use cpu_state::Abilities;
pub(crate) use cpu_template::CpuTemplate;
use generation::Generation;
pub(crate) use layout::Extent;
pub(crate) use prepared::{Preparation, Prepared, prepare};
pub(crate) use signal::Signal;
use state::Chips;
pub(crate) use state::MachineState;
pub(crate) use vcpu::allow_kicks;
use vcpu::{Surroundings, Vcpus};

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
    #[error(
        "the CPU template changes CPUID leaf {leaf:#x}, subleaf {subleaf:#x}, which this host does not have"
    )]
    NoLeaf { leaf: u32, subleaf: u32 },
    #[error("the CPU template needs capability {0} of KVM, which this host does not have")]
    NoCapability(u32),
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
    #[error("seccomp: {0}")]
    Filter(String),
    #[error("the thread that prepares KVM ended early")]
    Panicked,
    #[error("{0} virtio devices; the interrupt controller has lines for {max}", max = layout::LAST_IRQ - layout::FIRST_IRQ + 1)]
    TooManyDevices(usize),
    #[error("a device's queue size is no power of two")]
    QueueSize,
    #[error("the state's {0} does not fit this machine")]
    State(&'static str),
    #[error("the state of a device: {0}")]
    Device(#[from] StateError),
}

impl MachineError {
    fn kvm(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
        move |error| MachineError::Kvm {
            call,
            source: error.into(),
        }
    }
}

/// What a machine is made of, besides its memory and what the guest starts with.
pub(crate) struct Plan {
    pub(crate) nr_cpus: u8,
    /// Whether two processors share a core.
    pub(crate) has_smt: bool,
    pub(crate) template: CpuTemplate,
    pub(crate) devices: Vec<Box<dyn Device>>,
    pub(crate) boot_timer: Option<BootTimer>,
    pub(crate) output: Box<dyn Write + Send>,
    pub(crate) log: Arc<Log>,
    pub(crate) filters: Filters,
}

/// A running or paused machine. Dropping it ends its processors, then its memory and devices.
pub(crate) struct Machine {
    vcpus: Vcpus,
    pub(crate) bus: Arc<Bus>,
    vm: Arc<MappedVm>,
    abilities: Abilities,
    generation: Generation,
    /// Written when the guest has ended.
    pub(crate) ended: Signal,
    /// Written when the guest's serial port has room again.
    pub(crate) input_emptied: Signal,
}

impl Machine {
    /// Boots a machine: it runs when this returns.
    pub(crate) fn start(
        preparation: Preparation,
        plan: Plan,
        extent: Extent,
        source: &boot::Source<'_>,
    ) -> Result<Machine, MachineError> {
        let slots = slots(plan.devices.len())?;
        // Loading the kernel needs no KVM, so it runs while KVM may still be preparing.
        let ram = Extent {
            hotplug: 0,
            ..extent
        };
        let memory = map_memory(ram)?;
        let entry = boot::load(&memory, source, plan.nr_cpus, &slots)?;
        Generation::write(&memory)?;
        let memory = add_hotplug(memory, extent)?;
        let template = plan.template.clone();
        let (nr_cpus, has_smt) = (plan.nr_cpus, plan.has_smt);
        let parts = Parts::assemble(preparation.finish()?, plan, memory, None)?;
        let mut supported = parts.cpuid.clone();
        template.check_capabilities(parts.vm.vm())?;
        template.change_cpuid(&mut supported)?;
        let processors = cpu::Processors {
            count: nr_cpus,
            has_smt,
            supported,
        };
        for (index, cpu) in (0..nr_cpus).zip(&parts.cpus) {
            cpu::configure(cpu, index, &processors, parts.vm.memory(), entry)?;
            template.change_msrs(cpu)?;
        }
        parts.start(true)
    }

    /// Builds a machine that goes on where `state` stands, paused. It gets a generation id of its own, and the guest is told.
    pub(crate) fn restore(
        prepared: Prepared,
        plan: Plan,
        memory: Arc<Memory>,
        state: &MachineState,
    ) -> Result<Machine, MachineError> {
        if state.cpus.len() != usize::from(plan.nr_cpus) {
            return Err(MachineError::State("number of processors"));
        }
        if state.transports.len() != plan.devices.len() {
            return Err(MachineError::State("number of devices"));
        }
        Generation::write(&memory)?;
        let parts = Parts::assemble(prepared, plan, memory, Some(state))?;
        for (cpu, state) in parts.cpus.iter().zip(&state.cpus) {
            cpu_state::restore(cpu, state, &parts.abilities)?;
        }
        state.chips.restore(parts.vm.vm())?;
        let machine = parts.start(false)?;
        // After the interrupt controllers have their state: what is raised before is forgotten.
        machine.generation.notify();
        for transport in &machine.bus.virtio {
            lock(transport).wake();
        }
        Ok(machine)
    }

    /// The state of a paused machine.
    pub(crate) fn save(&self) -> Result<MachineState, MachineError> {
        // The devices first: what they finish may raise an interrupt.
        let transports = self
            .bus
            .virtio
            .iter()
            .map(|transport| lock(transport).save());
        let transports = transports.collect();
        let cpus = self.vcpus.cpus().iter();
        Ok(MachineState {
            transports,
            chips: Chips::save(self.vm.vm())?,
            cpus: cpus
                .map(|cpu| cpu_state::save(&lock(cpu), &self.abilities))
                .collect::<Result<_, _>>()?,
            serial: lock(&self.bus.serial).save(),
            keyboard: lock(&self.bus.keyboard).save(),
        })
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        self.vm.memory()
    }

    pub(crate) fn pause(&self) {
        self.vcpus.pause();
        for cpu in self.vcpus.cpus() {
            // Tells a guest with the clock of KVM that it was stopped, so that its watchdog does not bark. Others have no use for it.
            let _ = lock(cpu).kvmclock_ctrl();
        }
    }

    pub(crate) fn resume(&self) {
        self.vcpus.resume();
    }
}

/// A machine whose processors have no state yet.
struct Parts {
    vm: Arc<MappedVm>,
    cpus: Vec<VcpuFd>,
    cpuid: CpuId,
    bus: Bus,
    abilities: Abilities,
    generation: Generation,
    input_emptied: Signal,
    filters: Filters,
}

impl Parts {
    fn assemble(
        prepared: Prepared,
        mut plan: Plan,
        memory: Arc<Memory>,
        state: Option<&MachineState>,
    ) -> Result<Parts, MachineError> {
        let has_hotplug = plan.devices.iter().any(|device| device.hotplug().is_some());
        let nr_ram = memory.num_regions() - usize::from(has_hotplug);
        let vm = MappedVm::new(prepared.vm, Arc::clone(&memory), nr_ram).map_err(|source| {
            MachineError::Kvm {
                call: "KVM_SET_USER_MEMORY_REGION",
                source,
            }
        })?;
        let vm = Arc::new(vm);
        windows::place(&mut plan.devices, &vm)?;
        let input_emptied = Signal::new().map_err(MachineError::Thread)?;
        let serial_line = line(vm.vm(), layout::SERIAL_IRQ)?;
        let serial = match state {
            Some(state) => SerialPort::restore(
                &state.serial,
                serial_line,
                input_emptied.clone(),
                plan.output,
            )?,
            None => SerialPort::new(serial_line, input_emptied.clone(), plan.output),
        };
        let mut keyboard = Keyboard::new(line(vm.vm(), layout::KEYBOARD_IRQ)?);
        if let Some(state) = state {
            keyboard.restore(&state.keyboard)?;
        }
        let mut virtio = Vec::new();
        let slots = slots(plan.devices.len())?;
        for (index, (device, slot)) in plan.devices.into_iter().zip(&slots).enumerate() {
            let interrupt = Interrupt::new(line(vm.vm(), slot.irq)?);
            let mut transport = Transport::new(device, Arc::clone(&memory), interrupt)
                .map_err(|_| MachineError::QueueSize)?;
            if let Some(state) = state.and_then(|state| state.transports.get(index)) {
                transport.restore(state)?;
            }
            virtio.push(Mutex::new(transport));
        }
        let mut cpus = vec![prepared.first];
        for index in 1..plan.nr_cpus {
            let cpu = vm.vm().create_vcpu(index.into());
            cpus.push(cpu.map_err(MachineError::kvm("KVM_CREATE_VCPU"))?);
        }
        for cpu in &mut cpus {
            raw::keep_out_of_children(cpu, vm.vm().run_size()).map_err(MachineError::Thread)?;
        }
        let generation = Generation::new(line(vm.vm(), layout::GENERATION_IRQ)?);
        Ok(Parts {
            vm,
            cpus,
            cpuid: prepared.cpuid,
            bus: Bus {
                serial: Mutex::new(serial),
                keyboard: Mutex::new(keyboard),
                boot_timer: plan.boot_timer,
                virtio,
                log: plan.log,
                exits: Shared::new(EXITS),
                uart: Shared::new(UART),
            },
            abilities: prepared.abilities,
            generation,
            input_emptied,
            filters: plan.filters,
        })
    }

    fn start(self, runs: bool) -> Result<Machine, MachineError> {
        let bus = Arc::new(self.bus);
        let ended = Signal::new().map_err(MachineError::Thread)?;
        let surroundings = Surroundings {
            bus: Arc::clone(&bus),
            _memory: Arc::clone(self.vm.memory()),
            filters: self.filters,
        };
        // While this is the only thread: no other processor has to be told.
        raw::release_code();
        let vcpus = Vcpus::start(self.cpus, &surroundings, &ended, runs)?;
        Ok(Machine {
            vcpus,
            bus,
            vm: self.vm,
            abilities: self.abilities,
            generation: self.generation,
            ended,
            input_emptied: self.input_emptied,
        })
    }
}

/// Random bytes of the host for identities.
pub(crate) fn raw_random() -> Result<[u8; generation::ID_BYTES], MachineError> {
    let mut bytes = [0; generation::ID_BYTES];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| MachineError::Thread(error.into()))?;
    Ok(bytes)
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
fn map_memory(extent: Extent) -> Result<Arc<Memory>, MachineError> {
    let regions = layout::regions(extent);
    let memory =
        Memory::from_ranges(&regions).map_err(|error| MachineError::Memory(error.to_string()))?;
    Ok(Arc::new(memory))
}

/// Adds the address space for memory that is plugged in later: what a guest starts with was laid out without it.
fn add_hotplug(memory: Arc<Memory>, extent: Extent) -> Result<Arc<Memory>, MachineError> {
    if extent.hotplug == 0 {
        return Ok(memory);
    }
    let failed = |error: &dyn std::fmt::Display| MachineError::Memory(error.to_string());
    let (start, length) = layout::regions(extent)
        .pop()
        .ok_or(MachineError::State("memory"))?;
    let mapping = MmapRegion::new(length).map_err(|error| failed(&error))?;
    let region = GuestRegionMmap::new(mapping, start).ok_or(MachineError::State("memory"))?;
    let memory = memory.insert_region(Arc::new(region));
    Ok(Arc::new(memory.map_err(|error| failed(&error))?))
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
