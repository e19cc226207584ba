//! POSIX timers: timer_create(2). As in Linux, a timer that has sent its signal goes on when that is taken, and only counts meanwhile.

use std::time::{Duration, Instant};

use super::Kernel;
use super::signals::{Info, SI_TIMER};
use super::timers::{Due, forward};
use crate::errno::{Errno, Result};

/// What a timer runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// A clock that always runs: the number that clock_gettime(2) knows it by.
    Wall(i32),
    /// The process's CPU time.
    Process,
    /// A thread's, by native id.
    Thread(i32),
}

/// A point on a timer's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    Wall(Instant),
    Cpu(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    Nobody,
    /// The signal, and the thread (native id) if it is for one alone.
    Signal(i32, Option<i32>),
}

#[derive(Debug, Clone)]
pub struct Timer {
    pub clock: Clock,
    pub next: Option<Time>,
    pub interval: Duration,
    pub notify: Notify,
    /// `sigev_value`.
    pub value: u64,
    /// When it expired, until its signal is taken.
    pub rang: Option<Time>,
    /// What timer_getoverrun(2) tells: how often it expired unseen before the signal that was taken last.
    pub overruns: i32,
}

/// How soon a timer looks again whose signal is ignored.
const IGNORED: Duration = Duration::from_millis(10);
/// timer_getoverrun(2): DELAYTIMER_MAX.
const MOST_OVERRUNS: u64 = i32::MAX as u64;

impl Kernel {
    pub fn timer(&self, pid: i32, id: i32) -> Result<&Timer> {
        let timers = &self.process(pid)?.timers;
        timers.get(&id).ok_or(Errno::EINVAL)
    }

    fn timer_mut(&mut self, pid: i32, id: i32) -> Option<&mut Timer> {
        self.process_mut(pid).ok()?.timers.get_mut(&id)
    }

    /// Arms the timer for `next`, or disarms it; a signal of its that nobody has taken is void.
    pub fn set_timer(
        &mut self,
        pid: i32,
        id: i32,
        next: Option<Time>,
        interval: Duration,
    ) -> Result<()> {
        self.stop_timer(pid, id)?;
        let timer = self.timer_mut(pid, id).ok_or(Errno::EINVAL)?;
        timer.next = next;
        timer.interval = interval;
        timer.overruns = 0;
        let tells = timer.notify != Notify::Nobody;
        match next {
            Some(Time::Wall(at)) if tells => self.arm(at, Due::Timer(pid, id)),
            Some(Time::Cpu(_)) => self.plan_cpu_check(pid),
            _ => {}
        }
        Ok(())
    }

    pub fn delete_timer(&mut self, pid: i32, id: i32) -> Result<()> {
        self.stop_timer(pid, id)?;
        self.process_mut(pid)?.timers.remove(&id);
        Ok(())
    }

    fn stop_timer(&mut self, pid: i32, id: i32) -> Result<()> {
        let timer = self.timer_mut(pid, id).ok_or(Errno::EINVAL)?;
        let (next, notify) = (timer.next.take(), timer.notify);
        timer.rang = None;
        if let Some(Time::Wall(at)) = next {
            self.disarm(Some(at), Due::Timer(pid, id));
        }
        self.process_mut(pid)?.pending.discard_timer(id);
        if let Notify::Signal(_, Some(tid)) = notify
            && let Ok(task) = self.task_mut(tid)
        {
            task.pending.discard_timer(id);
        }
        Ok(())
    }

    /// A timer's time on a wall clock has come.
    pub fn expire_timer(&mut self, pid: i32, id: i32, at: Instant) {
        let Ok(timer) = self.timer(pid, id) else {
            return;
        };
        let Some(Time::Wall(next)) = timer.next else {
            return;
        };
        if next > at {
            return;
        }
        match self.rests(pid, at) {
            Some(until) => self.arm(until, Due::Timer(pid, id)),
            None => self.tell_timer(pid, id, Time::Wall(next)),
        }
    }

