//! Waiting for several descriptors: poll(2), select(2).

use std::time::Duration;

use super::{Cx, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::signals::Set;
use crate::kernel::task::Restart;
use crate::kernel::timers::{Layout, Remaining};
use crate::memory::{Address, half, word};
use crate::vfs::file::{POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI};

const POLLNVAL: u32 = 0x20;
const ALWAYS: u32 = POLLERR | POLLHUP;

pub fn poll(cx: &mut Cx<'_>, fds: Address, nfds: u32, timeout: i32) -> SysResult {
    let limit = u64::try_from(timeout).ok().map(Duration::from_millis);
    poll_for(cx, fds, nfds, Limit { limit, left: None })
}

pub fn ppoll(
    cx: &mut Cx<'_>,
    fds: Address,
    nfds: u32,
    timeout: Address,
    mask: Address,
    size: usize,
) -> SysResult {
    let limit = Limit::read(cx, timeout, Layout::Timespec)?;
    with_mask(cx, mask, size, |cx| {
        let result = poll_for(cx, fds, nfds, limit);
        limit.tell(cx, result)
    })
}

/// A call's time limit, and where it is told how much of that was left. select(2), "The timeout"; poll(2), on the raw ppoll().
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub limit: Option<Duration>,
    pub left: Option<Remaining>,
}

impl Limit {
    fn read(cx: &Cx<'_>, at: Address, layout: Layout) -> Result<Self> {
        let limit = if at.is_null() {
            None
        } else if layout == Layout::Timespec {
            Some(super::time::read_timespec(cx, at)?)
        } else {
            Some(read_timeval(cx, at)?)
        };
        let left = super::time::left_at(at, layout);
        Ok(Self { limit, left })
    }

    /// Passes a result on; tells what was left if the call is over. An interrupted one's is told where it is interrupted.
    fn tell(self, cx: &mut Cx<'_>, result: SysResult) -> SysResult {
        let (Some(limit), Some(left), Ok(super::Outcome::Value(_))) =
            (self.limit, self.left, result)
        else {
            return result;
        };
        // Linux: poll_select_finish(): a zero limit is left as it is, and a bad address is no error.
        if !limit.is_zero()
            && let Some(deadline) = cx.deadline(Some(limit))
        {
            let _ = left.write(cx.tid(), deadline);
        }
        result
    }
}

/// select(2)'s limit: microseconds beyond a second are carried over. Linux: kern_select().
fn read_timeval(cx: &Cx<'_>, at: Address) -> Result<Duration> {
    let bytes = cx.memory().read_vec(at, 16)?;
    let (seconds, microseconds) = (word(&bytes, 0).cast_signed(), word(&bytes, 8).cast_signed());
    let seconds = seconds
        .checked_add(microseconds / 1_000_000)
        .and_then(|seconds| u64::try_from(seconds).ok());
    let part = u32::try_from(microseconds % 1_000_000).ok();
    match (seconds, part) {
        (Some(seconds), Some(part)) => Ok(Duration::new(seconds, part * 1000)),
        _ => Err(Errno::EINVAL),
    }
}

