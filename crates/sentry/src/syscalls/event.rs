//! eventfd(2), timerfd_create(2), signalfd(2).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::arguments::Flags;
use super::time::clock_now;
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::signals::Set;
use crate::memory::{Address, word};
use crate::vfs::description::Description;
use crate::vfs::eventfd::EventFd;
use crate::vfs::file::File;
use crate::vfs::signalfd::SignalFd;
use crate::vfs::timerfd::{Now, Setting, TimerFd};

/// EFD_NONBLOCK, TFD_NONBLOCK, SFD_NONBLOCK and their CLOEXEC are all open(2)'s.
const COMMON: i32 = libc::O_NONBLOCK | libc::O_CLOEXEC;

/// Gives the caller a new file.
pub fn add(cx: &mut Cx<'_>, file: Arc<dyn File>, access: i32, flags: Flags) -> SysResult {
    let kept = access.cast_unsigned() | flags.0 & libc::O_NONBLOCK.cast_unsigned();
    let description = Description::new(file, kept);
    value(cx.add_description(description, flags.has(libc::O_CLOEXEC))?)
}

pub fn eventfd(cx: &mut Cx<'_>, initial: u32) -> SysResult {
    eventfd2(cx, initial, Flags(0))
}

pub fn eventfd2(cx: &mut Cx<'_>, initial: u32, flags: Flags) -> SysResult {
    flags.only(COMMON | libc::EFD_SEMAPHORE)?;
    let file = Arc::new(EventFd::new(initial, flags.has(libc::EFD_SEMAPHORE)));
    add(cx, file, libc::O_RDWR, flags)
}

pub fn signalfd(cx: &mut Cx<'_>, fd: i32, mask: Address, size: usize) -> SysResult {
    signalfd4(cx, fd, mask, size, Flags(0))
}

pub fn signalfd4(cx: &mut Cx<'_>, fd: i32, mask: Address, size: usize, flags: Flags) -> SysResult {
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let mask = Set(cx.memory().read_u64(mask)?);
    flags.only(COMMON)?;
    if fd == -1 {
        return add(cx, Arc::new(SignalFd::new(mask)), libc::O_RDWR, flags);
    }
    let description = cx.open_description(fd)?;
    let file = description.file.downcast_ref::<SignalFd>();
    file.ok_or(Errno::EINVAL)?.set_mask(mask);
    value(fd)
}

pub fn timerfd_create(cx: &mut Cx<'_>, clock: i32, flags: Flags) -> SysResult {
    flags.only(COMMON)?;
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME => {}
        // Waking the machine is for its owner, whatever the sandbox's capabilities.
        libc::CLOCK_REALTIME_ALARM | libc::CLOCK_BOOTTIME_ALARM => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    let file = TimerFd::new(cx.kernel, clock);
    add(cx, file, libc::O_RDWR, flags)
}

pub fn timerfd_settime(
    cx: &mut Cx<'_>,
    fd: i32,
    flags: Flags,
    new: Address,
    old: Address,
) -> SysResult {
    let bytes = cx.memory().read_vec(new, 32)?;
    // Nobody sets a clock here, so none is ever cancelled for that.
    flags.only(libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET)?;
    let setting = Setting {
        interval: timespec(&bytes[..16])?,
        value: timespec(&bytes[16..])?,
    };
    let description = cx.open_description(fd)?;
    let timer = TimerFd::of(&description)?;
    let now = Now {
        time: clock_now(timer.clock)?,
        at: Instant::now(),
    };
    let is_absolute = flags.has(libc::TFD_TIMER_ABSTIME);
    let before = timer.set(cx.kernel, setting, is_absolute, now);
    if !old.is_null() {
        write_setting(cx, old, before)?;
    }
    DONE
}

pub fn timerfd_gettime(cx: &mut Cx<'_>, fd: i32, current: Address) -> SysResult {
    let description = cx.open_description(fd)?;
    let setting = TimerFd::of(&description)?.setting(cx.kernel, Instant::now());
    write_setting(cx, current, setting)?;
    DONE
}

fn timespec(bytes: &[u8]) -> Result<Duration> {
    let (seconds, nanoseconds) = (word(bytes, 0), word(bytes, 8));
    if seconds.cast_signed() < 0 || nanoseconds >= 1_000_000_000 {
        return Err(Errno::EINVAL);
    }
    Ok(Duration::new(seconds, nanoseconds as u32))
}

fn write_setting(cx: &Cx<'_>, at: Address, setting: Setting) -> Result<()> {
    let bytes: Vec<u8> = [setting.interval, setting.value]
        .iter()
        .flat_map(|time| [time.as_secs(), u64::from(time.subsec_nanos())])
        .flat_map(u64::to_le_bytes)
        .collect();
    cx.memory().write(at, &bytes)
}
