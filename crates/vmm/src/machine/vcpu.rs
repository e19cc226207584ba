//! A virtual CPU and its thread.
use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::signal::{Killable, register_signal_handler};

use crate::Memory;
use crate::devices::Output;
use crate::devices::{Bus, lock};
use crate::log::Level;
use crate::machine::{MachineError, Signal};
use crate::raw;
use crate::seccomp::Filters;

/// What the loop wants of all virtual CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Run,
    Pause,
    End,
}

#[derive(Debug)]
struct State {
    wanted: Wanted,
    /// How many threads wait at the gate.
    nr_parked: usize,
}

/// Where virtual CPUs stop. Pausing and ending go through it.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn new(is_open: bool) -> Gate {
        Gate {
            state: Mutex::new(State {
                wanted: if is_open { Wanted::Run } else { Wanted::Pause },
                nr_parked: 0,
            }),
            changed: Condvar::new(),
        }
    }

    fn set(&self, wanted: Wanted) {
        lock(&self.state).wanted = wanted;
        self.changed.notify_all();
    }

    /// Waits here while paused. False: the thread shall end.
    fn pass(&self) -> bool {
        let mut state = lock(&self.state);
        state.nr_parked += 1;
        while state.wanted == Wanted::Pause {
            self.changed.notify_all();
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.nr_parked -= 1;
        state.wanted == Wanted::Run
    }

    fn has_orders(&self) -> bool {
        lock(&self.state).wanted != Wanted::Run
    }
}

/// The threads of a machine's virtual CPUs.
#[derive(Debug)]
pub(crate) struct Vcpus {
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
    /// Locked by a CPU's thread while it runs, free while it is parked.
    cpus: Vec<Arc<Mutex<VcpuFd>>>,
}

/// Tells of a CPU's end even if its thread panics: a machine must not go on with one processor less.
struct SendAtEnd(Signal);

impl Drop for SendAtEnd {
    fn drop(&mut self) {
        self.0.send();
    }
}

/// The signal that takes a CPU out of its guest: the first that no C library keeps for itself.
const KICK: libc::c_int = 35;

/// Has the signal that takes a CPU out of its guest do nothing else. Before the filter, which lets nobody change what signals do.
pub(crate) fn allow_kicks() -> std::io::Result<()> {
    register_signal_handler(KICK, interrupted).map_err(std::io::Error::from)
}

extern "C" fn interrupted(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // Only there so that KVM_RUN returns with EINTR.
}

impl Vcpus {
    /// Starts a thread per CPU; they wait at the gate unless `runs`. `ended` is written when the guest ends or resets, or a CPU fails.
    pub(crate) fn start(
        cpus: Vec<VcpuFd>,
        surroundings: &Surroundings,
        ended: &Signal,
        runs: bool,
    ) -> Result<Vcpus, MachineError> {
        let mut vcpus = Vcpus {
            gate: Arc::new(Gate::new(runs)),
            threads: Vec::new(),
            cpus: cpus
                .into_iter()
                .map(|cpu| Arc::new(Mutex::new(cpu)))
                .collect(),
        };
        for (index, fd) in vcpus.cpus.iter().enumerate() {
            let vcpu = Vcpu {
                fd: Arc::clone(fd),
                gate: Arc::clone(&vcpus.gate),
                around: surroundings.clone(),
            };
            let ended = ended.clone();
            let body = move || {
                let _ended = SendAtEnd(ended);
                vcpu.run(index);
            };
            // A stack of 2 MiB is only address space; what is touched of it counts.
            let thread = Builder::new().name(format!("vcpu{index}")).spawn(body);
            vcpus.threads.push(thread.map_err(MachineError::Thread)?);
        }
        Ok(vcpus)
    }

    /// Returns when every CPU stands still.
    pub(crate) fn pause(&self) {
        self.gate.set(Wanted::Pause);
        let mut state = lock(&self.gate.state);
        while state.nr_parked
            < self
                .threads
                .iter()
                .filter(|thread| !thread.is_finished())
                .count()
        {
            self.kick();
            // A signal that comes between a thread's look at the gate and KVM_RUN is lost, so repeat it.
            let waited = self
                .gate
                .changed
                .wait_timeout(state, Duration::from_millis(1));
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    pub(crate) fn resume(&self) {
        self.gate.set(Wanted::Run);
    }

    /// The CPUs. Whoever locks one has paused them.
    pub(crate) fn cpus(&self) -> &[Arc<Mutex<VcpuFd>>] {
        &self.cpus
    }

    fn kick(&self) {
        for thread in &self.threads {
            // Only a thread that has ended cannot be signalled.
            let _ = thread.kill(KICK);
        }
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.gate.set(Wanted::End);
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            self.kick();
            std::thread::sleep(Duration::from_micros(200));
        }
        for thread in self.threads.drain(..) {
            // A panic of a CPU's thread was reported by the panic handler.
            let _ = thread.join();
        }
    }
}

struct Vcpu {
    fd: Arc<Mutex<VcpuFd>>,
    gate: Arc<Gate>,
    around: Surroundings,
}

/// What a CPU's thread works with.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) bus: Arc<Bus>,
    /// Keeps the memory mapped for as long as this CPU may touch it (see `raw.rs`).
    pub(super) _memory: Arc<Memory>,
    pub(super) filters: Filters,
}