/// Runs a call with another signal mask; the old one comes back when it is over, or when a handler starts.
pub fn with_mask(
    cx: &mut Cx<'_>,
    mask: Address,
    size: usize,
    call: impl FnOnce(&mut Cx<'_>) -> SysResult,
) -> SysResult {
    if mask.is_null() {
        return call(cx);
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    if cx.task()?.saved_mask.is_none() {
        let mask = Set(cx.memory().read_u64(mask)?);
        if cx.change_mask(mask)? == super::Outcome::Gone {
            return Ok(super::Outcome::Gone);
        }
    }
    let result = call(cx);
    if !matches!(result, Ok(super::Outcome::Blocked) | Err(Errno::EINTR))
        && let Some(old) = cx.task_mut()?.saved_mask.take()
    {
        cx.task_mut()?.mask = old;
        // What the call's mask held back, and this one does not.
        let tid = cx.tid();
        if cx.kernel.take_unblocked(tid)? == super::Outcome::Gone {
            return Ok(super::Outcome::Gone);
        }
    }
    result
}

fn poll_for(cx: &mut Cx<'_>, fds: Address, nfds: u32, limit: Limit) -> SysResult {
    if u64::from(nfds) > cx.fd_limit()? {
        return Err(Errno::EINVAL);
    }
    let mut bytes = cx.memory().read_vec(fds, 8 * nfds as usize)?;
    let wanted: Vec<(i32, u32)> = bytes
        .chunks_exact(8)
        .map(|entry| {
            let events = half(entry, 4) & 0xFFFF;
            (half(entry, 0).cast_signed(), events | ALWAYS)
        })
        .collect();
    let Some(found) = look(cx, &wanted, limit.limit)? else {
        return block(cx, limit);
    };
    let count = found.iter().filter(|events| **events != 0).count();
    if count == 0 && cx.has_signal()? {
        return interrupted(cx, limit);
    }
    for (entry, events) in bytes.chunks_exact_mut(8).zip(&found) {
        entry[6..8].copy_from_slice(&(*events as u16).to_le_bytes());
    }
    cx.memory().write(fds, &bytes)?;
    value(count)
}

/// Nothing is ready and the time is over, but a signal may come in: that is told. Linux: do_poll(), do_select().
fn interrupted(cx: &mut Cx<'_>, limit: Limit) -> SysResult {
    let deadline = cx.deadline(limit.limit);
    let ticket = cx.ticket()?;
    cx.wait_for(ticket, deadline, Restart::WithoutHandler, 0, limit.left)
}

fn block(cx: &mut Cx<'_>, limit: Limit) -> SysResult {
    let deadline = cx.deadline(limit.limit);
    let wait = cx.task()?.waits;
    let ticket = crate::kernel::wake::Ticket {
        tid: cx.tid(),
        wait,
    };
    cx.wait_for(ticket, deadline, Restart::WithoutHandler, 0, limit.left)
}

/// What each descriptor has; `None`: nothing yet, and the caller's ticket is in every queue.
fn look(
    cx: &mut Cx<'_>,
    wanted: &[(i32, u32)],
    limit: Option<Duration>,
) -> Result<Option<Vec<u32>>> {
    let ticket = cx.ticket()?;
    let may_wait = limit != Some(Duration::ZERO) && !cx.has_timed_out();
    let mut found = Vec::with_capacity(wanted.len());
    let mut any = false;
    for (fd, events) in wanted {
        let ready = match cx.open_description(*fd) {
            _ if *fd < 0 => 0,
            Err(_) => POLLNVAL,
            Ok(description) => {
                if may_wait && let Some(queue) = description.file.queue() {
                    queue.add(ticket);
                }
                if may_wait && description.file.follows_signals() {
                    cx.process()?.signal_queue.add(ticket);
                }
                description.file.poll_for(cx.kernel, cx.tid()) & events
            }
        };
        any |= ready != 0;
        found.push(ready);
    }
    Ok((any || !may_wait).then_some(found))
}

pub fn select(
    cx: &mut Cx<'_>,
    nfds: i32,
    read: Address,
    write: Address,
    except: Address,
    timeout: Address,
) -> SysResult {
    let limit = Limit::read(cx, timeout, Layout::Timeval)?;
    let result = select_for(cx, nfds, [read, write, except], limit);
    limit.tell(cx, result)
}

pub fn pselect6(
    cx: &mut Cx<'_>,
    nfds: i32,
    read: Address,
    write: Address,
    except: Address,
    timeout: Address,
    mask: Address,
) -> SysResult {
    let (mask, size) = if mask.is_null() {
        (Address(0), 8)
    } else {
        let bytes = cx.memory().read_vec(mask, 16)?;
        (Address(word(&bytes, 0)), word(&bytes, 8) as usize)
    };
    let limit = Limit::read(cx, timeout, Layout::Timespec)?;
    with_mask(cx, mask, size, |cx| {
        let result = select_for(cx, nfds, [read, write, except], limit);
        limit.tell(cx, result)
    })
}

/// What each of the three sets waits for. Linux: POLLIN_SET, POLLOUT_SET, POLLEX_SET.
const SELECT: [u32; 3] = [POLLIN | POLLHUP | POLLERR, POLLOUT | POLLERR, POLLPRI];

/// select(2)'s three bit sets; each is a set to look at, and then what was found.
pub fn select_for(cx: &mut Cx<'_>, nfds: i32, sets: [Address; 3], limit: Limit) -> SysResult {
    let count = usize::try_from(nfds)
        .map_err(|_| Errno::EINVAL)?
        .min(cx.fd_limit()? as usize);
    let len = count.div_ceil(64) * 8;
    let mut masks: [Vec<u8>; 3] = Default::default();
    for (mask, at) in masks.iter_mut().zip(sets) {
        *mask = if at.is_null() {
            vec![0; len]
        } else {
            cx.memory().read_vec(at, len)?
        };
    }
    let has = |mask: &[u8], fd: usize| mask[fd / 8] >> (fd % 8) & 1 == 1;
    let mut wanted = Vec::new();
    for fd in 0..count {
        let events = (0..3)
            .filter(|index| has(&masks[*index], fd))
            .fold(0, |events, index| events | SELECT[index]);
        if events != 0 {
            wanted.push((fd as i32, events));
        }
    }
    let Some(found) = look(cx, &wanted, limit.limit)? else {
        return block(cx, limit);
    };
    if found.contains(&POLLNVAL) {
        return Err(Errno::EBADF);
    }
    if found.iter().all(|events| *events == 0) && cx.has_signal()? {
        return interrupted(cx, limit);
    }
    let mut results = [vec![0_u8; len], vec![0; len], vec![0; len]];
    let mut total = 0;
    for ((fd, _), events) in wanted.iter().zip(found) {
        let fd = *fd as usize;
        for index in 0..3 {
            if has(&masks[index], fd) && events & SELECT[index] != 0 {
                results[index][fd / 8] |= 1 << (fd % 8);
                total += 1;
            }
        }
    }
    for (result, at) in results.iter().zip(sets) {
        if !at.is_null() {
            cx.memory().write(at, result)?;
        }
    }
    value(total)
}
