//! eventfd(2), timerfd_create(2), signalfd(2).

use std::sync::Arc;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::arguments::Flags;
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::signals::Set;
use crate::memory::{Address, word};
use crate::vfs::description::Description;
use crate::vfs::eventfd::EventFd;
use crate::vfs::file::File;
use crate::vfs::host_events::{HostEvents, Kind};
use crate::vfs::signalfd::SignalFd;

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
    let file = description.file.as_any().downcast_ref::<SignalFd>();
    file.ok_or(Errno::EINVAL)?.set_mask(mask);
    value(fd)
}

pub fn timerfd_create(cx: &mut Cx<'_>, clock: i32, flags: Flags) -> SysResult {
    flags.only(COMMON)?;
    let clock = match clock {
        libc::CLOCK_REALTIME => TimerfdClockId::Realtime,
        libc::CLOCK_MONOTONIC => TimerfdClockId::Monotonic,
        libc::CLOCK_BOOTTIME => TimerfdClockId::Boottime,
        // Waking the machine is for its owner, whatever the sandbox's capabilities.
        libc::CLOCK_REALTIME_ALARM | libc::CLOCK_BOOTTIME_ALARM => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let host = rustix::time::timerfd_create(clock, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let file = HostEvents::new(host, Kind::Timer, &cx.kernel.watcher)?;
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
    let known = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    flags.only(known.bits().cast_signed())?;
    let setting = Itimerspec {
        it_interval: timespec(&bytes[..16])?,
        it_value: timespec(&bytes[16..])?,
    };
    let description = cx.open_description(fd)?;
    let host = HostEvents::of(&description, Kind::Timer)?;
    let flags = TimerfdTimerFlags::from_bits_truncate(flags.0);
    let before = rustix::time::timerfd_settime(host, flags, &setting)?;
    if !old.is_null() {
        write_setting(cx, old, &before)?;
    }
    DONE
}

pub fn timerfd_gettime(cx: &mut Cx<'_>, fd: i32, current: Address) -> SysResult {
    let description = cx.open_description(fd)?;
    let host = HostEvents::of(&description, Kind::Timer)?;
    let setting = rustix::time::timerfd_gettime(host)?;
    write_setting(cx, current, &setting)?;
    DONE
}

fn timespec(bytes: &[u8]) -> Result<Timespec> {
    let time = Timespec {
        tv_sec: word(bytes, 0).cast_signed(),
        tv_nsec: word(bytes, 8).cast_signed(),
    };
    let is_legal = time.tv_sec >= 0 && (0..1_000_000_000).contains(&time.tv_nsec);
    is_legal.then_some(time).ok_or(Errno::EINVAL)
}

fn write_setting(cx: &Cx<'_>, at: Address, setting: &Itimerspec) -> Result<()> {
    let bytes: Vec<u8> = [setting.it_interval, setting.it_value]
        .iter()
        .flat_map(|time| [time.tv_sec, time.tv_nsec])
        .flat_map(i64::to_le_bytes)
        .collect();
    cx.memory().write(at, &bytes)
}
