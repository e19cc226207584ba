//! Answers that programs keep (`casemate_platform::answers`): who has some, and that they end before anything that they say is true no more.
//!
//! An answer is made of what is remembered, and marks each name and file that it came from with the present epoch. Whoever changes a mark of this epoch
//! retracts all answers, of all programs: by one store for each slot that was given any since the last time, and a new epoch.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use casemate_platform::answers::{Answer, clock};
use casemate_platform::channel::Channel;

use super::FRESH_MS;
use super::table::Table;

/// Before, the time stamp counter's pace is not known well enough.
const MEASURED: Duration = Duration::from_millis(20);

/// A container's.
#[derive(Debug)]
pub struct Answers {
    epoch: AtomicU64,
    /// The epoch in which an answer was last made of somebody's working directory.
    by_directory: AtomicU64,
    given: Mutex<Given>,
    began: (Instant, u64),
}

/// A leaf among the locks, as the tables' is, and taken within those.
#[derive(Debug, Default)]
struct Given {
    stamp: u64,
    /// Slots that have answers.
    slots: Vec<(Arc<Channel>, usize)>,
}

impl Given {
    fn note(&mut self, place: (&Arc<Channel>, usize)) {
        if !self.slots.iter().any(|own| is_same(own, place)) {
            self.slots.push((place.0.clone(), place.1));
        }
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::new(1),
            by_directory: AtomicU64::new(0),
            given: Mutex::default(),
            began: (Instant::now(), clock()),
        }
    }
}

impl Answers {
    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What names and files are marked with. 0 is none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Something changes that was marked so: if some answer may be made of it, all of them end.
    pub fn retract(&self, mark: u64) {
        if mark == self.epoch() {
            self.retract_all();
        }
    }

    pub fn retract_all(&self) {
        let mut given = self.given();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let stamp = given.stamp;
        for (channel, index) in given.slots.drain(..) {
            channel.set_floor(index, stamp);
        }
    }

    /// A working directory changes.
    pub fn directory_changes(&self) {
        self.retract(self.by_directory.load(Ordering::Acquire));
    }

    /// A thread has the slot from now on; or it is somebody else to files than it was.
    pub fn open(&self, channel: &Arc<Channel>, index: usize) {
        let given = self.given();
        channel.open_answers(index, given.stamp);
    }

    /// Nobody has the slot.
    pub fn close(&self, channel: &Arc<Channel>, index: usize) {
        let place = (channel, index);
        self.given().slots.retain(|own| !is_same(own, place));
    }

    /// Leaves an answer with a slot's thread, if all that it came from is known and has not changed since.
    pub fn put(&self, place: (&Arc<Channel>, usize), trail: &Trail, answer: Answer<'_>) {
        let (channel, index) = place;
        let Some(deadline) = self.deadline(trail) else {
            return;
        };
        let mut given = self.given();
        if trail.epoch != self.epoch() {
            return;
        }
        given.stamp += 1;
        let answer = Answer { deadline, ..answer };
        if !channel.put_answer(index, given.stamp, &answer) {
            return;
        }
        given.note(place);
    }

    /// As `put`, of what a thread was lent by a descriptor (`casemate_platform::windows`).
    pub fn stamp(&self, place: (&Arc<Channel>, usize), trail: &Trail, fd: i32) -> bool {
        let mut given = self.given();
        if trail.oldest.get().is_none() || trail.epoch != self.epoch() {
            return false;
        }
        given.stamp += 1;
        place.0.stamp_entry(place.1, fd, given.stamp);
        given.note(place);
        true
    }

    /// When it will be so much later, by the time stamp counter.
    #[must_use]
    pub fn after(&self, time: Duration) -> Option<u64> {
        let (began, first) = self.began;
        let (elapsed, now) = (began.elapsed(), clock());
        if elapsed < MEASURED {
            return None;
        }
        let ticks = u128::from(now.checked_sub(first)?) * time.as_nanos();
        u64::try_from(ticks / elapsed.as_nanos())
            .ok()?
            .checked_add(now)
    }

    /// When the oldest part of it has to be asked for again, by the time stamp counter.
    fn deadline(&self, trail: &Trail) -> Option<u64> {
        let oldest = trail.oldest.get()?;
        let left = FRESH_MS.checked_sub(Table::now().wrapping_sub(oldest))?;
        self.after(Duration::from_millis(left))
    }
}

fn is_same(own: &(Arc<Channel>, usize), (channel, index): (&Arc<Channel>, usize)) -> bool {
    Arc::ptr_eq(&own.0, channel) && own.1 == index
}

/// `Trail::leave` of a walk that may have none.
pub fn leave(trail: Option<&Trail>) {
    if let Some(trail) = trail {
        trail.leave();
    }
}

/// What an answer is made of, followed while it is looked for: since when the oldest part of it is known. `None`: the host was asked, or would have to be.
#[derive(Debug)]
pub struct Trail {
    epoch: u64,
    oldest: Cell<Option<u64>>,
}

impl Trail {
    /// It begins with what a process knows of itself.
    #[must_use]
    pub fn new(answers: &Answers) -> Self {
        Self {
            epoch: answers.epoch(),
            oldest: Cell::new(Some(Table::now())),
        }
    }

    /// As `new`, for a path that begins at the working directory.
    #[must_use]
    pub fn from_directory(answers: &Answers) -> Self {
        let trail = Self::new(answers);
        answers.by_directory.store(trail.epoch, Ordering::Release);
        trail
    }

    /// What it marks with.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// It leads to what nobody tells the sentry of, or what had to be asked for: then it may have been for the first time.
    pub fn leave(&self) {
        self.oldest.set(None);
    }

    /// A part that was known since then.
    pub(super) fn knew(&self, checked: u64) {
        self.oldest
            .set(self.oldest.get().map(|oldest| oldest.min(checked)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_overtaken_is_not_left() {
        let answers = Answers::default();
        let trail = Trail::new(&answers);
        answers.retract(trail.epoch);
        assert_ne!(trail.epoch, answers.epoch());
        let epoch = answers.epoch();
        answers.retract(trail.epoch);
        assert_eq!(epoch, answers.epoch(), "an old mark says nothing");
        answers.directory_changes();
        assert_eq!(epoch, answers.epoch(), "nobody's answer depends on one");
        let _ = Trail::from_directory(&answers);
        answers.directory_changes();
        assert_ne!(epoch, answers.epoch());
    }

    #[test]
    fn what_was_asked_for_just_now_has_no_deadline() {
        let answers = Answers::default();
        let trail = Trail::new(&answers);
        trail.knew(Table::now());
        trail.leave();
        trail.knew(Table::now());
        assert_eq!(answers.deadline(&trail), None);
    }
}
