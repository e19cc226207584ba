//! The balloon (virtio 1.2 §5.5): the guest hands pages to the host, and gets them back as zeroes.
mod hinting;
mod statistics;

pub use hinting::Hinting;
use serde::Serialize;
pub use statistics::Statistics;
use virtio_queue::Queue;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::{Broken, Chain, ChainState, Device, Worked, drain};
use crate::devices::state::{DeviceState, StateError};
use crate::{Memory, raw};

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
/// The first queue of those that belong to features; those that are not offered leave no gap.
const FIRST_OPTIONAL: usize = 2;

/// VIRTIO_BALLOON_F_STATS_VQ, _DEFLATE_ON_OOM, _FREE_PAGE_HINT, _PAGE_REPORTING (§5.5.3).
const HAS_STATISTICS: u64 = 1 << 1;
const DEFLATE_ON_OOM: u64 = 1 << 2;
const FREE_PAGE_HINT: u64 = 1 << 3;
const PAGE_REPORTING: u64 = 1 << 5;

/// Version of its state: target, actual, the chain that waits for statistics, the run of hints.
const STATE: u16 = 1;

/// Balloon pages are 4 KiB, whatever the host's are.
const PAGE_SHIFT: u32 = 12;
const PAGES_PER_MIB: u32 = 256;

/// What the balloon can do, besides being a balloon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    pub deflates_on_oom: bool,
    pub has_statistics: bool,
    pub has_hinting: bool,
    pub has_reporting: bool,
}

/// A queue that belongs to a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Optional {
    Statistics,
    Hinting,
    Reporting,
}

/// For the metrics, with Firecracker's names.
#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    activate_fails: u64,
    inflate_count: u64,
    stats_updates_count: u64,
    stats_update_fails: u64,
    deflate_count: u64,
    event_fails: u64,
    free_page_report_count: u64,
    free_page_report_freed: u64,
    free_page_report_fails: u64,
    free_page_hint_count: u64,
    free_page_hint_freed: u64,
    free_page_hint_fails: u64,
}

#[derive(Debug)]
pub struct Balloon {
    target_pages: u32,
    actual_pages: u32,
    abilities: Abilities,
    /// The buffer in which the driver waits to be asked for statistics.
    waiting: Option<Chain>,
    statistics: Statistics,
    asks: bool,
    hinting: Hinting,
    /// The driver has to read its configuration again.
    has_news: bool,
    counts: Counts,
}

impl Balloon {
    #[must_use]
    pub fn new(target_mib: u32, abilities: Abilities) -> Balloon {
        Balloon {
            target_pages: target_mib.saturating_mul(PAGES_PER_MIB),
            actual_pages: 0,
            abilities,
            waiting: None,
            statistics: Statistics::default(),
            asks: false,
            hinting: Hinting::default(),
            has_news: false,
            counts: Counts::default(),
        }
    }

    /// What queue `index` is for.
    fn optional(&self, index: usize) -> Option<Optional> {
        let Abilities {
            has_statistics,
            has_hinting,
            has_reporting,
            ..
        } = self.abilities;
        let all = [
            (has_statistics, Optional::Statistics),
            (has_hinting, Optional::Hinting),
            (has_reporting, Optional::Reporting),
        ];
        let mut offered = all.iter().filter(|(is_offered, _)| *is_offered);
        let (_, kind) = offered.nth(index.checked_sub(FIRST_OPTIONAL)?)?;
        Some(*kind)
    }

    pub fn start_hinting(&mut self, acknowledges: bool) {
        self.hinting.start(acknowledges);
    }

    pub fn stop_hinting(&mut self) {
        self.hinting.stop();
    }

