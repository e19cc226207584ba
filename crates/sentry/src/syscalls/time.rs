//! Clocks and sleeping. The clocks themselves are the host's, mostly answered without asking.

use std::time::{Duration, Instant};

use super::arguments::Flags;
use super::{Cx, DONE, Outcome, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::posix_timers::Clock;
use crate::kernel::task::Restart;
use crate::kernel::timers::{Layout, Remaining};
use crate::memory::{Address, word};

/// A `struct timespec` as a length of time. `EINVAL` negative, or nanoseconds out of range.
pub fn read_timespec(cx: &Cx<'_>, at: Address) -> Result<Duration> {
    let bytes = cx.memory().read_vec(at, 16)?;
    let seconds = u64::try_from(word(&bytes, 0).cast_signed()).map_err(|_| Errno::EINVAL)?;
    let nanoseconds = word(&bytes, 8);
    if nanoseconds > 999_999_999 {
        return Err(Errno::EINVAL);
    }
    Ok(Duration::new(seconds, nanoseconds as u32))
}

pub fn write_timespec(cx: &Cx<'_>, at: Address, time: Duration) -> Result<()> {
    let mut bytes = time.as_secs().to_le_bytes().to_vec();
    bytes.extend(u64::from(time.subsec_nanos()).to_le_bytes());
    cx.memory().write(at, &bytes)
}

/// What a clock that always runs shows. `EOPNOTSUPP`, `EPERM`, `EINVAL` for any other number.
pub fn clock_now(clock: i32) -> Result<Duration> {
    use rustix::time::ClockId;
    let clock = match clock {
        // TAI runs beside real time, at an offset that nobody sets here.
        libc::CLOCK_REALTIME | libc::CLOCK_TAI => ClockId::Realtime,
        libc::CLOCK_MONOTONIC => ClockId::Monotonic,
        libc::CLOCK_BOOTTIME => ClockId::Boottime,
        // These exist, but nobody can wait for them.
        libc::CLOCK_THREAD_CPUTIME_ID..=libc::CLOCK_MONOTONIC_COARSE => {
            return Err(Errno::EOPNOTSUPP);
        }
        // Waking the machine is for its owner.
        libc::CLOCK_REALTIME_ALARM | libc::CLOCK_BOOTTIME_ALARM => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let now = rustix::time::clock_gettime(clock);
    Ok(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
}

/// When a clock that shows `now` will show `time`; a century from now at most.
#[must_use]
pub fn instant_of(now: Duration, time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    Instant::now() + time.saturating_sub(now).min(CENTURY)
}

pub fn nanosleep(cx: &mut Cx<'_>, request: Address, remaining: Address) -> SysResult {
    let limit = read_timespec(cx, request)?;
    sleep(cx, limit, remaining)
}

pub fn clock_nanosleep(
    cx: &mut Cx<'_>,
    clock: i32,
    flags: Flags,
    request: Address,
    remaining: Address,
) -> SysResult {
    let is_absolute = flags.has(libc::TIMER_ABSTIME);
    if clock == libc::CLOCK_PROCESS_CPUTIME_ID {
        let request = read_timespec(cx, request)?;
        return sleep_cpu(cx, request, is_absolute, remaining);
    }
    let now = clock_now(clock)?;
    let request = read_timespec(cx, request)?;
    if !is_absolute {
        return sleep(cx, request, remaining);
    }
    sleep(cx, request.saturating_sub(now), Address(0))
}

fn sleep(cx: &mut Cx<'_>, limit: Duration, remaining: Address) -> SysResult {
    if cx.has_timed_out() || limit.is_zero() {
        return DONE;
    }
    let deadline = cx.deadline(Some(limit));
    let remaining = left_at(remaining, Layout::Timespec);
    let ticket = cx.ticket()?;
    cx.wait_for(ticket, deadline, Restart::WithoutHandler, 0, remaining)
}

/// Where to leave the time that was left; nowhere for a null pointer.
#[must_use]
pub fn left_at(at: Address, layout: Layout) -> Option<Remaining> {
    (!at.is_null()).then_some(Remaining { at, layout })
}

/// Sleeps until the process has used so much CPU time; that is read as rarely as for timers on it.
fn sleep_cpu(
    cx: &mut Cx<'_>,
    request: Duration,
    is_absolute: bool,
    remaining: Address,
) -> SysResult {
    const SHORTEST: Duration = Duration::from_millis(4);
    let process = cx.process()?;
    let (pid, threads) = (process.pid, process.threads.len().max(1));
    let used = cx.kernel.cpu_time(pid, Clock::Process)?;
    let target = match &cx.resumed {
        Some(blocked) => Duration::from_nanos(blocked.progress),
        None if is_absolute => request,
        None => used.saturating_add(request),
    };
    let left = target.saturating_sub(used);
    if left.is_zero() {
        return DONE;
    }
    if !remaining.is_null() && !is_absolute {
        write_timespec(cx, remaining, left)?;
    }
    let wait = (left / u32::try_from(threads).unwrap_or(u32::MAX)).max(SHORTEST);
    let deadline = instant_of(Duration::ZERO, wait);
    let progress = u64::try_from(target.as_nanos()).unwrap_or(u64::MAX);
    let ticket = cx.ticket()?;
    cx.wait(ticket, Some(deadline), Restart::WithoutHandler, progress)
}

/// The host's: fixed clocks, and the CPU time of processes and threads of the sandbox's own pid namespace. clock_getcpuclockid(3).
pub fn clock_gettime(_cx: &mut Cx<'_>, clock: i32, _time: Address) -> SysResult {
    readable(clock)
}

pub fn clock_getres(_cx: &mut Cx<'_>, clock: i32, _resolution: Address) -> SysResult {
    readable(clock)
}

fn readable(clock: i32) -> SysResult {
    const DESCRIPTOR: i32 = 3;
    if clock < 0 && clock & 7 != DESCRIPTOR {
        return Ok(Outcome::Native);
    }
    fixed(clock)
}

/// Setting is refused by the host: programs have no CAP_SYS_TIME there, whatever memory holds.
pub fn clock_settime(_cx: &mut Cx<'_>, clock: i32, _time: Address) -> SysResult {
    fixed(clock)
}

pub fn settimeofday(_cx: &mut Cx<'_>, _time: Address, _zone: Address) -> SysResult {
    Ok(Outcome::Native)
}

/// As `clock_settime`: what only reads is answered, the rest is EPERM.
pub fn adjtimex(_cx: &mut Cx<'_>, _timex: Address) -> SysResult {
    Ok(Outcome::Native)
}

pub fn clock_adjtime(_cx: &mut Cx<'_>, clock: i32, _timex: Address) -> SysResult {
    fixed(clock)
}

fn fixed(clock: i32) -> SysResult {
    // Neither a descriptor's nor a process's.
    if (0..16).contains(&clock) {
        Ok(Outcome::Native)
    } else {
        Err(Errno::EINVAL)
    }
}

/// The clock is the host's. Programs read it from the vdso, so this is not worth a place in the filter.
pub fn gettimeofday(_cx: &mut Cx<'_>, _time: Address, _zone: Address) -> SysResult {
    Ok(Outcome::Native)
}

pub fn time(_cx: &mut Cx<'_>, _result: Address) -> SysResult {
    Ok(Outcome::Native)
}
