//! Linux's own asynchronous I/O: io_submit(2) and its kin. Each request is carried out when it is submitted, as Linux does where a file system cannot wait
//! for it elsewhere; its result waits in the context. What libaio, nginx and databases make of it sees no difference but in time.

use std::sync::Arc;

use casemate_platform::loader;

use super::aio_requests::{KEY, submit};
use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::aio::{Context, Contexts};
use crate::kernel::task::Restart;
use crate::memory::{Address, word};

/// Linux: aio_max_nr, and what ioctx_alloc() takes at most.
const MOST_EVENTS: u32 = 65_536;
const TOO_MANY_EVENTS: u32 = 0x1000_0000 / 32;
const MOST_CONTEXTS: u64 = 200;
fn contexts(cx: &Cx<'_>) -> Result<Contexts> {
    Ok(cx.task()?.space.lock().contexts.clone())
}

/// A name is an address, since libaio looks at what lies there: one in the stub's code, which every program can read, and where it does not find the ring
/// that it could take events from by itself.
fn find(cx: &Cx<'_>, name: u64) -> Result<Arc<Context>> {
    let contexts = contexts(cx)?;
    let known = contexts.lock();
    known.get(&name).cloned().ok_or(Errno::EINVAL)
}

pub fn io_setup(cx: &mut Cx<'_>, events: u32, name: Address) -> SysResult {
    if cx.memory().read_u64(name)? != 0 || events == 0 || events > TOO_MANY_EVENTS {
        return Err(Errno::EINVAL);
    }
    let contexts = contexts(cx)?;
    let mut known = contexts.lock();
    let sum: usize = known.values().map(|context| context.most).sum();
    let most = events as usize;
    let free = (1..=MOST_CONTEXTS)
        .map(|index| loader::BASE + 16 * index)
        .find(|name| !known.contains_key(name));
    let Some(free) = free.filter(|_| sum + most <= MOST_EVENTS as usize) else {
        return Err(Errno::EAGAIN);
    };
    cx.memory().write_u64(name, free)?;
    known.insert(free, Arc::new(Context::new(most)));
    DONE
}

pub fn io_destroy(cx: &mut Cx<'_>, name: u64) -> SysResult {
    let removed = contexts(cx)?.lock().remove(&name);
    removed.ok_or(Errno::EINVAL)?.queue.wake();
    DONE
}

/// A request whose file makes it wait does so here, with all behind it, as in Linux. `progress`: how many were submitted before.
pub fn io_submit(cx: &mut Cx<'_>, name: u64, count: i64, requests: Address) -> SysResult {
    let count = u64::try_from(count).map_err(|_| Errno::EINVAL)?;
    let context = find(cx, name)?;
    let count = count.min(context.most as u64);
    let first = cx.progress();
    // What reads and writes would take for theirs.
    cx.resumed = None;
    for index in first..count {
        match submit(cx, &context, requests.offset(8 * index), index) {
            Ok(Outcome::Value(_)) => {}
            Err(_) if index > 0 => {
                cx.task_mut()?.interrupted = None;
                return value(index);
            }
            other => return other,
        }
    }
    value(count)
}

/// Only a poll is ever under way. Its event comes all the same.
pub fn io_cancel(cx: &mut Cx<'_>, name: u64, request: Address, _result: Address) -> SysResult {
    let key = cx.memory().read_u32(request.offset(KEY))?;
    let context = find(cx, name)?;
    if key == 0 && context.cancel(request.0) {
        return Err(Errno::EINPROGRESS);
    }
    Err(Errno::EINVAL)
}

pub fn io_getevents(
    cx: &mut Cx<'_>,
    name: u64,
    least: i64,
    most: i64,
    events: Address,
    timeout: Address,
) -> SysResult {
    let limit = if timeout.is_null() {
        None
    } else {
        Some(super::time::read_timespec(cx, timeout)?)
    };
    let context = find(cx, name)?;
    if least < 0 || least > most {
        return Err(Errno::EINVAL);
    }
    let ticket = cx.ticket()?;
    context.queue.add(ticket);
    let waiting = context.waiting() as i64;
    let is_enough = waiting >= least || limit.is_some_and(|limit| limit.is_zero());
    if !is_enough && !cx.has_timed_out() {
        let deadline = cx.deadline(limit);
        return match cx.wait(ticket, deadline, Restart::Never, 0) {
            Err(Errno::EINTR) if waiting > 0 => {
                cx.task_mut()?.interrupted = None;
                take(cx, &context, most, events)
            }
            other => other,
        };
    }
    take(cx, &context, most, events)
}

fn take(cx: &Cx<'_>, context: &Context, most: i64, events: Address) -> SysResult {
    let taken = context.first(most as usize);
    let words = taken.iter().flatten();
    let bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
    cx.memory().write(events, &bytes)?;
    context.drop_first(taken.len());
    value(taken.len())
}

/// `signals`: where a mask lies, and its size.
pub fn io_pgetevents(
    cx: &mut Cx<'_>,
    name: u64,
    least: i64,
    most: i64,
    events: Address,
    timeout: Address,
    signals: Address,
) -> SysResult {
    let (mask, size) = if signals.is_null() {
        (Address(0), 0)
    } else {
        let bytes = cx.memory().read_vec(signals, 16)?;
        (Address(word(&bytes, 0)), word(&bytes, 8) as usize)
    };
    super::poll::with_mask(cx, mask, size, |cx| {
        io_getevents(cx, name, least, most, events, timeout)
    })
}