/// Why a CPU's loop goes round again, or does not.
enum Turn {
    Next,
    Look,
    /// A write to make again: a device has work left.
    Repeat(u64, Vec<u8>),
    End(Level, String),
    Failed,
}

impl Vcpu {
    fn run(self, index: usize) {
        if let Err(reason) = self.around.filters.close_vcpu() {
            let message = format!("vcpu{index}: seccomp: {reason}");
            self.around.bus.log.write(Level::Error, &message);
            return;
        }
        let mut repeat: Option<(u64, Vec<u8>)> = None;
        if self.gate.has_orders() && !self.gate.pass() {
            return;
        }
        loop {
            let turn = match repeat.take() {
                Some((address, data)) => memory_write(&self.around.bus, address, &data),
                None => self.turn(),
            };
            match turn {
                Turn::Next | Turn::Failed => {}
                Turn::Look => {
                    if !self.gate.pass() {
                        return;
                    }
                }
                Turn::Repeat(address, data) => {
                    repeat = Some((address, data));
                    // Lets whoever waits for the device have it.
                    std::thread::yield_now();
                    if self.gate.has_orders() && !self.gate.pass() {
                        return;
                    }
                }
                Turn::End(level, reason) => {
                    self.around
                        .bus
                        .log
                        .write(level, &format!("vcpu{index}: {reason}"));
                    return;
                }
            }
        }
    }

    /// Runs the guest until it needs something, and gives it that.
    fn turn(&self) -> Turn {
        match self.enter() {
            Turn::Failed => self.tell_failure(),
            turn => turn,
        }
    }

    /// What the guest did that KVM could not do for it.
    fn tell_failure(&self) -> Turn {
        let mut cpu = lock(&self.fd);
        let place = cpu.get_regs().map_or(0, |registers| registers.rip);
        let bytes = raw::failed_instruction(&mut cpu);
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let reason = format!(
            "KVM cannot go on at {place:#x}, instruction {}",
            bytes.join(" ")
        );
        Turn::End(Level::Error, reason)
    }

    fn enter(&self) -> Turn {
        // 20 ns beside an exit of 10 us; free again before the gate, so that a paused CPU can be asked for its state.
        match lock(&self.fd).run() {
            Ok(VcpuExit::IoOut(port, data)) => match self.around.bus.port_write(port, data) {
                Output::Reset => Turn::End(Level::Info, "the guest asked for a reset".to_owned()),
                _ => Turn::Next,
            },
            Ok(VcpuExit::IoIn(port, data)) => {
                self.around.bus.port_read(port, data);
                Turn::Next
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                self.around.bus.memory_read(address, data);
                Turn::Next
            }
            Ok(VcpuExit::MmioWrite(address, data)) => memory_write(&self.around.bus, address, data),
            Ok(VcpuExit::Intr) => Turn::Look,
            Ok(VcpuExit::Shutdown) => Turn::End(Level::Info, "triple fault".to_owned()),
            Ok(VcpuExit::Hlt) => Turn::End(Level::Info, "halt".to_owned()),
            Ok(VcpuExit::SystemEvent(kind, _)) => {
                Turn::End(Level::Info, format!("system event {kind}"))
            }
            Ok(VcpuExit::FailEntry(reason, _)) => Turn::End(
                Level::Error,
                format!("KVM cannot enter the guest: {reason:#x}"),
            ),
            Ok(VcpuExit::InternalError) => Turn::Failed,
            Ok(other) => Turn::End(Level::Error, format!("unexpected exit {other:?}")),
            Err(error) => match std::io::Error::from(error).kind() {
                ErrorKind::Interrupted => Turn::Look,
                // KVM_RUN of a CPU that waits for its start-up interrupt.
                ErrorKind::WouldBlock => Turn::Look,
                _ => Turn::End(Level::Error, format!("KVM_RUN: {error}")),
            },
        }
    }
}

fn memory_write(bus: &Bus, address: u64, data: &[u8]) -> Turn {
    match bus.memory_write(address, data) {
        Output::Again => Turn::Repeat(address, data.to_vec()),
        _ => Turn::Next,
    }
}
