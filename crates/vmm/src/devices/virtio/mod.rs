//! Virtio devices on the memory-mapped transport (virtio 1.2 §4.2).
//!
//! A device is a folder here: it implements [`Device`], and the transport does the rest. The queues belong to the transport and are
//! lent to the device for each piece of work.
//!
//! # Who works a queue
//! The virtual CPU that rang. Handing the work to another thread by ioeventfd would spare the guest's CPU the time of the transfer,
//! but on a host where waking the other core costs 65 us and an exit 10 us it makes each request slower; and work done on the guest's
//! own thread counts against the guest's own CPU limit. What comes from outside (sockets) is worked by the loop.
//!
//! # What is hostile
//! Every register write, every index, address and length in a ring, and that they change while they are read. [`chain::Chain`]
//! reads each descriptor once and checks it; the transport refuses registers out of order; a broken ring stops the device
//! (`DEVICE_NEEDS_RESET`) and never the monitor.
pub mod balloon;
pub mod block;
pub mod chain;
pub mod console;
mod drain;
pub mod entropy;
pub mod memory;
pub mod net;
pub mod pmem;
mod transport;
mod transport_state;
pub mod vsock;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use virtio_queue::Queue;

pub use chain::{Broken, Chain, ChainState};
pub use drain::{Outcome, Worked, drain, drain_with, put_back};
pub use transport::{Interrupt, Transport};
pub use transport_state::TransportState;

use crate::Memory;
use crate::devices::limiter::RateLimiter;
use crate::devices::state::{DeviceState, StateError};
use crate::raw::{MappedVm, Window};

/// Where the guest finds a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) address: u64,
    pub(crate) irq: u32,
}

/// Feature bits every device of ours offers or that several share.
pub const VERSION_1: u64 = 1 << 32;
/// VIRTIO_F_EVENT_IDX (virtio 1.2 §2.7.10).
pub const EVENT_IDX: u64 = 1 << 29;

/// Version of the state of a device whose state is its limiter's.
const LIMITED: u16 = 1;

/// One kind of device. Methods are called with the transport's lock held.
pub trait Device: std::any::Any + Send + std::fmt::Debug {
    /// The device's number (virtio 1.2 §5).
    fn kind(&self) -> u32;
    /// The size limit of each of its queues.
    fn queue_sizes(&self) -> &'static [u16];
    /// Its own feature bits; the transport adds the general ones.
    fn features(&self) -> u64;
    /// Its configuration space as the driver reads it now.
    fn config(&self) -> Vec<u8>;
    /// The driver wrote `data` at `offset` of the configuration space. Most spaces are read-only.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}
    /// Hands over the guest's memory, once, for devices whose transfers go on while nobody calls them.
    ///
    /// # Errors
    /// If the host lacks what such a device needs.
    fn attach(&mut self, _memory: &Arc<Memory>) -> std::io::Result<()> {
        Ok(())
    }
    /// A file that the guest shall see as memory.
    fn window(&self) -> Option<&Arc<Window>> {
        None
    }
    /// How many bytes of address space it wants for memory that it plugs in. At most one device does.
    fn hotplug(&self) -> Option<u64> {
        None
    }
    /// Where its window or its memory lies.
    fn place(&mut self, _address: u64) {}
    /// Hands over the machine, to a device that plugs memory in.
    fn attach_vm(&mut self, _vm: &Arc<MappedVm>) {}
    /// The driver is ready; it accepted `features`.
    fn activate(&mut self, features: u64);
    /// Forgets the driver: it wants to start again.
    fn reset(&mut self);
    /// Works queue `index` off.
    fn work(
        &mut self,
        index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken>;
    /// The limiter of a device with one queue, and nothing else that the loop has to watch or a copy has to know: what follows from it below
    /// is the same for all of them. Devices with more than one say all of it themselves.
    fn limiter(&self) -> Option<&RateLimiter> {
        None
    }
    /// As `limiter`.
    fn limiter_mut(&mut self) -> Option<&mut RateLimiter> {
        None
    }
    /// Descriptors that become readable when [`Device::ready`] has something to do; the loop watches them for edges.
    fn event_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.limiter().map(RateLimiter::fd).into_iter().collect()
    }
    /// Handles what comes from outside. Called after `activate` too.
    fn ready(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        if self.limiter().is_none() {
            return Ok(Worked::default());
        }
        // Tokens are there again.
        let worked = self.work(0, queues, memory)?;
        if let Some(limiter) = self.limiter_mut().filter(|_| worked.more) {
            limiter.come_back();
        }
        Ok(worked)
    }
    /// Waits for the end of what the device does by itself. Called when the machine has been paused, so that a snapshot is whole.
    fn settle(&mut self, _queues: &mut [Queue], _memory: &Memory) -> Result<Worked, Broken> {
        Ok(Worked::default())
    }
    /// Whether its configuration space changed by its own doing, since the last call.
    fn has_news(&mut self) -> bool {
        false
    }
    /// What the device has counted since the last call.
    fn metrics(&mut self) -> Option<serde_json::Value> {
        None
    }
    /// What a copy of this device in another monitor needs to go on where this one stands. What stands in the configuration is not part
    /// of it: the copy was made from that. The driver's queues and registers are the transport's.
    fn save(&self) -> DeviceState {
        match self.limiter() {
            Some(limiter) => DeviceState::new(self.kind(), LIMITED, &limiter.save()),
            None => DeviceState::new(self.kind(), 0, &()),
        }
    }
    /// Takes over what `save` gave, on a fresh device, after `activate` if the driver was that far.
    ///
    /// # Errors
    /// If the state is not one that `save` gives: it may come from anybody's file.
    fn restore(&mut self, state: &DeviceState, _memory: &Memory) -> Result<(), StateError> {
        let kind = self.kind();
        match self.limiter_mut() {
            Some(limiter) => limiter.restore(state.read(kind, LIMITED)?),
            None => state.read(kind, 0)?,
        }
        Ok(())
    }
}

impl dyn Device {
    /// For changes that only one kind of device knows, such as another disk.
    pub fn downcast_mut<Kind: Device>(&mut self) -> Option<&mut Kind> {
        (self as &mut dyn std::any::Any).downcast_mut()
    }
}