    /// Sends an expired timer's signal.
    pub fn tell_timer(&mut self, pid: i32, id: i32, at: Time) {
        let Some(timer) = self.timer_mut(pid, id) else {
            return;
        };
        timer.next = None;
        timer.rang = Some(at);
        let Notify::Signal(signal, thread) = timer.notify else {
            return;
        };
        let mut info = Info::new(signal, SI_TIMER);
        info.timer = Some(id);
        info.fields[..4].copy_from_slice(&id.to_le_bytes());
        info.fields[8..16].copy_from_slice(&timer.value.to_le_bytes());
        match thread {
            Some(tid) => self.send_to_thread(tid, info),
            None => self.send_to_process(pid, info),
        };
        let is_pending = self
            .process(pid)
            .is_ok_and(|process| process.pending.has_timer(id))
            || thread
                .is_some_and(|tid| self.task(tid).is_ok_and(|task| task.pending.has_timer(id)));
        if !is_pending {
            self.go_on_ignored(pid, id, at);
        }
    }

    /// Nobody will ever take the signal, so the timer goes on by itself, no faster than need be. Linux: posixtimer_sig_ignore().
    fn go_on_ignored(&mut self, pid: i32, id: i32, at: Time) {
        let now = Instant::now();
        let Some(timer) = self.timer_mut(pid, id) else {
            return;
        };
        let Time::Wall(at) = at else { return };
        let Some((next, _)) = forward(at, timer.interval, now + IGNORED) else {
            return;
        };
        timer.rang = None;
        timer.next = Some(Time::Wall(next));
        self.arm(next, Due::Timer(pid, id));
    }

    /// The timer's signal is being taken: it goes on from when it expired, and the signal tells what was missed.
    pub fn timer_taken(&mut self, pid: i32, id: i32, info: &mut Info) {
        let cpu = self.timer(pid, id).map(|timer| timer.clock);
        let cpu = cpu.and_then(|clock| self.cpu_time(pid, clock));
        let Some(timer) = self.timer_mut(pid, id) else {
            return;
        };
        let (next, missed) = match timer.rang.take() {
            Some(Time::Wall(at)) => forward(at, timer.interval, Instant::now())
                .map_or((None, 0), |(next, missed)| (Some(Time::Wall(next)), missed)),
            Some(Time::Cpu(at)) => after(at, timer.interval, cpu.unwrap_or(at)),
            None => return,
        };
        timer.next = next;
        timer.overruns = missed.min(MOST_OVERRUNS) as i32;
        info.fields[4..8].copy_from_slice(&timer.overruns.to_le_bytes());
        match next {
            Some(Time::Wall(at)) => self.arm(at, Due::Timer(pid, id)),
            Some(Time::Cpu(_)) => self.plan_cpu_check(pid),
            None => {}
        }
    }

    /// How long until the timer expires next; zero if it is not armed.
    pub fn timer_left(&self, pid: i32, id: i32) -> Result<Duration> {
        let timer = self.timer(pid, id)?;
        let Some(next) = timer.next.or(timer.rang) else {
            return Ok(Duration::ZERO);
        };
        let left = match next {
            Time::Wall(next) => {
                let now = Instant::now();
                if next > now {
                    next - now
                } else {
                    // Expired and unseen: as if it had gone on.
                    forward(next, timer.interval, now)
                        .map_or(Duration::ZERO, |(next, _)| next - now)
                }
            }
            Time::Cpu(next) => {
                let used = self.cpu_time(pid, timer.clock)?;
                next.saturating_sub(used)
            }
        };
        let is_armed = timer.next.is_some() && timer.notify != Notify::Nobody;
        Ok(left.max(Duration::from_nanos(u64::from(is_armed))))
    }
}

/// As `forward`, on CPU time.
fn after(last: Duration, interval: Duration, now: Duration) -> (Option<Time>, u64) {
    if interval.is_zero() {
        return (None, 0);
    }
    let count = now.saturating_sub(last).as_nanos() / interval.as_nanos();
    let count = u64::try_from(count).unwrap_or(u64::MAX - 1);
    let next = u128::from(count + 1) * interval.as_nanos();
    let next = u64::try_from(next).map_or(Duration::MAX, Duration::from_nanos);
    (Some(Time::Cpu(last.saturating_add(next))), count)
}
