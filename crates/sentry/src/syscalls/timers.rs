//! Timers that send signals: alarm(2), setitimer(2), timer_create(2).

use std::time::Duration;

use super::arguments::Flags;
use super::time::{clock_now, instant_of, read_timespec};
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::cpu_timers::CpuAlarm;
use crate::kernel::posix_timers::{Clock, Notify, Time, Timer};
use crate::kernel::signals::LAST;
use crate::memory::{Address, half, word};

const ITIMER_REAL: i32 = 0;
const ITIMER_VIRTUAL: i32 = 1;
const ITIMER_PROF: i32 = 2;
/// POSIX timers of one process, at most: RLIMIT_SIGPENDING's share, as for queued signals.
const MOST_TIMERS: usize = 4096;

pub fn alarm(cx: &mut Cx<'_>, seconds: u32) -> SysResult {
    let pid = cx.process()?.pid;
    let time = Duration::from_secs(seconds.into());
    let (old, _) = cx.kernel.set_real_timer(pid, time, Duration::ZERO)?;
    // Linux: alarm_setitimer(): never 0 for one that was armed.
    let round = old.subsec_micros() >= 500_000 || old.as_secs() == 0 && old.subsec_micros() > 0;
    value(old.as_secs() + u64::from(round))
}

pub fn getitimer(cx: &mut Cx<'_>, which: i32, current: Address) -> SysResult {
    let pid = cx.process()?.pid;
    let (left, interval) = match which {
        ITIMER_REAL => cx.kernel.real_timer(pid)?,
        _ => cx.kernel.cpu_alarm(pid, cpu_alarm(which)?)?,
    };
    write_itimer(cx, current, left, interval)?;
    DONE
}

pub fn setitimer(cx: &mut Cx<'_>, which: i32, new: Address, old: Address) -> SysResult {
    // A null pointer disarms, as Linux still allows.
    let (interval, time) = if new.is_null() {
        (Duration::ZERO, Duration::ZERO)
    } else {
        let bytes = cx.memory().read_vec(new, 32)?;
        (timeval(&bytes[..16])?, timeval(&bytes[16..])?)
    };
    let pid = cx.process()?.pid;
    let (left, before) = match which {
        ITIMER_REAL => cx.kernel.set_real_timer(pid, time, interval)?,
        _ => cx
            .kernel
            .set_cpu_alarm(pid, cpu_alarm(which)?, time, interval)?,
    };
    if !old.is_null() {
        write_itimer(cx, old, left, before)?;
    }
    DONE
}

fn cpu_alarm(which: i32) -> Result<CpuAlarm> {
    match which {
        ITIMER_VIRTUAL => Ok(CpuAlarm::User),
        ITIMER_PROF => Ok(CpuAlarm::Profile),
        _ => Err(Errno::EINVAL),
    }
}

/// A `struct timeval` as a length of time. `EINVAL` negative, or microseconds out of range.
pub fn timeval(bytes: &[u8]) -> Result<Duration> {
    let seconds = u64::try_from(word(bytes, 0).cast_signed()).map_err(|_| Errno::EINVAL)?;
    let microseconds = word(bytes, 8);
    if microseconds > 999_999 {
        return Err(Errno::EINVAL);
    }
    Ok(Duration::new(seconds, microseconds as u32 * 1000))
}

fn write_itimer(cx: &Cx<'_>, at: Address, left: Duration, interval: Duration) -> Result<()> {
    let bytes: Vec<u8> = [interval, left]
        .into_iter()
        .flat_map(|time| [time.as_secs(), u64::from(time.subsec_micros())])
        .flat_map(u64::to_le_bytes)
        .collect();
    cx.memory().write(at, &bytes)
}

pub fn timer_create(cx: &mut Cx<'_>, clock: i32, event: Address, id: Address) -> SysResult {
    let clock = timer_clock(cx, clock)?;
    let process = cx.process()?;
    let pid = process.pid;
    if process.timers.len() >= MOST_TIMERS {
        return Err(Errno::EAGAIN);
    }
    let number = process
        .timers
        .last_key_value()
        .map_or(0, |(last, _)| last.saturating_add(1));
    let (notify, sigval) = if event.is_null() {
        (
            Notify::Signal(libc::SIGALRM, None),
            u64::from(number.cast_unsigned()),
        )
    } else {
        read_event(cx, event)?
    };
    cx.memory().write_i32(id, number)?;
    let timer = Timer {
        clock,
        next: None,
        interval: Duration::ZERO,
        notify,
        value: sigval,
        rang: None,
        overruns: 0,
    };
    cx.kernel.process_mut(pid)?.timers.insert(number, timer);
    DONE
}

