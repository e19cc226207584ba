//! epoll(7).

use std::sync::Arc;
use std::time::Duration;

use super::arguments::Flags;
use super::poll::with_mask;
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::task::Restart;
use crate::memory::{Address, half, word};
use crate::vfs::description::Description;
use crate::vfs::epoll::{EDGE, EXCLUSIVE, Epoll, WAKEUP};
use crate::vfs::file::{File, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP};
use crate::vfs::mqueue::QueueFile;

/// `struct epoll_event`, which is packed on x86-64.
const EVENT: usize = 12;
const MOST_EVENTS: i32 = i32::MAX / EVENT as i32;

pub fn epoll_create(cx: &mut Cx<'_>, size: i32) -> SysResult {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    epoll_create1(cx, Flags(0))
}

pub fn epoll_create1(cx: &mut Cx<'_>, flags: Flags) -> SysResult {
    flags.only(libc::EPOLL_CLOEXEC)?;
    let description = Description::new(Epoll::new(), libc::O_RDWR.cast_unsigned());
    value(cx.add_description(description, flags.has(libc::EPOLL_CLOEXEC))?)
}

/// The instance behind a description. `EINVAL` it is another file.
fn instance(description: &Description) -> Result<&Epoll> {
    let file = description.file.downcast_ref::<Epoll>();
    file.ok_or(Errno::EINVAL)
}

pub fn epoll_ctl(cx: &mut Cx<'_>, epfd: i32, operation: i32, fd: i32, event: Address) -> SysResult {
    let (mut events, mut data) = (0, 0);
    if operation != libc::EPOLL_CTL_DEL {
        let bytes = cx.memory().read_vec(event, EVENT)?;
        (events, data) = (half(&bytes, 0), word(&bytes, 4));
    }
    let set = cx.open_description(epfd)?;
    let target = cx.open_description(fd)?;
    if !can_wait(&target) {
        return Err(Errno::EPERM);
    }
    if Arc::ptr_eq(&set, &target) {
        return Err(Errno::EINVAL);
    }
    let epoll = instance(&set)?;
    // Keeping the machine awake is not for programs: the flag is passed over, as without CAP_BLOCK_SUSPEND.
    events &= !WAKEUP;
    if events & EXCLUSIVE != 0 {
        check_exclusive(operation, events, &target)?;
    }
    let caller = (&*cx.kernel, cx.call.tid);
    match operation {
        libc::EPOLL_CTL_ADD => epoll.add(caller, fd, &target, events, data)?,
        libc::EPOLL_CTL_MOD => epoll.modify(caller, fd, &target, events, data)?,
        libc::EPOLL_CTL_DEL => epoll.remove(fd, &target)?,
        _ => return Err(Errno::EINVAL),
    }
    DONE
}

/// Regular files and directories are always ready, and so cannot be waited for; nor can what has no queue. A message queue only looks like a file.
fn can_wait(target: &Description) -> bool {
    let kind = target.file.attributes().map(|attributes| attributes.kind());
    let is_file =
        matches!(kind, Ok(libc::S_IFREG | libc::S_IFDIR)) && !target.file.is::<QueueFile>();
    target.file.queue().is_some() && !is_file
}

/// epoll_ctl(2), EPOLLEXCLUSIVE. All who wait are woken here: one or more of them is what it promises.
fn check_exclusive(operation: i32, events: u32, target: &Description) -> Result<()> {
    const ALLOWED: u32 =
        POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP | EDGE | EXCLUSIVE | WAKEUP;
    if operation == libc::EPOLL_CTL_MOD
        || instance(target).is_ok()
        || events & !(ALLOWED) & !(0x40 | 0x80 | 0x100 | 0x200) != 0
    {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

pub fn epoll_wait(
    cx: &mut Cx<'_>,
    epfd: i32,
    events: Address,
    maxevents: i32,
    timeout: i32,
) -> SysResult {
    wait(cx, epfd, events, maxevents, milliseconds(timeout))
}

pub fn epoll_pwait(
    cx: &mut Cx<'_>,
    epfd: i32,
    events: Address,
    maxevents: i32,
    timeout: i32,
    mask: Address,
    size: usize,
) -> SysResult {
    with_mask(cx, mask, size, |cx| {
        wait(cx, epfd, events, maxevents, milliseconds(timeout))
    })
}

pub fn epoll_pwait2(
    cx: &mut Cx<'_>,
    epfd: i32,
    events: Address,
    maxevents: i32,
    timeout: Address,
    mask: Address,
    size: usize,
) -> SysResult {
    let limit = if timeout.is_null() {
        None
    } else {
        Some(super::time::read_timespec(cx, timeout)?)
    };
    with_mask(cx, mask, size, |cx| {
        wait(cx, epfd, events, maxevents, limit)
    })
}

fn milliseconds(timeout: i32) -> Option<Duration> {
    u64::try_from(timeout).ok().map(Duration::from_millis)
}

fn wait(
    cx: &mut Cx<'_>,
    epfd: i32,
    events: Address,
    maxevents: i32,
    limit: Option<Duration>,
) -> SysResult {
    if maxevents <= 0 || maxevents > MOST_EVENTS {
        return Err(Errno::EINVAL);
    }
    let set = cx.open_description(epfd)?;
    let epoll = instance(&set)?;
    let ticket = cx.ticket()?;
    if let Some(queue) = epoll.queue() {
        queue.add(ticket);
    }
    let found = epoll.collect(cx.kernel, cx.call.tid, maxevents as usize);
    if found.is_empty() {
        if limit == Some(Duration::ZERO) || cx.has_timed_out() {
            return DONE;
        }
        let deadline = cx.deadline(limit);
        return cx.wait(ticket, deadline, Restart::Never, 0);
    }
    let mut bytes = Vec::with_capacity(found.len() * EVENT);
    for event in &found {
        bytes.extend(event.events.to_le_bytes());
        bytes.extend(event.data.to_le_bytes());
    }
    if let Err(error) = cx.memory().write(events, &bytes) {
        epoll.put_back(&found);
        return Err(error);
    }
    epoll.settle(&found);
    value(found.len())
}
