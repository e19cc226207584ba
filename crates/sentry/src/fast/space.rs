//! What one address space has of the fast path: patched sites, trampolines, the channel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use casemate_platform::channel::{self, Channel};
use casemate_platform::{fast, loader, windows};

use super::patch::Code;
use super::windows::Windows;
use crate::kernel::aio::Contexts;
use crate::kernel::task::Shared;

/// Traps after which a site is patched.
pub const OFTEN: u32 = 16;
/// Sites that are tried in all, in one address space: each costs some 20 us.
const MOST_TRIED: u32 = 256;
/// Sites that are counted at once; more begin anew.
const COUNTED: usize = 1024;
const PAGE: u64 = 4096;

/// Whether uid, gid, euid and egid are left where the stub finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ids {
    /// Nobody asked yet.
    #[default]
    Unused,
    Kept,
    /// Two processes, or filters, would have to see different answers.
    Never,
}

/// Whether the stub was told that it may make a clone(2) of a clone3(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clones {
    #[default]
    NotTold,
    Told,
    /// A filter wants to see clone3.
    Never,
}

#[derive(Debug)]
pub struct Space {
    /// Patched sites, by their trampolines' own system calls.
    sites: BTreeMap<u64, u64>,
    /// Those that were given their own bytes back.
    restored: BTreeSet<u64>,
    /// Pages of trampolines, and those where something else lay when one was wanted.
    pub pages: BTreeSet<u64>,
    pub occupied: BTreeSet<u64>,
    /// Traps of sites that are not patched. Every one has a count of its own: where a few share one, two sites that take turns would never be patched.
    counts: HashMap<u64, u32>,
    tried: u32,
    /// The thread that makes room for a trampoline, or for the channel.
    pub busy: Option<i32>,
    pub ids: Ids,
    /// Whether its stub may make a clone(2) of a clone3(2).
    pub clones: Clones,
    pub channel: Option<Arc<Channel>>,
    /// The stub sends calls of patched sites away: somebody is traced.
    pub turns_away: bool,
    /// Native ids of the threads that have its slots.
    pub slots: [Option<i32>; channel::SLOTS],
    /// Of a vfork(2)ed child: its parent's, whose memory it runs in. It changes nothing there.
    pub host: Option<Shared<Space>>,
    /// It has been such a host.
    pub had_guest: bool,
    /// The first stack pointer, and how far the stack may grow below it.
    pub stack: (u64, u64),
    /// Mappings known to be private code.
    pub private: Vec<Code>,
    /// io_setup(2)'s.
    pub contexts: Contexts,
    pub windows: Windows,
}

impl Default for Space {
    fn default() -> Self {
        Self {
            sites: BTreeMap::new(),
            restored: BTreeSet::new(),
            pages: BTreeSet::new(),
            occupied: BTreeSet::new(),
            counts: HashMap::new(),
            tried: 0,
            busy: None,
            ids: Ids::default(),
            clones: Clones::default(),
            channel: None,
            turns_away: false,
            slots: [None; channel::SLOTS],
            host: None,
            had_guest: false,
            stack: (0, 0),
            private: Vec::new(),
            contexts: Contexts::default(),
            windows: Windows::default(),
        }
    }
}

impl Space {
    /// A forked child's: patched memory is copied with all other, the channel is not (MADV_DONTFORK).
    #[must_use]
    pub fn forked(&self) -> Self {
        Self {
            sites: self.sites.clone(),
            restored: self.restored.clone(),
            pages: self.pages.clone(),
            ids: self.ids,
            clones: self.clones,
            turns_away: self.turns_away,
            stack: self.stack,
            private: self.private.clone(),
            ..Self::default()
        }
    }

    /// A child's that runs in its parent's memory without being one of its threads.
    #[must_use]
    pub fn guest(of: &Shared<Self>) -> Self {
        let mut host = of.lock();
        host.had_guest = true;
        Self {
            sites: host.sites.clone(),
            restored: host.restored.clone(),
            pages: host.pages.clone(),
            ids: host.ids,
            contexts: host.contexts.clone(),
            host: Some(of.clone()),
            ..Self::default()
        }
    }

    /// The site whose trampoline makes its system call at `slow`.
    #[must_use]
    pub fn site_of(&self, slow: u64) -> Option<u64> {
        self.sites.get(&slow).copied()
    }

    #[must_use]
    pub fn has_sites(&self) -> bool {
        !self.sites.is_empty()
    }

    /// Whether a patched call begins there.
    #[must_use]
    pub fn is_site(&self, address: u64) -> bool {
        self.sites.values().any(|site| *site == address)
    }

    /// The sites that begin in a range and are patched still.
    #[must_use]
    pub fn patched(&self, from: u64, to: u64) -> Vec<u64> {
        let sites = self.sites.values().copied();
        let is_meant = |site: &u64| (from..to).contains(site) && !self.restored.contains(site);
        sites.filter(is_meant).collect()
    }

    /// A site is what it was. Its trampoline stays: a thread may be in it.
    pub fn forget_site(&mut self, site: u64) {
        self.restored.insert(site);
    }

    /// The trampoline that an address is in: its own system call, and the site.
    #[must_use]
    pub fn trampoline_at(&self, address: u64) -> Option<(u64, u64)> {
        let (slow, site) = self
            .sites
            .range(..=address.saturating_add(fast::SLOW))
            .next_back()?;
        let start = slow - fast::SLOW;
        let len = fast::TRAMPOLINE_LEN as u64;
        (start..start + len)
            .contains(&address)
            .then_some((*slow, *site))
    }

    /// Whether a trampoline at `target` would overwrite another one.
    #[must_use]
    pub fn collides(&self, target: u64) -> bool {
        let len = fast::TRAMPOLINE_LEN as u64;
        let slow = target + fast::SLOW;
        self.sites
            .range(slow.saturating_sub(len - 1)..slow + len)
            .next()
            .is_some()
    }