/// How the C library numbers the caller's own CPU time: that of process or thread 0. Linux: MAKE_PROCESS_CPUCLOCK().
const OWN_PROCESS: i32 = -6;
const OWN_THREAD: i32 = -2;

/// Which clock a timer may run on. timer_create(2); those that wake the machine are for its owner.
fn timer_clock(cx: &Cx<'_>, clock: i32) -> Result<Clock> {
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME | libc::CLOCK_TAI => {
            Ok(Clock::Wall(clock))
        }
        libc::CLOCK_PROCESS_CPUTIME_ID | OWN_PROCESS => Ok(Clock::Process),
        libc::CLOCK_THREAD_CPUTIME_ID | OWN_THREAD => Ok(Clock::Thread(cx.tid())),
        libc::CLOCK_MONOTONIC_RAW..=libc::CLOCK_MONOTONIC_COARSE => Err(Errno::EOPNOTSUPP),
        libc::CLOCK_REALTIME_ALARM | libc::CLOCK_BOOTTIME_ALARM => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// A `struct sigevent`: who is told, and with which value. Linux: good_sigevent().
fn read_event(cx: &Cx<'_>, event: Address) -> Result<(Notify, u64)> {
    const SIGEV_SIGNAL: u32 = 0;
    const SIGEV_NONE: u32 = 1;
    const SIGEV_THREAD: u32 = 2;
    const SIGEV_THREAD_ID: u32 = 4;
    let bytes = cx.memory().read_vec(event, 64)?;
    let (sigval, signal) = (word(&bytes, 0), half(&bytes, 8).cast_signed());
    let how = half(&bytes, 12);
    if how == SIGEV_NONE {
        return Ok((Notify::Nobody, sigval));
    }
    let thread = match how {
        SIGEV_SIGNAL | SIGEV_THREAD => None,
        SIGEV_THREAD_ID => {
            let tid = half(&bytes, 16).cast_signed();
            let host = cx.kernel.find_thread(tid).ok_or(Errno::EINVAL)?;
            if cx.kernel.task(host)?.pid != cx.task()?.pid {
                return Err(Errno::EINVAL);
            }
            Some(host)
        }
        _ => return Err(Errno::EINVAL),
    };
    if !(1..=LAST).contains(&signal) {
        return Err(Errno::EINVAL);
    }
    Ok((Notify::Signal(signal, thread), sigval))
}

pub fn timer_settime(
    cx: &mut Cx<'_>,
    id: i32,
    flags: Flags,
    new: Address,
    old: Address,
) -> SysResult {
    if new.is_null() {
        return Err(Errno::EINVAL);
    }
    let interval = read_timespec(cx, new)?;
    let time = read_timespec(cx, new.offset(16))?;
    let pid = cx.process()?.pid;
    let timer = cx.kernel.timer(pid, id)?;
    let (clock, before) = (timer.clock, timer.interval);
    let left = cx.kernel.timer_left(pid, id)?;
    let next = if time.is_zero() {
        None
    } else {
        let is_absolute = flags.has(libc::TIMER_ABSTIME);
        Some(match clock {
            Clock::Wall(clock) if is_absolute => Time::Wall(instant_of(clock_now(clock)?, time)),
            Clock::Wall(_) => Time::Wall(instant_of(Duration::ZERO, time)),
            _ if is_absolute => Time::Cpu(time),
            clock => Time::Cpu(cx.kernel.cpu_time(pid, clock)?.saturating_add(time)),
        })
    };
    cx.kernel.set_timer(pid, id, next, interval)?;
    if !old.is_null() {
        write_spec(cx, old, left, before)?;
    }
    DONE
}

fn write_spec(cx: &Cx<'_>, at: Address, left: Duration, interval: Duration) -> Result<()> {
    super::time::write_timespec(cx, at, interval)?;
    super::time::write_timespec(cx, at.offset(16), left)
}

pub fn timer_gettime(cx: &mut Cx<'_>, id: i32, current: Address) -> SysResult {
    let pid = cx.process()?.pid;
    let interval = cx.kernel.timer(pid, id)?.interval;
    let left = cx.kernel.timer_left(pid, id)?;
    write_spec(cx, current, left, interval)?;
    DONE
}

pub fn timer_getoverrun(cx: &mut Cx<'_>, id: i32) -> SysResult {
    let pid = cx.process()?.pid;
    value(cx.kernel.timer(pid, id)?.overruns)
}

pub fn timer_delete(cx: &mut Cx<'_>, id: i32) -> SysResult {
    let pid = cx.process()?.pid;
    cx.kernel.delete_timer(pid, id)?;
    DONE
}
