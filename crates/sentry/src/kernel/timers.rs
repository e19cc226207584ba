//! Timers that send signals, and the one list of when they are to be looked at. alarm(2), setitimer(2); POSIX timers and CPU time are the neighbours.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Kernel;
use super::signals::{Info, SI_KERNEL, SI_TIMER};
use crate::errno::Result;
use crate::memory::{Address, Memory};

/// What is to be looked at when its time comes. An entry whose timer has another time by then is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A process's ITIMER_REAL.
    Alarm(i32),
    /// A process's POSIX timer on a clock that always runs.
    Timer(i32, i32),
    /// A process's timers on its own CPU time.
    CpuTimers(i32),
    /// A timerfd, by its number.
    File(u64),
    /// A thread that rests from its timers' signals (`rests`).
    Look(i32),
    /// New processes that nobody has heard of for a while (`births`).
    Births,
}

/// How a time is laid out in memory: seconds, then nanoseconds or microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Timespec,
    Timeval,
}

/// Where a program wants to find the time that was left of its limit.
#[derive(Debug, Clone, Copy)]
pub struct Remaining {
    pub at: Address,
    pub layout: Layout,
}

impl Remaining {
    pub fn write(self, tid: i32, deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let part = match self.layout {
            Layout::Timespec => left.subsec_nanos(),
            Layout::Timeval => left.subsec_micros(),
        };
        let mut bytes = left.as_secs().to_le_bytes().to_vec();
        bytes.extend(u64::from(part).to_le_bytes());
        Memory { tid }.write(self.at, &bytes)
    }
}

/// A timer of setitimer(2): when it rings next, and how often after that. On CPU time, both are counts of that.
#[derive(Debug, Clone, Copy)]
pub struct Periodic<T> {
    pub next: Option<T>,
    pub interval: Duration,
    /// When it rang, until the signal is taken: it goes on only then, so that an unread signal costs nothing. Linux: posixtimer_rearm_itimer().
    pub rang: Option<T>,
}

impl<T> Default for Periodic<T> {
    fn default() -> Self {
        Self {
            next: None,
            interval: Duration::ZERO,
            rang: None,
        }
    }
}

/// The three interval timers of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alarm {
    pub real: Periodic<Instant>,
    /// ITIMER_VIRTUAL and ITIMER_PROF, at counts of user time and of all CPU time.
    pub user: Periodic<Duration>,
    pub profile: Periodic<Duration>,
    /// When CPU time is read next, and how much it was last.
    pub check: Option<Instant>,
    pub seen: Duration,
    /// A signal of a timer's is being handled; and until when none comes after that (`rests`).
    pub is_handled: bool,
    pub rests_until: Option<Instant>,
}

pub type Timers = BTreeMap<i32, super::posix_timers::Timer>;

/// The next of the times `last + n * interval` (n > 0) that lies after `now`, and how many lie between. A zero interval has none.
#[must_use]
pub fn forward(last: Instant, interval: Duration, now: Instant) -> Option<(Instant, u64)> {
    if interval.is_zero() {
        return None;
    }
    let passed = now.saturating_duration_since(last);
    let count = passed.as_nanos() / interval.as_nanos();
    let count = u64::try_from(count).ok()?;
    let next = u128::from(count + 1) * interval.as_nanos();
    let next = Duration::from_nanos(u64::try_from(next).ok()?);
    Some((last.checked_add(next)?, count))
}

impl Kernel {
    /// Has the watcher ring at the first time at which there is something to do.
    pub fn set_alarm(&self) {
        let wait = self.deadlines.keys().next().map(|(time, _)| *time);
        let due = self.due.first().map(|(time, _)| *time);
        let first = match (wait, due) {
            (Some(wait), Some(due)) => Some(wait.min(due)),
            (one, other) => one.or(other),
        };
        self.watcher.set_alarm(first);
    }

    pub fn arm(&mut self, at: Instant, due: Due) {
        self.due.insert((at, due));
        if self.due.first() == Some(&(at, due)) {
            self.set_alarm();
        }
    }

    pub fn disarm(&mut self, at: Option<Instant>, due: Due) {
        if let Some(at) = at {
            self.due.remove(&(at, due));
        }
    }

    /// Lets what is due by `now` expire.
    pub fn run_due(&mut self, now: Instant) {
        while let Some(&(at, due)) = self.due.first() {
            if at > now {
                return;
            }
            self.due.remove(&(at, due));
            match due {
                Due::Alarm(pid) => self.ring(pid, at),
                Due::Timer(pid, id) => self.expire_timer(pid, id, at),
                Due::CpuTimers(pid) => self.check_cpu_timers(pid, at),
                Due::File(id) => self.timer_file_expired(id),
                Due::Look(tid) => self.look_again(tid),
                Due::Births => self.end_births(now),
            }
        }
    }

    fn ring(&mut self, pid: i32, at: Instant) {
        let rests = self.rests(pid, at);
        let Ok(process) = self.process_mut(pid) else {
            return;
        };
        let real = &mut process.alarm.real;
        let Some(next) = real.next.filter(|next| *next <= at) else {
            return;
        };
        if let Some(until) = rests {
            return self.arm(until, Due::Alarm(pid));
        }
        real.next = None;
        real.rang = Some(next);
        self.send_to_process(pid, Info::new(libc::SIGALRM, SI_KERNEL));
    }

    /// Sets ITIMER_REAL (a zero time disarms it); returns what was left, and the old interval.
    pub fn set_real_timer(
        &mut self,
        pid: i32,
        time: Duration,
        interval: Duration,
    ) -> Result<(Duration, Duration)> {
        let old = self.real_timer(pid)?;
        let process = self.process_mut(pid)?;
        let before = process.alarm.real.next;
        let next = Some(time).filter(|time| !time.is_zero());
        let next = next.and_then(|time| Instant::now().checked_add(time));
        process.alarm.real = Periodic {
            next,
            interval,
            rang: None,
        };
        self.disarm(before, Due::Alarm(pid));
        if let Some(next) = next {
            self.arm(next, Due::Alarm(pid));
        }
        Ok(old)
    }

    pub fn real_timer(&self, pid: i32) -> Result<(Duration, Duration)> {
        let real = self.process(pid)?.alarm.real;
        let left = real.next.map_or(Duration::ZERO, |next| {
            // Armed is never 0. Linux: itimer_get_remtime().
            next.saturating_duration_since(Instant::now())
                .max(Duration::from_micros(1))
        });
        Ok((left, real.interval))
    }

    /// A signal was taken from a queue: the timer that sent it goes on, and tells how often it would have rung meanwhile.
    pub fn signal_taken(&mut self, pid: i32, info: &mut Info) {
        let Ok(process) = self.process_mut(pid) else {
            return;
        };
        let alarm = &mut process.alarm;
        if let Some(id) = info.timer
            && info.code == SI_TIMER
        {
            alarm.is_handled = true;
            return self.timer_taken(pid, id, info);
        }
        if info.signal != libc::SIGALRM {
            return;
        }
        let real = &mut alarm.real;
        let Some(rang) = real.rang.take() else { return };
        alarm.is_handled = true;
        if let Some((next, _)) = forward(rang, real.interval, Instant::now()) {
            real.next = Some(next);
            self.arm(next, Due::Alarm(pid));
        }
    }
}
