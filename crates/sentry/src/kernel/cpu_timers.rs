//! Timers on CPU time. The host's kernel keeps that time, so it is read: never before the process can have used up what is left, and at most every 4 ms.

use std::time::{Duration, Instant};

use casemate_platform::process::{CpuClock, cpu_time};

use super::Kernel;
use super::posix_timers::{Clock, Time};
use super::signals::{Info, SI_KERNEL};
use super::timers::{Due, Periodic};
use crate::errno::{Errno, Result};

/// The shortest time between two readings: Linux's own timers on CPU time are as coarse (a tick at HZ=250).
const SHORTEST: Duration = Duration::from_millis(4);
/// And while the process uses none at all.
const IDLE: Duration = Duration::from_millis(20);

/// ITIMER_VIRTUAL or ITIMER_PROF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuAlarm {
    User,
    Profile,
}

impl CpuAlarm {
    fn clock(self) -> CpuClock {
        match self {
            Self::User => CpuClock::User,
            Self::Profile => CpuClock::UserAndSystem,
        }
    }

    fn signal(self) -> i32 {
        match self {
            Self::User => libc::SIGVTALRM,
            Self::Profile => libc::SIGPROF,
        }
    }
}

/// CPU time of one thread. Its clock is only for its own process to read, but /proc tells it, exact to the host's last tick.
fn thread_time(tid: i32) -> Result<Duration> {
    let text = crate::host::read_text(&format!("/proc/{tid}/schedstat"))?;
    let nanoseconds = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    nanoseconds.map(Duration::from_nanos).ok_or(Errno::EINVAL)
}

impl Kernel {
    /// CPU time on a timer's clock. `EINVAL` for a clock that is not of that kind.
    pub fn cpu_time(&self, pid: i32, clock: Clock) -> Result<Duration> {
        match clock {
            Clock::Wall(_) => Err(Errno::EINVAL),
            Clock::Process => Ok(cpu_time(self.process(pid)?.host_pid, CpuClock::All)?),
            Clock::Thread(tid) => Ok(thread_time(tid)?),
        }
    }

    fn alarm(&mut self, pid: i32, which: CpuAlarm) -> Result<&mut Periodic<Duration>> {
        let alarm = &mut self.process_mut(pid)?.alarm;
        Ok(match which {
            CpuAlarm::User => &mut alarm.user,
            CpuAlarm::Profile => &mut alarm.profile,
        })
    }

    /// What is left of the timer, and its interval.
    pub fn cpu_alarm(&mut self, pid: i32, which: CpuAlarm) -> Result<(Duration, Duration)> {
        let used = cpu_time(self.process(pid)?.host_pid, which.clock())?;
        let alarm = self.alarm(pid, which)?;
        let left = alarm.next.map_or(Duration::ZERO, |next| {
            next.saturating_sub(used).max(Duration::from_micros(1))
        });
        Ok((left, alarm.interval))
    }

    pub fn set_cpu_alarm(
        &mut self,
        pid: i32,
        which: CpuAlarm,
        time: Duration,
        interval: Duration,
    ) -> Result<(Duration, Duration)> {
        let old = self.cpu_alarm(pid, which)?;
        let used = cpu_time(self.process(pid)?.host_pid, which.clock())?;
        *self.alarm(pid, which)? = Periodic {
            next: (!time.is_zero()).then(|| used.saturating_add(time)),
            interval,
            rang: None,
        };
        self.plan_cpu_check(pid);
        Ok(old)
    }

    /// Sets when CPU time is read next: as soon as the first timer could expire if all threads computed.
    pub fn plan_cpu_check(&mut self, pid: i32) {
        let Some(left) = self.least_cpu_left(pid) else {
            return;
        };
        let Ok(process) = self.process_mut(pid) else {
            return;
        };
        let threads = process.threads.len().max(1);
        let used = cpu_time(process.host_pid, CpuClock::All).unwrap_or_default();
        let is_idle = used == process.alarm.seen;
        process.alarm.seen = used;
        let shortest = if is_idle { IDLE } else { SHORTEST };
        let wait = (left / u32::try_from(threads).unwrap_or(u32::MAX)).max(shortest);
        let before = process.alarm.check.take();
        let at = Instant::now().checked_add(wait);
        process.alarm.check = at;
        self.disarm(before, Due::CpuTimers(pid));
        if let Some(at) = at {
            self.arm(at, Due::CpuTimers(pid));
        }
    }

    fn least_cpu_left(&mut self, pid: i32) -> Option<Duration> {
        let mut least: Option<Duration> = None;
        let mut note = |left: Duration| least = Some(least.map_or(left, |least| least.min(left)));
        for which in [CpuAlarm::User, CpuAlarm::Profile] {
            if self.alarm(pid, which).ok()?.next.is_some() {
                note(self.cpu_alarm(pid, which).ok()?.0);
            }
        }
        for timer in self.process(pid).ok()?.timers.values() {
            if let Some(Time::Cpu(next)) = timer.next
                && let Ok(used) = self.cpu_time(pid, timer.clock)
            {
                note(next.saturating_sub(used));
            }
        }
        least
    }

    /// Reads CPU time and lets expire what is over.
    pub fn check_cpu_timers(&mut self, pid: i32, at: Instant) {
        let Ok(process) = self.process_mut(pid) else {
            return;
        };
        if process.alarm.check != Some(at) {
            return;
        }
        process.alarm.check = None;
        for which in [CpuAlarm::User, CpuAlarm::Profile] {
            self.check_cpu_alarm(pid, which);
        }
        self.check_posix_cpu_timers(pid);
        self.plan_cpu_check(pid);
    }

    fn check_cpu_alarm(&mut self, pid: i32, which: CpuAlarm) {
        let host_pid = self.process(pid).map_or(0, |process| process.host_pid);
        let used = cpu_time(host_pid, which.clock()).unwrap_or_default();
        let Ok(alarm) = self.alarm(pid, which) else {
            return;
        };
        let Some(next) = alarm.next.filter(|next| *next <= used) else {
            return;
        };
        // Linux: check_cpu_itimer() goes on from the time it was set for.
        alarm.next = (!alarm.interval.is_zero()).then(|| (next + alarm.interval).max(used));
        self.send_to_process(pid, Info::new(which.signal(), SI_KERNEL));
    }

    fn check_posix_cpu_timers(&mut self, pid: i32) {
        let Ok(process) = self.process(pid) else {
            return;
        };
        let over: Vec<(i32, Duration)> = process
            .timers
            .iter()
            .filter_map(|(id, timer)| match timer.next {
                Some(Time::Cpu(next)) if self.cpu_time(pid, timer.clock).ok()? >= next => {
                    Some((*id, next))
                }
                _ => None,
            })
            .collect();
        for (id, next) in over {
            self.tell_timer(pid, id, Time::Cpu(next));
        }
    }
}
