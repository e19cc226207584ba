//! A file of the host as memory of the guest (virtio 1.2 §5.19): no copy of it in the guest's page cache, one in the host's for all guests.
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use virtio_queue::Queue;

use super::{Broken, Chain, Device, Outcome, Worked, drain_with};
use crate::Memory;
use crate::devices::limiter::{Limits, RateLimiter};
use crate::raw::Window;

const FLUSH: u32 = 0;
const FAILED: i32 = -1;

/// For the metrics, with Firecracker's names.
#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    activate_fails: u64,
    cfg_fails: u64,
    event_fails: u64,
    queue_event_count: u64,
    rate_limiter_event_count: u64,
    rate_limiter_throttled_events: u64,
}

#[derive(Debug)]
pub struct Pmem {
    window: Arc<Window>,
    address: u64,
    limiter: RateLimiter,
    counts: Counts,
}

impl Pmem {
    /// # Errors
    /// If the kernel has no timer left.
    pub fn new(window: Arc<Window>, limits: Option<&Limits>) -> io::Result<Pmem> {
        Ok(Pmem {
            window,
            address: 0,
            limiter: RateLimiter::new(limits)?,
            counts: Counts::default(),
        })
    }

    /// Maps the file at `path`.
    ///
    /// # Errors
    /// If it cannot be opened, is empty, or is no regular file.
    pub fn open(path: &Path, is_read_only: bool) -> io::Result<Arc<Window>> {
        Window::open(path, is_read_only).map(Arc::new)
    }

    pub fn limit(&mut self, limits: &Limits) {
        self.limiter.update(limits);
    }

    /// One request: four bytes of kind, four bytes of answer.
    fn serve(&mut self, chain: Chain, memory: &Memory) -> Result<Outcome, Broken> {
        let mut kind = [0; 4];
        let is_whole = chain.read(memory, 0, &mut kind)? == kind.len();
        if !self.limiter.take(0) {
            return Ok(Outcome::NotNow);
        }
        let result = match u32::from_le_bytes(kind) {
            FLUSH if is_whole && self.window.sync().is_ok() => 0,
            _ => {
                self.counts.event_fails += 1;
                FAILED
            }
        };
        let written = chain.write(memory, 0, &result.to_le_bytes())?;
        Ok(Outcome::Done(chain, written))
    }
}

impl Device for Pmem {
    fn kind(&self) -> u32 {
        27
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256]
    }

    fn features(&self) -> u64 {
        0
    }

    /// `start`, `size` (§5.19.4).
    fn config(&self) -> Vec<u8> {
        [
            self.address.to_le_bytes(),
            (self.window.len() as u64).to_le_bytes(),
        ]
        .concat()
    }

    fn window(&self) -> Option<&Arc<Window>> {
        Some(&self.window)
    }

    fn place(&mut self, address: u64) {
        self.address = address;
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {}

    fn work(
        &mut self,
        _index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        self.counts.queue_event_count += 1;
        let Some(queue) = queues.first_mut().filter(|_| !self.limiter.is_closed()) else {
            return Ok(Worked::default());
        };
        drain_with(queue, memory, |chain| self.serve(chain, memory))
    }

    fn limiter(&self) -> Option<&RateLimiter> {
        Some(&self.limiter)
    }

    fn limiter_mut(&mut self) -> Option<&mut RateLimiter> {
        Some(&mut self.limiter)
    }

    fn metrics(&mut self) -> Option<serde_json::Value> {
        let mut counts = std::mem::take(&mut self.counts);
        counts.rate_limiter_throttled_events = std::mem::take(&mut self.limiter.nr_throttled);
        serde_json::to_value(counts).ok()
    }
}
