//! The memory-mapped transport: registers, status, queues. Sections are of virtio 1.2.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::EventFd;

use super::{Broken, Device, EVENT_IDX, VERSION_1, Worked};
use crate::Memory;

/// "virt" (§4.2.2).
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
// Registers of §4.2.2.
const DEVICE_FEATURES: u64 = 0x010;
const DEVICE_FEATURES_SELECT: u64 = 0x014;
const DRIVER_FEATURES: u64 = 0x020;
const DRIVER_FEATURES_SELECT: u64 = 0x024;
const QUEUE_SELECT: u64 = 0x030;
const QUEUE_SIZE_MAX: u64 = 0x034;
const QUEUE_SIZE: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const QUEUE_NOTIFY: u64 = 0x050;
const INTERRUPT_STATUS: u64 = 0x060;
const INTERRUPT_ACK: u64 = 0x064;
const STATUS: u64 = 0x070;
const QUEUE_DESCRIPTORS: u64 = 0x080;
const QUEUE_DRIVER: u64 = 0x090;
const QUEUE_DEVICE: u64 = 0x0a0;
const CONFIG_GENERATION: u64 = 0x0fc;
const CONFIG: u64 = 0x100;

// Status bits of §2.1.
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
pub(super) const DRIVER_OK: u32 = 4;
pub(super) const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 64;
const FAILED: u32 = 128;

pub(super) const USED_BUFFER: u32 = 1;
const CONFIG_CHANGED: u32 = 2;

/// A device's interrupt line and why it was raised (§4.2.2 InterruptStatus).
#[derive(Debug)]
pub struct Interrupt {
    line: EventFd,
    pub(super) status: u32,
}

impl Interrupt {
    #[must_use]
    pub fn new(line: EventFd) -> Interrupt {
        Interrupt { line, status: 0 }
    }

    pub(super) fn raise(&mut self, reason: u32) {
        self.status |= reason;
        // An eventfd of ours can only fail when 2^64 - 2 interrupts wait.
        let _ = self.line.write(1);
    }
}

/// A device as its driver sees it.
#[derive(Debug)]
pub struct Transport {
    pub(super) device: Box<dyn Device>,
    pub(super) memory: Arc<Memory>,
    pub(super) interrupt: Interrupt,
    pub(super) queues: Vec<Queue>,
    pub(super) status: u32,
    pub(super) device_features_page: u32,
    pub(super) driver_features_page: u32,
    pub(super) driver_features: u64,
    pub(super) selected: usize,
    pub(super) generation: u32,
    /// Why the device stopped, for the log.
    pub(crate) broken: Option<Broken>,
}

impl Transport {
    /// Puts `device` on a transport.
    ///
    /// # Errors
    /// If a queue size of the device is no power of two, or the host lacks what the device needs.
    pub fn new(
        mut device: Box<dyn Device>,
        memory: Arc<Memory>,
        interrupt: Interrupt,
    ) -> std::io::Result<Transport> {
        let queues = device
            .queue_sizes()
            .iter()
            .map(|size| Queue::new(*size))
            .collect::<Result<_, _>>()
            .map_err(std::io::Error::other)?;
        device.attach(&memory)?;
        Ok(Transport {
            device,
            memory,
            interrupt,
            queues,
            status: 0,
            device_features_page: 0,
            driver_features_page: 0,
            driver_features: 0,
            selected: 0,
            generation: 0,
            broken: None,
        })
    }

