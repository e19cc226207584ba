//! What of a program's memory is the sentry's: its own pages, which no debugger reads or writes, and patched call sites, which it sees as what they were.

use std::ops::Range;

use casemate_platform::fast::SYSCALL;
use casemate_platform::{channel, loader};

use crate::kernel::Kernel;

/// Bytes that differ at a patched site: `syscall`, whose first one or two are a jump's.
const LEN: u64 = SYSCALL.len() as u64;

/// A memory as a debugger is to see it.
#[derive(Debug, Default)]
pub struct View {
    /// Addresses that are not there: the stub's, trampolines' and the channel's.
    hidden: Vec<Range<u64>>,
    sites: Vec<u64>,
}

impl View {
    /// How much of a range is there, up to the first byte that is hidden.
    #[must_use]
    pub fn shown(&self, start: u64, len: usize) -> usize {
        let end = start.saturating_add(len as u64);
        let overlaps = |range: &&Range<u64>| start < range.end && range.start < end;
        let stub = loader::BASE..loader::END;
        let hidden = self.hidden.iter().chain([&stub]).filter(overlaps);
        let first = hidden.map(|range| range.start.saturating_sub(start)).min();
        first.map_or(len, |first| first as usize)
    }

    /// Makes code that was read at `start` what the program has there.
    pub fn show_sites(&self, start: u64, bytes: &mut [u8]) {
        for site in &self.sites {
            for (offset, byte) in (0..).zip(SYSCALL) {
                let at = site.wrapping_add(offset).wrapping_sub(start);
                if let Some(shown) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)) {
                    *shown = byte;
                }
            }
        }
    }
}

impl Kernel {
    #[must_use]
    pub fn memory_view(&self, tid: i32) -> View {
        let Ok(task) = self.task(tid) else {
            return View::default();
        };
        let space = task.space.lock();
        let pages = space.pages.iter();
        let mut hidden: Vec<Range<u64>> = pages
            .map(|page| *page..page.saturating_add(loader::PAGE))
            .collect();
        if space.channel.is_some() {
            hidden.push(channel::ADDRESS..channel::ADDRESS + channel::SIZE as u64);
        }
        let sites = space.patched(0, u64::MAX);
        View { hidden, sites }
    }

    /// Gives the sites in a range their own bytes back, before a debugger writes to some of it.
    ///
    /// Where two bytes were patched, another thread of the program that runs there meanwhile can see one of the two: docs/decisions/2026-11-29-ptrace.md.
    pub fn restore_sites(&self, tid: i32, start: u64, len: u64) {
        let (Ok(file), Ok(task)) = (self.memory_file(tid), self.task(tid)) else {
            return;
        };
        let mut space = task.space.lock();
        for site in space.patched(start.saturating_sub(LEN - 1), start.saturating_add(len)) {
            if crate::host::pwrite(&file, &SYSCALL, site).is_ok() {
                space.forget_site(site);
            }
        }
    }
}
