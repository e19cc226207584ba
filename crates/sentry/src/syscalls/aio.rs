//! Linux's own asynchronous I/O: io_submit(2) and its kin. Each request is carried out when it is submitted, as Linux does where a file system cannot wait
//! for it elsewhere; its result waits in the context. What libaio, nginx and databases make of it sees no difference but in time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use casemate_platform::loader;

use super::read_write::{read_into, write_from};
use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::task::Restart;
use crate::kernel::wake::WaitQueue;
use crate::memory::{Address, Buffer, Stretch, half, word};
use crate::vfs::description::Description;
use crate::vfs::eventfd::EventFd;

/// Linux: aio_max_nr, and what ioctx_alloc() takes at most.
const MOST_EVENTS: u32 = 65_536;
const TOO_MANY_EVENTS: u32 = 0x1000_0000 / 32;
const MOST_CONTEXTS: u64 = 200;
/// `struct iocb` and `struct io_event`. include/uapi/linux/aio_abi.h.
const IOCB: usize = 64;
const KEY: u64 = 8;
const EVENT: usize = 32;
const PREAD: u32 = 0;
const PWRITE: u32 = 1;
const FSYNC: u32 = 2;
const FDSYNC: u32 = 3;
const PREADV: u32 = 7;
const PWRITEV: u32 = 8;
const FLAG_RESFD: u32 = 1;
const FLAG_IOPRIO: u32 = 2;
/// RWF_HIPRI, RWF_DSYNC, RWF_SYNC: what a file can be asked for here.
const RWF_KNOWN: u32 = 7;
const RWF_SYNCS: u32 = 6;

/// The contexts of an address space, by their names. A name is an address, since libaio looks at what lies there: one in the stub's code, which every program
/// can read, and where it does not find the ring that it could take events from by itself.
#[derive(Debug, Clone, Default)]
pub struct Contexts(Arc<Mutex<BTreeMap<u64, Arc<Context>>>>);

#[derive(Debug)]
pub struct Context {
    most: usize,
    done: Mutex<VecDeque<[u64; 4]>>,
    queue: WaitQueue,
}

struct Request {
    data: u64,
    flags: u32,
    operation: u32,
    fd: i32,
    buf: u64,
    len: u64,
    offset: i64,
    event_fd: Option<Arc<Description>>,
}

fn contexts(cx: &Cx<'_>) -> Result<Contexts> {
    Ok(cx.task()?.space.lock().contexts.clone())
}

fn find(cx: &Cx<'_>, name: u64) -> Result<Arc<Context>> {
    let contexts = contexts(cx)?;
    let known = contexts.0.lock().unwrap_or_else(PoisonError::into_inner);
    known.get(&name).cloned().ok_or(Errno::EINVAL)
}

pub fn io_setup(cx: &mut Cx<'_>, events: u32, name: Address) -> SysResult {
    if cx.memory().read_u64(name)? != 0 || events == 0 || events > TOO_MANY_EVENTS {
        return Err(Errno::EINVAL);
    }
    let contexts = contexts(cx)?;
    let mut known = contexts.0.lock().unwrap_or_else(PoisonError::into_inner);
    let sum: usize = known.values().map(|context| context.most).sum();
    let most = events as usize;
    let free = (1..=MOST_CONTEXTS)
        .map(|index| loader::BASE + 16 * index)
        .find(|name| !known.contains_key(name));
    let Some(free) = free.filter(|_| sum + most <= MOST_EVENTS as usize) else {
        return Err(Errno::EAGAIN);
    };
    cx.memory().write_u64(name, free)?;
    let context = Context {
        most,
        done: Mutex::default(),
        queue: WaitQueue::default(),
    };
    known.insert(free, Arc::new(context));
    DONE
}

pub fn io_destroy(cx: &mut Cx<'_>, name: u64) -> SysResult {
    let contexts = contexts(cx)?;
    let mut known = contexts.0.lock().unwrap_or_else(PoisonError::into_inner);
    let context = known.remove(&name).ok_or(Errno::EINVAL)?;
    context.queue.wake();
    DONE
}

pub fn io_submit(cx: &mut Cx<'_>, name: u64, count: i64, requests: Address) -> SysResult {
    let count = u64::try_from(count).map_err(|_| Errno::EINVAL)?;
    let context = find(cx, name)?;
    for index in 0..count.min(context.most as u64) {
        if let Err(error) = submit(cx, &context, requests.offset(8 * index)) {
            return if index > 0 { value(index) } else { Err(error) };
        }
    }
    value(count.min(context.most as u64))
}

