//! Sleeping. The clocks themselves are the host's, answered without asking.

use std::time::Duration;

use super::arguments::Flags;
use super::{Cx, DONE, Outcome, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::task::Restart;
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
    use rustix::time::ClockId;
    let request = read_timespec(cx, request)?;
    let clock = match clock {
        // TAI runs beside real time, at an offset that nobody sets here.
        libc::CLOCK_REALTIME | libc::CLOCK_TAI => ClockId::Realtime,
        libc::CLOCK_MONOTONIC => ClockId::Monotonic,
        libc::CLOCK_BOOTTIME => ClockId::Boottime,
        libc::CLOCK_PROCESS_CPUTIME_ID => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    };
    if !flags.has(libc::TIMER_ABSTIME) {
        return sleep(cx, request, remaining);
    }
    let now = rustix::time::clock_gettime(clock);
    let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    sleep(cx, request.saturating_sub(now), Address(0))
}

fn sleep(cx: &mut Cx<'_>, limit: Duration, remaining: Address) -> SysResult {
    if cx.has_timed_out() || limit.is_zero() {
        return DONE;
    }
    let deadline = cx.deadline(Some(limit));
    // What is left, should a signal end it: written now, since then nobody asks any more.
    if !remaining.is_null() {
        write_timespec(cx, remaining, limit)?;
    }
    let ticket = cx.ticket()?;
    cx.wait(ticket, deadline, Restart::WithoutHandler, 0)
}

/// The clock is the host's. Programs read it from the vdso, so this is not worth a place in the filter.
pub fn gettimeofday(_cx: &mut Cx<'_>, _time: Address, _zone: Address) -> SysResult {
    Ok(Outcome::Native)
}

pub fn time(_cx: &mut Cx<'_>, _result: Address) -> SysResult {
    Ok(Outcome::Native)
}