    pub fn add(&mut self, target: u64, site: u64) {
        self.sites.insert(target + fast::SLOW, site);
    }

    /// One more trap at a site that is not patched; whether it is to be now, `often` being enough.
    pub fn counts(&mut self, site: u64, often: u32) -> bool {
        if self.host.is_some() {
            return false;
        }
        if self.counts.len() >= COUNTED && !self.counts.contains_key(&site) {
            self.counts.clear();
        }
        let traps = self.counts.entry(site).or_default();
        *traps = traps.saturating_add(1);
        // A site that could not be patched is tried again, rarely.
        let is_often = *traps >= often && traps.is_power_of_two();
        if !is_often || self.tried >= MOST_TRIED {
            return false;
        }
        self.tried += 1;
        true
    }

    /// The pages that a trampoline at `target` needs and that are not there yet.
    #[must_use]
    pub fn missing_pages(&self, target: u64) -> Vec<u64> {
        let last = target + fast::TRAMPOLINE_LEN as u64 - 1;
        let mut pages = vec![target & !(PAGE - 1), last & !(PAGE - 1)];
        pages.dedup();
        pages.retain(|page| !self.pages.contains(page));
        pages
    }

    /// How a site can be patched here, if it can. `is_alone`: nobody else runs in this memory.
    #[must_use]
    pub fn way(&self, site: u64, bytes: [u8; fast::SITE_LEN], is_alone: bool) -> Option<fast::Way> {
        fast::ways(site, bytes).into_iter().find(|way| {
            let is_seen_whole = way.written.len() == 1 || is_alone;
            is_seen_whole
                && self.may_hold(way.target)
                && !self.collides(way.target)
                && fast::trampoline(site, way.target).is_some()
        })
    }

    /// Whether a trampoline may lie there: a program's own address, far from where its heap and its stack grow.
    #[must_use]
    pub fn may_hold(&self, target: u64) -> bool {
        const LOWEST: u64 = 0x1_0000;
        const HIGHEST: u64 = 0x7FFF_FFFF_0000;
        /// Room for the heap, which begins behind the loader, and for a stack without a limit.
        const HEAP: u64 = 1 << 40;
        const STACK: u64 = 1 << 30;
        let (stack, limit) = self.stack;
        let below = limit.clamp(64 << 20, STACK);
        let in_stack = (stack.saturating_sub(below)..stack.saturating_add(below)).contains(&target);
        let in_heap = (windows::LOWEST..loader::BASE + HEAP).contains(&target);
        let is_occupied = self.occupied.contains(&(target & !(PAGE - 1)));
        (LOWEST..HIGHEST).contains(&target) && !in_stack && !in_heap && !is_occupied
    }

    /// Whether a mapping that starts there is the fast path's own, which /proc/PID/maps leaves out.
    #[must_use]
    pub fn hides(&self, start: u64) -> bool {
        let channel = channel::ADDRESS..channel::ADDRESS + channel::SIZE as u64;
        let is_window =
            self.windows.were_made() && (windows::LOWEST..channel.start).contains(&start);
        self.pages.contains(&start)
            || (self.channel.is_some() && channel.contains(&start))
            || is_window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_tried_after_some_traps_and_ever_more_rarely() {
        let mut space = Space::default();
        let wanted: Vec<bool> = (0..100).map(|_| space.counts(0x1000, OFTEN)).collect();
        assert_eq!(wanted.iter().filter(|wanted| **wanted).count(), 3);
        assert!(wanted[OFTEN as usize - 1]);
    }

    #[test]
    fn sites_that_take_turns_are_all_tried() {
        let mut space = Space::default();
        let sites: Vec<u64> = (0..100).map(|index| 0x1000 + 128 * index).collect();
        let mut tried = std::collections::BTreeSet::new();
        for _ in 0..OFTEN {
            tried.extend(
                sites
                    .iter()
                    .copied()
                    .filter(|site| space.counts(*site, OFTEN)),
            );
        }
        assert_eq!(tried.len(), sites.len());
    }

    #[test]
    fn trampolines_are_found_by_any_of_their_addresses_and_never_overlap() {
        let mut space = Space::default();
        space.add(0x5000, 0x1234);
        assert_eq!(
            space.trampoline_at(0x5000),
            Some((0x5000 + fast::SLOW, 0x1234))
        );
        assert_eq!(
            space.trampoline_at(0x501A),
            Some((0x5000 + fast::SLOW, 0x1234))
        );
        assert_eq!(space.trampoline_at(0x501B), None);
        assert_eq!(space.trampoline_at(0x4FFF), None);
        assert!(space.collides(0x5000 - 26));
        assert!(space.collides(0x5000 + 26));
        assert!(!space.collides(0x5000 + 27));
        assert!(!space.collides(0x5000 - 27));
    }

    #[test]
    fn trampolines_keep_clear_of_heap_and_stack() {
        let space = Space {
            stack: (0x7FFE_0000_0000, 8 << 20),
            ..Space::default()
        };
        assert!(space.may_hold(0x80_0000));
        assert!(!space.may_hold(0x1000));
        assert!(!space.may_hold(0x7FFE_0000_0000 - (10 << 20)));
        assert!(space.may_hold(0x7FFE_0000_0000 - (100 << 20)));
        assert!(!space.may_hold(loader::BASE + (1 << 30)));
    }

    #[test]
    fn a_trampoline_may_need_two_pages() {
        let space = Space::default();
        assert_eq!(space.missing_pages(0x8000), [0x8000]);
        assert_eq!(space.missing_pages(0x8FF0), [0x8000, 0x9000]);
    }
}
