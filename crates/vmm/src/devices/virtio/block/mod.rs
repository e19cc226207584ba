//! A block device on a file (virtio 1.2 §5.2): read, write, flush, identity.
mod disk;
mod queue;
mod request;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

pub use disk::{Disk, DiskError};
use serde::Serialize;
use virtio_queue::Queue;

use self::queue::Pending;
use super::{Broken, Device, Worked};
use crate::Memory;
use crate::devices::limiter::{Level, Limits, RateLimiter};
use crate::devices::state::{DeviceState, StateError};
use crate::raw::Transfers;

/// VIRTIO_BLK_F_RO, VIRTIO_BLK_F_FLUSH (§5.2.3).
const READ_ONLY: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
/// Transfers of the engine `Async` at once; further requests wait on the ring.
const DEPTH: u32 = 128;
/// Version of its state: where its limiter stands.
const STATE: u16 = 1;

/// Who waits for the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The virtual CPU that rang.
    #[default]
    Sync,
    /// Nobody: io_uring does the transfer, and the loop tells the guest.
    Async,
}

/// For the metrics, with Firecracker's names.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) activate_fails: u64,
    pub(crate) cfg_fails: u64,
    pub(crate) no_avail_buffer: u64,
    pub(crate) event_fails: u64,
    pub(crate) execute_fails: u64,
    pub(crate) invalid_reqs_count: u64,
    pub(crate) flush_count: u64,
    pub(crate) queue_event_count: u64,
    pub(crate) rate_limiter_event_count: u64,
    pub(crate) update_count: u64,
    pub(crate) update_fails: u64,
    pub(crate) read_bytes: u64,
    pub(crate) write_bytes: u64,
    pub(crate) read_count: u64,
    pub(crate) write_count: u64,
    pub(crate) rate_limiter_throttled_events: u64,
    pub(crate) io_engine_throttled_events: u64,
    pub(crate) remaining_reqs_count: u64,
}

/// A disk as the guest sees it.
#[derive(Debug)]
pub struct Block {
    disk: Disk,
    has_flush: bool,
    engine: Engine,
    transfers: Option<Transfers>,
    pending: Pending,
    limiter: RateLimiter,
    pub(crate) counts: Counts,
}

impl Block {
    /// `has_flush` is the API's cache type "Writeback": the guest's flushes reach the disk. "Unsafe" does not offer them.
    ///
    /// # Errors
    /// If the kernel has no timer left.
    pub fn new(
        disk: Disk,
        has_flush: bool,
        engine: Engine,
        limits: Option<&Limits>,
    ) -> io::Result<Block> {
        Ok(Block {
            disk,
            has_flush,
            engine,
            transfers: None,
            pending: Pending::default(),
            limiter: RateLimiter::new(limits)?,
            counts: Counts::default(),
        })
    }

    /// Whether this host lets us use `engine`.
    ///
    /// # Errors
    /// What the kernel says against it.
    pub fn probe(engine: Engine) -> io::Result<()> {
        match engine {
            Engine::Sync => Ok(()),
            Engine::Async => {
                let memory = Memory::from_ranges(&[(vm_memory::GuestAddress(0), 4096)]);
                let memory = memory.map_err(io::Error::other)?;
                Transfers::new(Arc::new(memory), 1).map(drop)
            }
        }
    }

    /// Puts another disk in the place of this one; the driver reads the new size from the configuration space.
    pub fn replace(&mut self, disk: Disk) {
        // Requests of before belong to the disk of before; what they say is told when the ring is looked at again.
        self.wait_for_all();
        self.disk = disk;
        self.counts.update_count += 1;
    }

    pub fn limit(&mut self, limits: &Limits) {
        self.limiter.update(limits);
    }
}

impl Device for Block {
    fn kind(&self) -> u32 {
        2
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256]
    }

    fn features(&self) -> u64 {
        let read_only = if self.disk.is_read_only() {
            READ_ONLY
        } else {
            0
        };
        let flush = if self.has_flush { FLUSH } else { 0 };
        read_only | flush
    }

    /// §5.2.4: only `capacity` belongs to a feature that is always there.
    fn config(&self) -> Vec<u8> {
        self.disk.nr_sectors().to_le_bytes().to_vec()
    }

    fn attach(&mut self, memory: &Arc<Memory>) -> io::Result<()> {
        if self.engine == Engine::Async {
            self.transfers = Some(Transfers::new(Arc::clone(memory), DEPTH)?);
        }
        Ok(())
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {
        self.wait_for_all();
        self.pending.forget();
    }

    fn work(
        &mut self,
        _index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        self.counts.queue_event_count += 1;
        self.turn(queues, memory)
    }

    fn event_fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.limiter.fd()];
        fds.extend(self.transfers.as_ref().map(AsFd::as_fd));
        fds
    }

    fn ready(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        let worked = self.turn(queues, memory)?;
        if worked.more {
            self.limiter.come_back();
        }
        Ok(worked)
    }

    fn settle(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        self.wait_for_all();
        match queues.first_mut() {
            Some(queue) => self.finish_ended(queue, memory),
            None => Ok(Worked::default()),
        }
    }

    fn save(&self) -> DeviceState {
        DeviceState::new(self.kind(), STATE, &self.limiter.save())
    }

    fn restore(&mut self, state: &DeviceState, _memory: &Memory) -> Result<(), StateError> {
        let levels: [Option<Level>; 2] = state.read(self.kind(), STATE)?;
        self.limiter.restore(levels);
        Ok(())
    }

    fn metrics(&mut self) -> Option<serde_json::Value> {
        let mut counts = std::mem::take(&mut self.counts);
        counts.rate_limiter_throttled_events = std::mem::take(&mut self.limiter.nr_throttled);
        serde_json::to_value(counts).ok()
    }
}