    #[must_use]
    pub fn hinting(&self) -> Hinting {
        self.hinting
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

    /// The driver lends pages that hold nothing until the chain comes back.
    fn take_reports(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Worked, Broken> {
        let counts = &mut self.counts;
        drain(queue, memory, |chain| {
            counts.free_page_report_count += 1;
            counts.free_page_report_freed += discard_all(chain, memory)?;
            Ok(0)
        })
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
        const ALL: &[u16] = &[256; 5];
        let nr_optional = (FIRST_OPTIONAL..ALL.len())
            .filter(|index| self.optional(*index).is_some())
            .count();
        ALL.get(..FIRST_OPTIONAL + nr_optional).unwrap_or(ALL)
    }

    fn features(&self) -> u64 {
        let Abilities {
            deflates_on_oom,
            has_statistics,
            has_hinting,
            has_reporting,
        } = self.abilities;
        let all = [
            (has_statistics, HAS_STATISTICS),
            (deflates_on_oom, DEFLATE_ON_OOM),
            (has_hinting, FREE_PAGE_HINT),
            (has_reporting, PAGE_REPORTING),
        ];
        let offered = all.iter().filter(|(is_offered, _)| *is_offered);
        offered.fold(0, |all, (_, feature)| all | feature)
    }

    /// `num_pages`, `actual`, `free_page_hint_cmd_id`, `poison_val` (§5.5.4).
    fn config(&self) -> Vec<u8> {
        [
            self.target_pages.to_le_bytes(),
            self.actual_pages.to_le_bytes(),
            self.hinting.host_command.to_le_bytes(),
            [0; 4],
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
        self.hinting.forget_guest();
    }

    fn work(
        &mut self,
        index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        let kind = self.optional(index);
        let Some(queue) = queues.get_mut(index) else {
            return Ok(Worked::default());
        };
        match (index, kind) {
            (INFLATE, _) => {
                self.counts.inflate_count += 1;
                Balloon::inflate(queue, memory)
            }
            // Pages come back by being touched.
            (DEFLATE, _) => {
                self.counts.deflate_count += 1;
                drain(queue, memory, |_| Ok(0))
            }
            (_, Some(Optional::Statistics)) => {
                self.counts.stats_updates_count += 1;
                self.take_statistics(queue, memory)
            }
            (_, Some(Optional::Hinting)) => {
                self.counts.free_page_hint_count += 1;
                let (worked, has_news) = self.hinting.work(queue, memory)?;
                self.has_news |= has_news;
                Ok(worked)
            }
            (_, Some(Optional::Reporting)) => self.take_reports(queue, memory),
            _ => Ok(Worked::default()),
        }
    }

    fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Gives the statistics buffer back, which is the question for new ones (§5.5.6.3).
    fn ready(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        let index =
            (0..queues.len()).find(|index| self.optional(*index) == Some(Optional::Statistics));
        let queue = index
            .and_then(|index| queues.get_mut(index))
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
            &(self.target_pages, self.actual_pages, waiting, self.hinting),
        )
    }

    fn restore(&mut self, state: &DeviceState, memory: &Memory) -> Result<(), StateError> {
        let (target, actual, waiting, hinting): (u32, u32, Option<ChainState>, Hinting) =
            state.read(self.kind(), STATE)?;
        self.hinting = hinting;
        self.target_pages = target;
        self.actual_pages = actual;
        self.waiting = waiting
            .map(|chain| Chain::restore(&chain, memory))
            .transpose()?;
        Ok(())
    }

    fn metrics(&mut self) -> Option<serde_json::Value> {
        serde_json::to_value(std::mem::take(&mut self.counts)).ok()
    }
}

/// Gives every page that `chain` lends back to the host. Returns how many bytes that were.
fn discard_all(chain: &Chain, memory: &Memory) -> Result<u64, Broken> {
    let mut freed = 0;
    for pages in chain.writable(memory, 0, chain.writable_len())? {
        // What is no whole page, or cannot be given back, stays where it is: the guest gets it back in any case.
        if raw::discard(&pages).is_ok() {
            freed += pages.len() as u64;
        }
    }
    Ok(freed)
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
