//! Which threads were lent a file's own bytes (`casemate_platform::windows`), by file: whoever looks at the file, or changes it, ends that.
//!
//! What is mapped is the file, so reads are ended by another length, and by a real write, since the next read behind that moves the access time. Writes through a
//! window move no times, so they are lent for a moment behind a real write, which moved them, and end when anybody asks for the file's attributes, or writes to it:
//! the next one is a real one then.
//!
//! One for all containers of a sandbox, since a file may be open in several. A leaf among the locks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use casemate_platform::channel::Channel;
use casemate_platform::windows::{Window, entry_of};

use super::attributes::Attributes;
use super::cache::{Id, Lends};

/// As answers: for so long changes from outside may go unseen.
pub const FRESH: Duration = Duration::from_secs(1);
/// Files that are known at once.
const MOST: usize = 1024;

static FILES: Mutex<BTreeMap<Id, File>> = Mutex::new(BTreeMap::new());
/// Whether there are any.
static ANY: AtomicBool = AtomicBool::new(false);
/// Counts what `ended` was told of.
static CHANGES: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct File {
    /// So many bytes, from the first one on, are there. Of a file in memory with holes none are lent: looking there would fill them.
    len: u64,
    has_holes: bool,
    asked: Instant,
    may_write: bool,
    lent: Vec<Lent>,
}

#[derive(Debug)]
struct Lent {
    channel: Arc<Channel>,
    slot: usize,
    fd: i32,
    writable: u64,
}

impl Lent {
    fn is(&self, (channel, slot): (&Arc<Channel>, usize), entry: usize) -> bool {
        self.slot == slot && entry_of(self.fd) == entry && Arc::ptr_eq(&self.channel, channel)
    }

    fn end(&self) {
        self.channel.end_window(self.slot, entry_of(self.fd));
    }
}

fn files() -> MutexGuard<'static, BTreeMap<Id, File>> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody asks for the file's attributes: before the answer is given.
pub fn looked_at(id: Id) {
    end_some(id, |lent| {
        lent.channel.end_writing(lent.slot, entry_of(lent.fd));
    });
}

/// The host is about to write to it: whoever reads it next moves its access time.
pub fn written(id: Id) {
    end_some(id, Lent::end);
}

fn end_some(id: Id, end: impl Fn(&Lent)) {
    if !ANY.load(Ordering::SeqCst) {
        return;
    }
    if let Some(file) = files().get_mut(&id) {
        for lent in &mut file.lent {
            lent.writable = 0;
            end(lent);
        }
    }
}

/// Its length, its holes, or who may write to it has changed, or is about to.
pub fn ended(id: Id) {
    CHANGES.fetch_add(1, Ordering::SeqCst);
    if !ANY.load(Ordering::SeqCst) {
        return;
    }
    if let Some(file) = files().remove(&id) {
        file.lent.iter().for_each(Lent::end);
    }
}

/// What holds for every file has changed.
pub fn all_ended() {
    CHANGES.fetch_add(1, Ordering::SeqCst);
    end_all(&mut files());
}

fn end_all(files: &mut BTreeMap<Id, File>) {
    for file in std::mem::take(files).values() {
        file.lent.iter().for_each(Lent::end);
    }
}

/// Nobody has the slot any more.
pub fn closed(place: (&Arc<Channel>, usize)) {
    if !ANY.load(Ordering::SeqCst) {
        return;
    }
    for file in files().values_mut() {
        file.lent
            .retain(|lent| lent.slot != place.1 || !Arc::ptr_eq(&lent.channel, place.0));
    }
}

/// For `learn`, before the file is asked.
#[must_use]
pub fn changes() -> u64 {
    CHANGES.load(Ordering::SeqCst)
}

/// How many bytes of it may be lent, as far as is known, if they reach that far. `None`: it is to be asked.
#[must_use]
pub fn known(id: Id, end: u64) -> Option<u64> {
    let files = files();
    let file = files.get(&id)?;
    let is_fresh = file.asked.elapsed() < FRESH;
    (is_fresh && (file.has_holes || end <= file.len)).then_some(file.len)
}

/// What a file is found to be, unless something has changed since then.
pub fn learn(id: Id, since: u64, file: &Attributes, lends: Lends) {
    let mut files = files();
    ANY.store(true, Ordering::SeqCst);
    if since != changes() {
        return;
    }
    if files.len() >= MOST {
        end_all(&mut files);
    }
    let has_holes = lends == Lends::Writes && file.blocks.saturating_mul(512) < file.size;
    let found = File {
        len: if has_holes { 0 } else { file.size },
        has_holes,
        asked: Instant::now(),
        // A write takes these away.
        may_write: file.mode & (libc::S_ISUID | libc::S_ISGID) == 0,
        lent: Vec::new(),
    };
    if let Some(before) = files.insert(id, found) {
        before.lent.iter().for_each(Lent::end);
    }
}

/// So many bytes were written there.
pub fn grew(id: Id, at: u64, count: u64) {
    if let Some(file) = files().get_mut(&id)
        && !file.has_holes
        && at <= file.len
    {
        file.len = file.len.max(at.saturating_add(count));
    }
}

/// Lends a window of a file that is known: of at most `window.len` bytes, writable if `window.writable` says so, or if it is already.
pub fn lend(id: Id, place: (&Arc<Channel>, usize), fd: i32, window: Window) {
    let (channel, slot) = place;
    let entry = entry_of(fd);
    let mut files = files();
    let Some(file) = files.get_mut(&id) else {
        return;
    };
    let known = file.lent.iter().position(|lent| lent.is(place, entry));
    let mut lent = match known {
        Some(index) => file.lent.swap_remove(index),
        None => Lent {
            channel: channel.clone(),
            slot,
            fd,
            writable: 0,
        },
    };
    if lent.fd != fd {
        lent.writable = 0;
        lent.fd = fd;
    }
    if window.writable != 0 && file.may_write {
        lent.writable = window.writable;
    }
    let window = Window {
        len: window.len.min(file.len),
        writable: lent.writable,
        ..window
    };
    channel.lend_window(slot, entry, &window);
    file.lent.push(lent);
}

/// Ends a file's windows now, and once more when what changes it is over.
#[derive(Debug)]
pub struct Changing(Id);

impl Changing {
    #[must_use]
    pub fn new(id: Id) -> Self {
        ended(id);
        Self(id)
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        ended(self.0);
    }
}
