//! A transport's registers and queues as plain data, for snapshots and forks.
use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueState, QueueT};
use vm_memory::GuestAddress;

use super::Transport;
use super::transport::{DRIVER_OK, FEATURES_OK, USED_BUFFER};
use crate::devices::state::{DeviceState, StateError};

/// A queue of the driver. Its longest size is the device's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ring {
    size: u16,
    ready: bool,
    event_idx: bool,
    next_available: u16,
    next_used: u16,
    descriptors: u64,
    available: u64,
    used: u64,
}

/// What a driver has set on a transport, and its device's own state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportState {
    status: u32,
    device_features_page: u32,
    driver_features_page: u32,
    driver_features: u64,
    selected: u64,
    generation: u32,
    interrupt_status: u32,
    rings: Vec<Ring>,
    device: DeviceState,
}

impl Transport {
    /// Everything the driver could find out about. The virtual CPUs stand still.
    #[must_use]
    pub fn save(&mut self) -> TransportState {
        self.settle();
        TransportState {
            status: self.status,
            device_features_page: self.device_features_page,
            driver_features_page: self.driver_features_page,
            driver_features: self.driver_features,
            selected: self.selected as u64,
            generation: self.generation,
            interrupt_status: self.interrupt.status,
            rings: self
                .queues
                .iter()
                .map(|queue| save_ring(&queue.state()))
                .collect(),
            device: self.device.save(),
        }
    }

    /// Takes over `state`, on a fresh transport with a fresh device.
    ///
    /// # Errors
    /// If the device is another one than the state's: other features, other queues, rings outside of the memory.
    pub fn restore(&mut self, state: &TransportState) -> Result<(), StateError> {
        if state.rings.len() != self.queues.len() {
            return Err(StateError::Unfit("the number of queues"));
        }
        // Before FEATURES_OK a driver may have written anything.
        if state.status & FEATURES_OK != 0 && state.driver_features & !self.features() != 0 {
            return Err(StateError::Unfit("what the driver relies on"));
        }
        let mut queues = Vec::new();
        for (ring, queue) in state.rings.iter().zip(&self.queues) {
            queues.push(restore_ring(ring, queue.max_size())?);
        }
        let is_usable = |queue: &Queue| !queue.ready() || queue.is_valid(&*self.memory);
        if state.status & DRIVER_OK != 0 && !queues.iter().all(is_usable) {
            return Err(StateError::Unfit("a queue"));
        }
        if state.status & DRIVER_OK != 0 {
            self.device.activate(state.driver_features);
        }
        self.device.restore(&state.device, &self.memory)?;
        self.queues = queues;
        self.status = state.status;
        self.device_features_page = state.device_features_page;
        self.driver_features_page = state.driver_features_page;
        self.driver_features = state.driver_features;
        self.selected = usize::try_from(state.selected).unwrap_or(usize::MAX);
        self.generation = state.generation;
        self.interrupt.status = state.interrupt_status;
        Ok(())
    }

    /// Makes up for what a copy cannot have got: a ring of the doorbell or an interrupt that was under way. Both are harmless twice.
    pub fn wake(&mut self) {
        if !self.is_live() {
            return;
        }
        for index in 0..u32::try_from(self.queues.len()).unwrap_or(0) {
            while self.notify(index) {}
        }
        self.ready();
        if self.is_live() {
            self.interrupt.raise(USED_BUFFER);
        }
    }
}

fn save_ring(queue: &QueueState) -> Ring {
    Ring {
        size: queue.size,
        ready: queue.ready,
        event_idx: queue.event_idx_enabled,
        next_available: queue.next_avail,
        next_used: queue.next_used,
        descriptors: queue.desc_table,
        available: queue.avail_ring,
        used: queue.used_ring,
    }
}

fn restore_ring(ring: &Ring, max_size: u16) -> Result<Queue, StateError> {
    let unfit = |_| StateError::Unfit("a queue's size or place");
    let mut queue = Queue::new(max_size).map_err(unfit)?;
    queue.try_set_size(ring.size).map_err(unfit)?;
    queue
        .try_set_desc_table_address(GuestAddress(ring.descriptors))
        .map_err(unfit)?;
    queue
        .try_set_avail_ring_address(GuestAddress(ring.available))
        .map_err(unfit)?;
    queue
        .try_set_used_ring_address(GuestAddress(ring.used))
        .map_err(unfit)?;
    queue.set_next_avail(ring.next_available);
    queue.set_next_used(ring.next_used);
    queue.set_event_idx(ring.event_idx);
    queue.set_ready(ring.ready);
    Ok(queue)
}