    /// A read of a register, or of the configuration space. Registers are four bytes wide (§4.2.2.2).
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        if offset >= CONFIG {
            let config = self.device.config();
            let start = usize::try_from(offset - CONFIG).unwrap_or(usize::MAX);
            for (index, byte) in data.iter_mut().enumerate() {
                *byte = start
                    .checked_add(index)
                    .and_then(|at| config.get(at))
                    .copied()
                    .unwrap_or(0);
            }
            return;
        }
        let value = if data.len() == 4 {
            self.register(offset)
        } else {
            0
        };
        data.iter_mut()
            .zip(value.to_le_bytes())
            .for_each(|(to, from)| *to = from);
    }

    fn register(&self, offset: u64) -> u32 {
        let queue = self.queues.get(self.selected);
        match offset {
            0x000 => MAGIC,
            0x004 => VERSION,
            0x008 => self.device.kind(),
            DEVICE_FEATURES => page(self.features(), self.device_features_page),
            QUEUE_SIZE_MAX => queue.map_or(0, |queue| u32::from(queue.max_size())),
            QUEUE_READY => queue.map_or(0, |queue| u32::from(queue.ready())),
            INTERRUPT_STATUS => self.interrupt.status,
            STATUS => self.status,
            CONFIG_GENERATION => self.generation,
            _ => 0,
        }
    }

    /// A write to a register, or to the configuration space. Returns whether the same write should be made again, because a queue has
    /// more work than one turn allows.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        if offset >= CONFIG {
            if self.status & DRIVER != 0 {
                self.device.write_config(offset - CONFIG, data);
            }
            return false;
        }
        let Ok(bytes) = <[u8; 4]>::try_from(data) else {
            return false;
        };
        let value = u32::from_le_bytes(bytes);
        match offset {
            DEVICE_FEATURES_SELECT => self.device_features_page = value,
            DRIVER_FEATURES_SELECT => self.driver_features_page = value,
            DRIVER_FEATURES if self.status & (DRIVER | FEATURES_OK) == DRIVER => {
                self.set_features(value)
            }
            QUEUE_SELECT => self.selected = usize::try_from(value).unwrap_or(usize::MAX),
            QUEUE_NOTIFY => return self.notify(value),
            INTERRUPT_ACK => self.interrupt.status &= !value,
            STATUS => self.set_status(value),
            _ => self.set_queue(offset, value),
        }
        false
    }

    pub(super) fn features(&self) -> u64 {
        self.device.features() | VERSION_1 | EVENT_IDX
    }

    fn set_features(&mut self, value: u32) {
        let shift = match self.driver_features_page {
            0 => 0,
            1 => 32,
            _ => return,
        };
        let kept = self.driver_features & !(u64::from(u32::MAX) << shift);
        self.driver_features = kept | u64::from(value) << shift;
    }

    /// Queues can be set up after FEATURES_OK, before DRIVER_OK, and while the queue itself is not ready (§4.2.2.2): a guest that
    /// moves a ring in use would make us check one ring and use another.
    fn set_queue(&mut self, offset: u64, value: u32) {
        if self.status & (FEATURES_OK | DRIVER_OK) != FEATURES_OK {
            return;
        }
        let Some(queue) = self.queues.get_mut(self.selected) else {
            return;
        };
        if offset == QUEUE_READY {
            queue.set_ready(value == 1);
            return;
        }
        if queue.ready() {
            return;
        }
        match offset {
            QUEUE_SIZE => queue.set_size(u16::try_from(value).unwrap_or(0)),
            QUEUE_DESCRIPTORS => queue.set_desc_table_address(Some(value), None),
            0x084 => queue.set_desc_table_address(None, Some(value)),
            QUEUE_DRIVER => queue.set_avail_ring_address(Some(value), None),
            0x094 => queue.set_avail_ring_address(None, Some(value)),
            QUEUE_DEVICE => queue.set_used_ring_address(Some(value), None),
            0x0a4 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    /// The driver's steps in their order (§3.1.1); a write that leaves one out or takes a bit back changes nothing.
    fn set_status(&mut self, value: u32) {
        if value == 0 {
            self.reset();
            return;
        }
        let added = value & !self.status;
        if value & FAILED != 0 {
            self.status |= FAILED;
            return;
        }
        // Drivers write the old bits along with the new one.
        if self.status & !NEEDS_RESET & !value != 0 {
            return;
        }
        match (self.status & !NEEDS_RESET, added) {
            (0, ACKNOWLEDGE) => self.status |= ACKNOWLEDGE,
            (0, 3) => self.status |= ACKNOWLEDGE | DRIVER,
            (ACKNOWLEDGE, DRIVER) => self.status |= DRIVER,
            (3, FEATURES_OK) if self.agreed() => self.status |= FEATURES_OK,
            (11, DRIVER_OK) => self.activate(),
            _ => {}
        }
    }

    /// Whether the driver chose a subset, and no legacy interface (§6.1).
    fn agreed(&self) -> bool {
        self.driver_features & !self.features() == 0 && self.driver_features & VERSION_1 != 0
    }

    fn activate(&mut self) {
        let is_usable = |queue: &Queue| !queue.ready() || queue.is_valid(&*self.memory);
        if !self.queues.iter().all(is_usable) {
            self.stop(Broken::OutOfMemory);
            return;
        }
        let event_idx = self.driver_features & EVENT_IDX != 0;
        self.queues
            .iter_mut()
            .for_each(|queue| queue.set_event_idx(event_idx));
        self.status |= DRIVER_OK;
        self.device.activate(self.driver_features);
        self.ready();
    }

    fn reset(&mut self) {
        self.device.reset();
        self.queues.iter_mut().for_each(Queue::reset);
        self.status = 0;
        self.driver_features = 0;
        self.device_features_page = 0;
        self.driver_features_page = 0;
        self.selected = 0;
        self.interrupt.status = 0;
    }

    pub(super) fn is_live(&self) -> bool {
        self.status & (DRIVER_OK | NEEDS_RESET | FAILED) == DRIVER_OK
    }

    pub(super) fn notify(&mut self, index: u32) -> bool {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if !self.is_live() || !self.queues.get(index).is_some_and(Queue::ready) {
            return false;
        }
        let result = self.device.work(index, &mut self.queues, &self.memory);
        self.signal(result)
    }

    /// Lets the device end what it does by itself: the machine stands still.
    pub fn settle(&mut self) {
        if self.is_live() {
            let result = self.device.settle(&mut self.queues, &self.memory);
            self.signal(result);
        }
    }

    /// Lets the device handle what came from outside.
    pub fn ready(&mut self) {
        if self.is_live() {
            let result = self.device.ready(&mut self.queues, &self.memory);
            // What is left over waits for the guest's next ring: only it can have made the work.
            self.signal(result);
        }
    }

    pub(super) fn signal(&mut self, result: Result<Worked, Broken>) -> bool {
        match result {
            Ok(worked) => {
                if self.device.has_news() {
                    self.generation = self.generation.wrapping_add(1);
                    self.interrupt.raise(CONFIG_CHANGED);
                }
                if worked.interrupt {
                    // The used index is in memory before the interrupt (§2.7.8).
                    std::sync::atomic::fence(Ordering::SeqCst);
                    self.interrupt.raise(USED_BUFFER);
                }
                worked.more
            }
            Err(broken) => {
                self.stop(broken);
                false
            }
        }
    }

    /// §2.1.2: the device tells its driver that only a reset helps.
    fn stop(&mut self, broken: Broken) {
        self.broken = Some(broken);
        self.status |= NEEDS_RESET;
        self.interrupt.raise(CONFIG_CHANGED);
    }

    /// Changes the device and tells the driver to read its configuration again.
    pub(crate) fn reconfigure<T>(&mut self, change: impl FnOnce(&mut dyn Device) -> T) -> T {
        self.generation = self.generation.wrapping_add(1);
        let result = change(&mut *self.device);
        if self.is_live() {
            self.interrupt.raise(CONFIG_CHANGED);
        }
        result
    }

    /// The device, without telling the driver.
    pub(crate) fn device(&mut self) -> &mut dyn Device {
        &mut *self.device
    }
}

/// Half of 64 feature bits; other pages do not exist.
fn page(features: u64, page: u32) -> u32 {
    let half = if page < 2 {
        features >> (32 * page) & u64::from(u32::MAX)
    } else {
        0
    };
    u32::try_from(half).unwrap_or(0)
}
