//! A block device on a file (virtio 1.2 §5.2): read, write, flush, identity.
mod disk;
mod request;

pub use disk::{Disk, DiskError};
use virtio_queue::Queue;

use super::{Broken, Device, Worked, drain};
use crate::Memory;

/// VIRTIO_BLK_F_RO, VIRTIO_BLK_F_FLUSH (§5.2.3).
const READ_ONLY: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;

/// A disk as the guest sees it.
#[derive(Debug)]
pub struct Block {
    disk: Disk,
    has_flush: bool,
}

impl Block {
    /// `has_flush` is the API's cache type "Writeback": the guest's flushes reach the disk. "Unsafe" does not offer them.
    #[must_use]
    pub fn new(disk: Disk, has_flush: bool) -> Block {
        Block { disk, has_flush }
    }

    /// Puts another disk in the place of this one; the driver reads the new size from the configuration space.
    pub fn replace(&mut self, disk: Disk) {
        self.disk = disk;
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

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {}

    fn work(
        &mut self,
        _index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        let Some(queue) = queues.first_mut() else {
            return Ok(Worked::default());
        };
        drain(queue, memory, |chain| {
            request::serve(chain, &self.disk, self.has_flush, memory)
        })
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
