//! The entropy device (virtio 1.2 §5.4): fills buffers from the host's generator.
use std::io;

use serde::Serialize;
use virtio_queue::Queue;

use super::{Broken, Chain, Device, Outcome, Worked, drain_with};
use crate::devices::limiter::{Limits, RateLimiter};
use crate::{Memory, raw};

/// A request is answered with at most so much; a driver asks again. Keeps a guest from making us generate 256 MiB under a lock.
const MAX_REQUEST: usize = 64 << 10;

/// For the metrics, with Firecracker's names.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counts {
    activate_fails: u64,
    entropy_event_fails: u64,
    entropy_event_count: u64,
    entropy_bytes: u64,
    host_rng_fails: u64,
    entropy_rate_limiter_throttled: u64,
    rate_limiter_event_count: u64,
}

#[derive(Debug)]
pub struct Entropy {
    limiter: RateLimiter,
    counts: Counts,
}

impl Entropy {
    /// # Errors
    /// If the kernel has no timer left.
    pub fn new(limits: Option<&Limits>) -> io::Result<Entropy> {
        Ok(Entropy {
            limiter: RateLimiter::new(limits)?,
            counts: Counts::default(),
        })
    }

    fn fill(&mut self, chain: Chain, memory: &Memory) -> Result<Outcome, Broken> {
        let length = chain.writable_len().min(MAX_REQUEST);
        if !self.limiter.take(length as u64) {
            return Ok(Outcome::NotNow);
        }
        let mut written = 0;
        for slice in chain.writable(memory, 0, length)? {
            match raw::fill_random(&slice) {
                Ok(done) => written += done,
                Err(_) => self.counts.host_rng_fails += 1,
            }
        }
        self.counts.entropy_bytes += written as u64;
        Ok(Outcome::Done(chain, written))
    }
}

impl Device for Entropy {
    fn kind(&self) -> u32 {
        4
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256]
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {}

    fn work(
        &mut self,
        _index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        self.counts.entropy_event_count += 1;
        let Some(queue) = queues.first_mut() else {
            return Ok(Worked::default());
        };
        if self.limiter.is_closed() {
            return Ok(Worked::default());
        }
        drain_with(queue, memory, |chain| self.fill(chain, memory))
    }

    fn limiter(&self) -> Option<&RateLimiter> {
        Some(&self.limiter)
    }

    fn limiter_mut(&mut self) -> Option<&mut RateLimiter> {
        Some(&mut self.limiter)
    }

    fn metrics(&mut self) -> Option<serde_json::Value> {
        let mut counts = std::mem::take(&mut self.counts);
        counts.entropy_rate_limiter_throttled = std::mem::take(&mut self.limiter.nr_throttled);
        serde_json::to_value(counts).ok()
    }
}
