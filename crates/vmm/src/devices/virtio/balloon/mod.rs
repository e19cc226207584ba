//! The balloon (virtio 1.2 §5.5): the guest hands pages to the host, and gets them back as zeroes.
mod statistics;

pub use statistics::Statistics;
use virtio_queue::Queue;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::{Broken, Chain, ChainState, Device, Worked, drain};
use crate::devices::state::{DeviceState, StateError};
use crate::{Memory, raw};

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;

/// VIRTIO_BALLOON_F_STATS_VQ, VIRTIO_BALLOON_F_DEFLATE_ON_OOM (§5.5.3).
const HAS_STATISTICS: u64 = 1 << 1;
const DEFLATE_ON_OOM: u64 = 1 << 2;

/// Version of its state: target, actual, the chain that waits for statistics.
const STATE: u16 = 1;

/// Balloon pages are 4 KiB, whatever the host's are.
const PAGE_SHIFT: u32 = 12;
const PAGES_PER_MIB: u32 = 256;

#[derive(Debug)]
pub struct Balloon {
    target_pages: u32,
    actual_pages: u32,
    deflates_on_oom: bool,
    has_statistics: bool,
    /// The buffer in which the driver waits to be asked for statistics.
    waiting: Option<Chain>,
    statistics: Statistics,
    asks: bool,
}

impl Balloon {
    #[must_use]
    pub fn new(target_mib: u32, deflates_on_oom: bool, has_statistics: bool) -> Balloon {
        Balloon {
            target_pages: target_mib.saturating_mul(PAGES_PER_MIB),
            actual_pages: 0,
            deflates_on_oom,
            has_statistics,
            waiting: None,
            statistics: Statistics::default(),
            asks: false,
        }
    }

    pub fn set_target_mib(&mut self, target_mib: u32) {
        self.target_pages = target_mib.saturating_mul(PAGES_PER_MIB);
    }

    #[must_use]
    pub fn target_pages(&self) -> u32 {
        self.target_pages
    }

    #[must_use]
    pub fn actual_pages(&self) -> u32 {
        self.actual_pages
    }

    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn inflate(queue: &mut Queue, memory: &Memory) -> Result<Worked, Broken> {
        drain(queue, memory, |chain| {
            for run in page_runs(chain, memory)? {
                // A page outside of the memory is the guest's mistake; there is nothing to give back.
                if let Ok(pages) = memory.get_slice(run.start, run.length) {
                    // Failing leaves the page where it is: the guest promised not to use it, nothing breaks.
                    let _ = raw::discard(&pages);
                }
            }
            Ok(0)
        })
    }

    /// The device keeps the statistics buffer until it wants new ones (§5.5.6.3), which returning it asks for.
    fn take_statistics(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Worked, Broken> {
        let mut worked = Worked::default();
        while let Some(chain) = Chain::next(queue, memory)? {
            self.statistics.read(&chain, memory)?;
            // A correct driver has one buffer; of more only the last waits.
            if let Some(earlier) = self.waiting.replace(chain) {
                worked.interrupt |= earlier.finish(queue, memory, 0)?;
            }
        }
        Ok(worked)
    }

    /// Asks the driver for new statistics, the next time the device is ready.
    pub fn ask(&mut self) {
        self.asks = true;
    }
}

impl Device for Balloon {
    fn kind(&self) -> u32 {
        5
    }

    fn queue_sizes(&self) -> &'static [u16] {
        if self.has_statistics {
            &[256, 256, 256]
        } else {
            &[256, 256]
        }
    }

    fn features(&self) -> u64 {
        let statistics = if self.has_statistics {
            HAS_STATISTICS
        } else {
            0
        };
        let deflate = if self.deflates_on_oom {
            DEFLATE_ON_OOM
        } else {
            0
        };
        statistics | deflate
    }

    /// `num_pages`, `actual` (§5.5.4).
    fn config(&self) -> Vec<u8> {
        [
            self.target_pages.to_le_bytes(),
            self.actual_pages.to_le_bytes(),
        ]
        .concat()
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (4, Ok(bytes)) = (offset, data.try_into()) {
            self.actual_pages = u32::from_le_bytes(bytes);
        }
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {
        self.waiting = None;
        self.actual_pages = 0;
    }

    fn work(
        &mut self,
        index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        match (index, queues.get_mut(index)) {
            (INFLATE, Some(queue)) => Balloon::inflate(queue, memory),
            // Pages come back by being touched.
            (DEFLATE, Some(queue)) => drain(queue, memory, |_| Ok(0)),
            (STATISTICS, Some(queue)) => self.take_statistics(queue, memory),
            _ => Ok(Worked::default()),
        }
    }

    /// Gives the statistics buffer back, which is the question for new ones (§5.5.6.3).
    fn ready(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        let queue = queues
            .get_mut(STATISTICS)
            .filter(|_| std::mem::take(&mut self.asks));
        let Some(queue) = queue else {
            return Ok(Worked::default());
        };
        let Some(chain) = self.waiting.take() else {
            return Ok(Worked::default());
        };
        Ok(Worked {
            interrupt: chain.finish(queue, memory, 0)?,
            more: false,
        })
    }

    fn save(&self) -> DeviceState {
        let waiting = self.waiting.as_ref().map(Chain::save);
        DeviceState::new(
            self.kind(),
            STATE,
            &(self.target_pages, self.actual_pages, waiting),
        )
    }

    fn restore(&mut self, state: &DeviceState, memory: &Memory) -> Result<(), StateError> {
        let (target, actual, waiting): (u32, u32, Option<ChainState>) =
            state.read(self.kind(), STATE)?;
        self.target_pages = target;
        self.actual_pages = actual;
        self.waiting = waiting
            .map(|chain| Chain::restore(&chain, memory))
            .transpose()?;
        Ok(())
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

/// Pages next to each other, given back by one call.
struct Run {
    start: GuestAddress,
    length: usize,
}

/// Linux sends 256 page numbers at once; a hostile chain may hold no more than this many either.
const MAX_NUMBERS: usize = 1024;

fn page_runs(chain: &Chain, memory: &Memory) -> Result<Vec<Run>, Broken> {
    let mut bytes = vec![0; chain.readable_len().min(MAX_NUMBERS * 4)];
    let read = chain.read(memory, 0, &mut bytes)?;
    let mut numbers: Vec<u32> = bytes
        .get(..read)
        .unwrap_or_default()
        .chunks_exact(4)
        .filter_map(|word| Some(u32::from_le_bytes(word.try_into().ok()?)))
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut runs: Vec<Run> = Vec::new();
    for number in numbers {
        let start = GuestAddress(u64::from(number) << PAGE_SHIFT);
        match runs.last_mut() {
            Some(run) if run.start.0 + run.length as u64 == start.0 => {
                run.length += 1 << PAGE_SHIFT
            }
            _ => runs.push(Run {
                start,
                length: 1 << PAGE_SHIFT,
            }),
        }
    }
    Ok(runs)
}
