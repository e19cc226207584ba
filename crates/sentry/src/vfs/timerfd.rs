//! timerfd_create(2): a time to come, how often it has passed. One that has expired is looked at again only when somebody reads or asks, as in Linux, so that a
//! short interval costs nothing while nobody does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::description::Description;
use super::file::{File, POLLIN};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::timers::{Due, forward};
use crate::kernel::wake::WaitQueue;
use crate::memory::Buffer;
use crate::syscalls::Cx;

/// A clock of the program's choice at the moment of `at`, by which absolute times are told.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub at: Instant,
    pub time: Duration,
}

/// When it expires next, and how often after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Setting {
    pub interval: Duration,
    pub value: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// `None`: disarmed, or it has expired for good.
    next: Option<Instant>,
    interval: Duration,
    /// Expirations that nobody has read.
    ticks: u64,
}

#[derive(Debug)]
pub struct TimerFd {
    /// What clock_gettime(2) calls its clock.
    pub clock: i32,
    /// By which `Due` names it.
    id: u64,
    state: Mutex<State>,
    queue: WaitQueue,
}

impl State {
    /// Counts what has expired by `now`.
    fn advance(&mut self, now: Instant) {
        let Some(next) = self.next.filter(|next| *next <= now) else {
            return;
        };
        let (next, missed) = match forward(next, self.interval, now) {
            Some((next, missed)) => (Some(next), missed),
            None => (None, 0),
        };
        self.next = next;
        self.ticks = self.ticks.saturating_add(missed).saturating_add(1);
    }

    fn setting(&self, now: Instant) -> Setting {
        Setting {
            interval: self.interval,
            value: self
                .next
                .map_or(Duration::ZERO, |next| next.saturating_duration_since(now)),
        }
    }
}

impl TimerFd {
    pub fn new(kernel: &mut Kernel, clock: i32) -> Arc<Self> {
        let id = kernel.new_inode();
        let file = Arc::new(Self {
            clock,
            id,
            state: Mutex::default(),
            queue: WaitQueue::default(),
        });
        let files = &mut kernel.timer_files;
        // Those that are gone are swept whenever their number has doubled.
        if files.len().is_power_of_two() {
            files.retain(|_, file| file.strong_count() > 0);
        }
        files.insert(id, Arc::downgrade(&file));
        file
    }

    /// `EINVAL` for any other file.
    pub fn of(description: &Description) -> Result<&Self> {
        let file = description.file.downcast_ref::<Self>();
        file.ok_or(Errno::EINVAL)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms or disarms it; returns what it was set to. `absolute`: the value is a time of its clock.
    pub fn set(&self, kernel: &mut Kernel, new: Setting, absolute: bool, now: Now) -> Setting {
        let mut state = self.lock();
        state.advance(now.at);
        let old = state.setting(now.at);
        let before = state.next;
        // As far as a clock of nanoseconds goes. Linux: timespec64_to_ktime().
        let value = new.value.min(Duration::from_nanos(i64::MAX as u64));
        state.next = if value.is_zero() {
            None
        } else if !absolute {
            now.at.checked_add(value)
        } else if value >= now.time {
            now.at.checked_add(value - now.time)
        } else {
            now.at.checked_sub(now.time - value)
        };
        state.interval = new.interval;
        state.ticks = 0;
        let next = state.next;
        drop(state);
        kernel.disarm(before, Due::File(self.id));
        self.arm(kernel, next);
        old
    }

    fn arm(&self, kernel: &mut Kernel, next: Option<Instant>) {
        if let Some(next) = next {
            kernel.arm(next, Due::File(self.id));
        }
    }

    /// What timerfd_gettime(2) tells. That, too, has a periodic one go on.
    pub fn setting(&self, kernel: &mut Kernel, now: Instant) -> Setting {
        let mut state = self.lock();
        state.advance(now);
        let (setting, next) = (state.setting(now), state.next);
        drop(state);
        self.arm(kernel, next);
        setting
    }
}

impl Kernel {
    pub fn timer_file_expired(&mut self, id: u64) {
        match self.timer_files.get(&id).and_then(Weak::upgrade) {
            Some(file) => file.queue.wake_for(POLLIN),
            None => drop(self.timer_files.remove(&id)),
        }
    }
}

impl File for TimerFd {
    fn read_for(
        &self,
        cx: &mut Cx<'_>,
        _description: &Description,
        to: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut state = self.lock();
        state.advance(Instant::now());
        let ticks = std::mem::take(&mut state.ticks);
        let next = state.next;
        drop(state);
        if ticks == 0 {
            return Err(Errno::EAGAIN);
        }
        self.arm(cx.kernel, next);
        to.put(&ticks.to_le_bytes())
    }

    fn poll(&self) -> u32 {
        let state = self.lock();
        let is_due = state.next.is_some_and(|next| next <= Instant::now());
        if state.ticks > 0 || is_due { POLLIN } else { 0 }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn anonymous(&self) -> Option<&'static str> {
        Some("[timerfd]")
    }
}
