//! File locks of the whole sandbox: ranges (fcntl(2)'s of processes and of open file descriptions) and whole files (flock(2)). They never reach the host:
//! programs of other sandboxes, or of the host, see none of them. Linux: fs/locks.c.
//!
//! One table, behind its own lock, since descriptions end wherever their last user does. A waiter's ticket is queued under the same lock as the look, so no
//! release comes between.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::wake::{Ticket, WaitQueue};
use crate::errno::{Errno, Result};

/// A file: device and inode.
pub type Key = (u64, u64);

/// Whom a lock belongs to: a process, or an open file description (by its address, unique while it lives).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// As `Kernel::owner_number` has it.
    Process(i32),
    Description(usize),
}

/// A lock on bytes `start` to `end`, both within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub end: u64,
    pub owner: Owner,
    pub is_exclusive: bool,
}

/// Most ranges that one file can have, so that a program cannot fill the sentry's memory with single bytes. Linux has RLIMIT_LOCKS no more; `ENOLCK`.
const MOST_RANGES: usize = 16 << 10;

#[derive(Debug, Default)]
struct FileLocks {
    ranges: Vec<Range>,
    /// flock(2)'s: owner, and whether exclusive.
    whole: Vec<(usize, bool)>,
    queue: Arc<WaitQueue>,
}

static LOCKS: Mutex<Option<HashMap<Key, FileLocks>>> = Mutex::new(None);
/// Files in the table, so that closing costs nothing while there are none.
static FILES: AtomicUsize = AtomicUsize::new(0);

type Table = Option<HashMap<Key, FileLocks>>;

fn table() -> MutexGuard<'static, Table> {
    LOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether any lock is held or waited for.
#[must_use]
pub fn any() -> bool {
    FILES.load(Ordering::Relaxed) > 0
}

impl Range {
    fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    fn conflicts(&self, other: &Self) -> bool {
        self.owner != other.owner
            && (self.is_exclusive || other.is_exclusive)
            && self.overlaps(other)
    }
}

/// The first lock in the way of `wanted`. F_GETLK.
#[must_use]
pub fn conflict(key: Key, wanted: &Range) -> Option<Range> {
    let table = table();
    let file = table.as_ref()?.get(&key)?;
    first_conflict(file, wanted)
}

fn first_conflict(file: &FileLocks, wanted: &Range) -> Option<Range> {
    file.ranges
        .iter()
        .find(|held| held.conflicts(wanted))
        .copied()
}

/// Takes a range; else says what is in the way, with `ticket` queued for its end.
pub fn lock_range(
    key: Key,
    wanted: Range,
    ticket: Option<Ticket>,
) -> Result<std::result::Result<(), Range>> {
    let mut table = table();
    let file = entry(&mut table, key);
    if let Some(held) = first_conflict(file, &wanted) {
        if let Some(ticket) = ticket {
            file.queue.add(ticket);
        }
        return Ok(Err(held));
    }
    if file.ranges.len() >= MOST_RANGES {
        return Err(Errno(libc::ENOLCK));
    }
    replace(&mut file.ranges, &wanted, true);
    // A write lock that became a read lock lets others in.
    let queue = (!wanted.is_exclusive).then(|| file.queue.clone());
    drop(table);
    if let Some(queue) = queue {
        queue.wake();
    }
    Ok(Ok(()))
}

pub fn unlock_range(key: Key, range: &Range) {
    change(key, |file| replace(&mut file.ranges, range, false));
}

/// Cuts `new` out of its owner's ranges, and puts it in if it is `taken`; ranges of one kind that touch become one. Sorted by start.
fn replace(ranges: &mut Vec<Range>, new: &Range, taken: bool) {
    let mut new = *new;
    let mut kept = Vec::with_capacity(ranges.len() + 2);
    for range in ranges.drain(..) {
        let is_same_kind = taken && range.is_exclusive == new.is_exclusive;
        let touches =
            range.start <= new.end.saturating_add(1) && new.start <= range.end.saturating_add(1);
        if range.owner != new.owner || !touches || (!is_same_kind && !range.overlaps(&new)) {
            kept.push(range);
        } else if is_same_kind {
            new.start = new.start.min(range.start);
            new.end = new.end.max(range.end);
        } else {
            if range.start < new.start {
                kept.push(Range {
                    end: new.start - 1,
                    ..range
                });
            }
            if range.end > new.end {
                kept.push(Range {
                    start: new.end + 1,
                    ..range
                });
            }
        }
    }
    if taken {
        kept.push(new);
    }
    kept.sort_by_key(|range| range.start);
    *ranges = kept;
}

/// flock(2): takes the whole file for a description; false with `ticket` queued if others hold it. A lock of the other kind is given up first, as on Linux.
pub fn lock_whole(key: Key, owner: usize, is_exclusive: bool, ticket: Option<Ticket>) -> bool {
    let mut table = table();
    let file = entry(&mut table, key);
    if file.whole.contains(&(owner, is_exclusive)) {
        return true;
    }
    let before = file.whole.len();
    file.whole.retain(|(other, _)| *other != owner);
    let gave_up = file.whole.len() < before;
    let is_free = file
        .whole
        .iter()
        .all(|(_, exclusive)| !exclusive && !is_exclusive);
    let queue = gave_up.then(|| file.queue.clone());
    if is_free {
        file.whole.push((owner, is_exclusive));
    }
    // Others first: the own ticket is not for what this call itself gave up.
    if let Some(queue) = queue {
        queue.wake();
    }
    if !is_free && let Some(ticket) = ticket {
        file.queue.add(ticket);
    }
    is_free
}

pub fn unlock_whole(key: Key, owner: usize) {
    change(key, |file| {
        file.whole.retain(|(other, _)| *other != owner);
    });
}

/// A process closed a descriptor of the file: its own ranges on it end, whichever descriptor took them. fcntl(2), "Advisory record locking".
pub fn process_closed(key: Key, pid: i32) {
    change(key, |file| {
        file.ranges
            .retain(|range| range.owner != Owner::Process(pid));
    });
}

/// A description that took locks has ended.
pub fn description_ended(owner: usize) {
    let keys: Vec<Key> = table()
        .as_ref()
        .map(|files| files.keys().copied().collect())
        .unwrap_or_default();
    for key in keys {
        change(key, |file| {
            file.whole.retain(|(other, _)| *other != owner);
            file.ranges
                .retain(|range| range.owner != Owner::Description(owner));
        });
    }
}

fn entry(table: &mut Table, key: Key) -> &mut FileLocks {
    let files = table.get_or_insert_with(HashMap::new);
    let file = files.entry(key).or_default();
    FILES.store(1, Ordering::Relaxed);
    file
}

/// Changes a file's locks and has its waiters look again; forgets the file when nothing is left.
fn change(key: Key, how: impl FnOnce(&mut FileLocks)) {
    let mut table = table();
    let Some(files) = table.as_mut() else { return };
    let Some(file) = files.get_mut(&key) else {
        return;
    };
    how(file);
    let queue = file.queue.clone();
    if file.ranges.is_empty() && file.whole.is_empty() {
        files.remove(&key);
    }
    FILES.store(files.len(), Ordering::Relaxed);
    drop(table);
    queue.wake();
}
