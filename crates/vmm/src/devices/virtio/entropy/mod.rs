//! The entropy device (virtio 1.2 §5.4): fills buffers from the host's generator.
use virtio_queue::Queue;

use super::{Broken, Device, Worked, drain};
use crate::{Memory, raw};

/// A request is answered with at most so much; a driver asks again. Keeps a guest from making us generate 256 MiB under a lock.
const MAX_REQUEST: usize = 64 << 10;

#[derive(Debug, Default)]
pub struct Entropy;

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
        let Some(queue) = queues.first_mut() else {
            return Ok(Worked::default());
        };
        drain(queue, memory, |chain| {
            let mut written = 0;
            for slice in chain.writable(memory, 0, MAX_REQUEST)? {
                written += raw::fill_random(&slice).unwrap_or(0);
            }
            Ok(written)
        })
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