/// Linux: io_submit_one(). An error is the submission's; what becomes of the request is an event.
fn submit(cx: &mut Cx<'_>, context: &Context, at: Address) -> Result<()> {
    let at = Address(cx.memory().read_u64(at)?);
    let bytes = cx.memory().read_vec(at, IOCB)?;
    let len = word(&bytes, 32);
    if word(&bytes, 48) != 0 || i64::try_from(len).is_err() {
        return Err(Errno::EINVAL);
    }
    if context.lock().len() >= context.most {
        return Err(Errno::EAGAIN);
    }
    let mut request = Request {
        data: word(&bytes, 0),
        flags: half(&bytes, 12),
        operation: half(&bytes, 16) & 0xFFFF,
        fd: half(&bytes, 20).cast_signed(),
        buf: word(&bytes, 24),
        len,
        offset: word(&bytes, 40).cast_signed(),
        event_fd: None,
    };
    let description = cx.open_description(request.fd)?;
    let options = half(&bytes, 56);
    if options & FLAG_RESFD != 0 {
        let event_fd = cx.open_description(half(&bytes, 60).cast_signed())?;
        if !event_fd.file.as_any().is::<EventFd>() {
            return Err(Errno::EINVAL);
        }
        request.event_fd = Some(event_fd);
    }
    cx.memory().write_u32(at.offset(KEY), 0)?;
    if options & FLAG_IOPRIO != 0 && (half(&bytes, 16) >> 29) > 3 {
        return Err(Errno::EINVAL);
    }
    let result = carry_out(cx, &request, &description)?;
    let result = match result {
        Ok(Outcome::Value(count)) => count,
        // What would have to wait.
        Ok(_) => -i64::from(libc::EAGAIN),
        Err(Errno(number)) => -i64::from(number),
    };
    let event = [request.data, at.0, result.cast_unsigned(), 0];
    context.lock().push_back(event);
    context.queue.wake();
    if let Some(event_fd) = request.event_fd {
        let mut one = Buffer::source(1_u64.to_le_bytes().to_vec());
        // Full: whoever counts there knows of it.
        let _ = event_fd.file.write(&event_fd, &mut one, None);
    }
    Ok(())
}

/// The outer result is the submission's.
fn carry_out(
    cx: &mut Cx<'_>,
    request: &Request,
    description: &Arc<Description>,
) -> Result<SysResult> {
    let file = description.file.clone();
    match request.operation {
        FSYNC | FDSYNC => {
            if request.buf != 0 || request.len != 0 || request.offset != 0 || request.flags != 0 {
                return Err(Errno::EINVAL);
            }
            let host = super::file_systems::synchronised(&*file)?;
            Ok(rustix::fs::fsync(host).map_err(Errno::from).and(DONE))
        }
        PREAD | PREADV | PWRITE | PWRITEV => {
            if request.flags & !RWF_KNOWN != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            let reads = matches!(request.operation, PREAD | PREADV);
            let may = if reads {
                description.is_readable()
            } else {
                description.is_writable()
            };
            if !may {
                return Err(Errno::EBADF);
            }
            if file.socket().is_some() || file.kind()? == libc::S_IFDIR {
                return Err(Errno::EINVAL);
            }
            let stretches = stretches(cx, request)?;
            let at = u64::try_from(request.offset).map_err(|_| Errno::EINVAL)?;
            let mut buffer = Buffer::new(cx.memory(), stretches);
            Ok(transfer(cx, request, description, &mut buffer, at, reads))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn stretches(cx: &Cx<'_>, request: &Request) -> Result<Vec<Stretch>> {
    match request.operation {
        PREADV | PWRITEV => cx.memory().read_iovec(Address(request.buf), request.len),
        _ => Ok(vec![Stretch {
            address: Address(request.buf),
            len: usize::try_from(request.len).map_err(|_| Errno::EINVAL)?,
        }]),
    }
}

fn transfer(
    cx: &mut Cx<'_>,
    request: &Request,
    description: &Arc<Description>,
    buffer: &mut Buffer,
    at: u64,
    reads: bool,
) -> SysResult {
    let file = description.file.clone();
    if file.is_stream() {
        let count = if reads {
            file.read(description, buffer, None)
        } else {
            file.write(description, buffer, None)
        };
        return value(count?);
    }
    if reads {
        return read_into(cx, description, buffer, Some(at));
    }
    let written = write_from(cx, description, buffer, Some(at))?;
    if request.flags & RWF_SYNCS != 0
        && let Some(host) = file.host()
    {
        rustix::fs::fsync(host)?;
    }
    Ok(written)
}

/// Nothing is under way: there is nothing to cancel.
pub fn io_cancel(cx: &mut Cx<'_>, name: u64, request: Address, _result: Address) -> SysResult {
    let _key = cx.memory().read_u32(request.offset(KEY))?;
    find(cx, name)?;
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
    let waiting = context.lock().len() as i64;
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
    let mut done = context.lock();
    let count = done.len().min(most as usize);
    let words = done.iter().take(count).flatten();
    let bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
    debug_assert_eq!(bytes.len(), count * EVENT);
    cx.memory().write(events, &bytes)?;
    done.drain(..count);
    value(count)
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

impl Context {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<[u64; 4]>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
