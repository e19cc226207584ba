//! A request of Linux's asynchronous I/O: what `struct iocb` says, and carrying it out. io_submit(2).

use std::sync::Arc;

use super::read_write::{read_into, write_from};
use super::{Cx, DONE, Outcome, SysResult, socket_data};
use crate::errno::{Errno, Result};
use crate::kernel::aio::{Context, Reply};
use crate::kernel::task::Restart;
use crate::kernel::wake::Ticket;
use crate::memory::{Address, Buffer, Stretch, half, word};
use crate::vfs::description::Description;
use crate::vfs::eventfd::EventFd;
use crate::vfs::file::{File, POLLERR, POLLHUP, READABLE, WRITABLE};

/// `struct iocb`. include/uapi/linux/aio_abi.h.
const IOCB: usize = 64;
pub const KEY: u64 = 8;
const PREAD: u32 = 0;
const PWRITE: u32 = 1;
const FSYNC: u32 = 2;
const FDSYNC: u32 = 3;
const POLL: u32 = 5;
const PREADV: u32 = 7;
const PWRITEV: u32 = 8;
const FLAG_RESFD: u32 = 1;
const FLAG_IOPRIO: u32 = 2;
/// RWF_HIPRI, RWF_DSYNC, RWF_SYNC: what a file can be asked for here.
const RWF_KNOWN: u32 = 7;
const RWF_SYNCS: u32 = 6;

/// One `struct iocb`, as it was when it was submitted.
struct Request {
    flags: u32,
    operation: u32,
    buf: u64,
    len: u64,
    offset: i64,
}

/// Linux: io_submit_one(). An error is the submission's; what becomes of the request is an event.
pub fn submit(cx: &mut Cx<'_>, context: &Arc<Context>, at: Address, index: u64) -> SysResult {
    let at = Address(cx.memory().read_u64(at)?);
    let bytes = cx.memory().read_vec(at, IOCB)?;
    let len = word(&bytes, 32);
    if word(&bytes, 48) != 0 || i64::try_from(len).is_err() {
        return Err(Errno::EINVAL);
    }
    if !context.has_room() {
        return Err(Errno::EAGAIN);
    }
    let request = Request {
        flags: half(&bytes, 12),
        operation: half(&bytes, 16) & 0xFFFF,
        buf: word(&bytes, 24),
        len,
        offset: word(&bytes, 40).cast_signed(),
    };
    let description = cx.open_description(half(&bytes, 20).cast_signed())?;
    let options = half(&bytes, 56);
    let mut reply = Reply {
        data: word(&bytes, 0),
        request: at.0,
        event_fd: None,
    };
    if options & FLAG_RESFD != 0 {
        let event_fd = cx.open_description(half(&bytes, 60).cast_signed())?;
        EventFd::of(&event_fd)?;
        reply.event_fd = Some(event_fd);
    }
    cx.memory().write_u32(at.offset(KEY), 0)?;
    if options & FLAG_IOPRIO != 0 && (half(&bytes, 16) >> 29) > 3 {
        return Err(Errno::EINVAL);
    }
    if request.operation == POLL {
        let wanted = request.polled()?;
        let who = (&*cx.kernel, cx.call.tid);
        return if context.poll(who, reply, wanted, description) {
            DONE
        } else {
            Err(Errno::EINVAL)
        };
    }
    let Some(result) = carry_out_or_wait(cx, &request, &description, index)? else {
        return Ok(Outcome::Blocked);
    };
    let result = match result {
        Ok(Outcome::Value(count)) => count,
        Ok(_) => return Err(Errno::EINVAL),
        Err(Errno(number)) => -i64::from(number),
    };
    context.end(&reply, result);
    DONE
}

/// The request's result, or `None` once the call waits for its file. Interrupted, the call tells how many were submitted before this one; Linux makes
/// an event of that, -EINTR.
fn carry_out_or_wait(
    cx: &mut Cx<'_>,
    request: &Request,
    description: &Arc<Description>,
    index: u64,
) -> Result<Option<SysResult>> {
    let result = carry_out(cx, request, description)?;
    let is_over = result != Err(Errno::EAGAIN) || description.is_nonblocking();
    let Some(queue) = description.file.queue().filter(|_| !is_over) else {
        return Ok(Some(result));
    };
    let mut ticket = newest_ticket(cx)?;
    queue.add(ticket);
    if description.file.follows_signals() {
        cx.process()?.signal_queue.add(ticket);
    }
    // What came meanwhile has woken nobody.
    let ready = description.file.poll_for(cx.kernel, cx.call.tid);
    if ready & request.awaited() != 0 {
        let again = carry_out(cx, request, description)?;
        if again != Err(Errno::EAGAIN) {
            return Ok(Some(again));
        }
        ticket = newest_ticket(cx)?;
        queue.add(ticket);
    }
    cx.wait(ticket, None, Restart::IfAsked, index)?;
    Ok(None)
}

/// The one that a transfer took, which a socket may have left in its peer's queue.
fn newest_ticket(cx: &Cx<'_>) -> Result<Ticket> {
    let wait = cx.task()?.waits;
    Ok(Ticket {
        tid: cx.tid(),
        wait,
    })
}

impl Request {
    /// What the file has when a transfer is worth another try.
    fn awaited(&self) -> u32 {
        let direction = if self.reads() { READABLE } else { WRITABLE };
        direction | POLLERR | POLLHUP
    }

    fn reads(&self) -> bool {
        matches!(self.operation, PREAD | PREADV)
    }

    /// The events that IOCB_CMD_POLL waits for. Linux: aio_poll().
    fn polled(&self) -> Result<u32> {
        let wanted = u16::try_from(self.buf).map_err(|_| Errno::EINVAL)?;
        if self.offset != 0 || self.len != 0 || self.flags != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(u32::from(wanted) | POLLERR | POLLHUP)
    }
}

/// Does what is possible now: `EAGAIN` if that is nothing. The outer result is the submission's.
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
            let reads = request.reads();
            let may = if reads {
                description.is_readable()
            } else {
                description.is_writable()
            };
            if !may {
                return Err(Errno::EBADF);
            }
            if file.kind()? == libc::S_IFDIR {
                return Err(Errno::EINVAL);
            }
            let stretches = stretches(cx, request)?;
            let at = u64::try_from(request.offset).map_err(|_| Errno::EINVAL)?;
            Ok(if file.is_stream() {
                stream(cx, description, stretches, at, reads)
            } else {
                transfer(cx, request, description, stretches, at, reads)
            })
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

/// What has no positions, by a description that does not wait.
fn stream(
    cx: &mut Cx<'_>,
    description: &Description,
    stretches: Vec<Stretch>,
    at: u64,
    reads: bool,
) -> SysResult {
    let nonblocking = libc::O_NONBLOCK.cast_unsigned();
    let description = Description::new(description.file.clone(), description.flags() | nonblocking);
    let file: &dyn File = &*description.file;
    if file.socket().is_some() {
        // Linux: sock_read_iter().
        if at != 0 {
            return Err(Errno::ESPIPE);
        }
        return if reads {
            socket_data::read(cx, &description, stretches)
        } else {
            socket_data::write(cx, &description, stretches)
        };
    }
    let mut buffer = Buffer::new(cx.memory(), stretches);
    if reads {
        read_into(cx, &description, &mut buffer, None)
    } else {
        write_from(cx, &description, &mut buffer, None)
    }
}

fn transfer(
    cx: &mut Cx<'_>,
    request: &Request,
    description: &Arc<Description>,
    stretches: Vec<Stretch>,
    at: u64,
    reads: bool,
) -> SysResult {
    let mut buffer = Buffer::new(cx.memory(), stretches);
    if reads {
        return read_into(cx, description, &mut buffer, Some(at));
    }
    let written = write_from(cx, description, &mut buffer, Some(at))?;
    if request.flags & RWF_SYNCS != 0
        && let Some(host) = description.file.host()
    {
        rustix::fs::fsync(host)?;
    }
    Ok(written)
}
