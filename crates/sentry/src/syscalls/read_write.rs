//! read(2), write(2), and their vectored and positioned kin.

use std::sync::Arc;

use super::{Cx, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::signals::{Info, SI_KERNEL};
use crate::kernel::task::Restart;
use crate::memory::{Address, Buffer, Stretch};
use crate::vfs::description::Description;

const SIGPIPE: i32 = 13;

pub fn read(cx: &mut Cx<'_>, fd: i32, buf: Address, count: usize) -> SysResult {
    transfer_in(cx, fd, one(buf, count), None)
}

pub fn write(cx: &mut Cx<'_>, fd: i32, buf: Address, count: usize) -> SysResult {
    transfer_out(cx, fd, one(buf, count), None)
}

pub fn pread64(cx: &mut Cx<'_>, fd: i32, buf: Address, count: usize, offset: i64) -> SysResult {
    let at = position(offset)?;
    let result = transfer_in(cx, fd, one(buf, count), Some(at));
    if let Ok(Outcome::Value(count @ 1..)) = result {
        cx.lend_window(fd, at, count, false);
    }
    result
}

pub fn pwrite64(cx: &mut Cx<'_>, fd: i32, buf: Address, count: usize, offset: i64) -> SysResult {
    let at = position(offset)?;
    let result = transfer_out(cx, fd, one(buf, count), Some(at));
    if let Ok(Outcome::Value(count @ 1..)) = result {
        cx.lend_window(fd, at, count, true);
    }
    result
}

pub fn readv(cx: &mut Cx<'_>, fd: i32, iov: Address, count: u64) -> SysResult {
    let stretches = cx.memory().read_iovec(iov, count)?;
    transfer_in(cx, fd, stretches, None)
}

pub fn writev(cx: &mut Cx<'_>, fd: i32, iov: Address, count: u64) -> SysResult {
    let stretches = cx.memory().read_iovec(iov, count)?;
    transfer_out(cx, fd, stretches, None)
}

pub fn preadv(cx: &mut Cx<'_>, fd: i32, iov: Address, count: u64, offset: i64) -> SysResult {
    let stretches = cx.memory().read_iovec(iov, count)?;
    transfer_in(cx, fd, stretches, Some(position(offset)?))
}

pub fn pwritev(cx: &mut Cx<'_>, fd: i32, iov: Address, count: u64, offset: i64) -> SysResult {
    let stretches = cx.memory().read_iovec(iov, count)?;
    transfer_out(cx, fd, stretches, Some(position(offset)?))
}

pub fn lseek(cx: &mut Cx<'_>, fd: i32, offset: i64, whence: i32) -> SysResult {
    let description = cx.open_description(fd)?;
    let found = description.file.seek(&description, offset, whence)?;
    cx.lend_position(fd);
    value(found)
}

fn one(address: Address, len: usize) -> Vec<Stretch> {
    vec![Stretch { address, len }]
}

fn position(offset: i64) -> Result<u64> {
    u64::try_from(offset).map_err(|_| Errno::EINVAL)
}

fn positioned(description: &Description, at: Option<u64>) -> Result<()> {
    if at.is_some() && description.file.is_stream() {
        Err(Errno::ESPIPE)
    } else {
        Ok(())
    }
}

fn transfer_in(cx: &mut Cx<'_>, fd: i32, stretches: Vec<Stretch>, at: Option<u64>) -> SysResult {
    let description = cx.open_description(fd)?;
    if !description.is_readable() {
        return Err(Errno::EBADF);
    }
    positioned(&description, at)?;
    if description.file.socket().is_some() {
        return super::socket_data::read(cx, &description, stretches);
    }
    let mut buffer = Buffer::new(cx.memory(), stretches);
    read_into(cx, &description, &mut buffer, at)
}

/// Reads, or waits until there is something to read.
pub fn read_into(
    cx: &mut Cx<'_>,
    description: &Arc<Description>,
    buffer: &mut Buffer,
    at: Option<u64>,
) -> SysResult {
    let file = description.file.clone();
    if let Some(result) = file.read_call(cx, description, buffer) {
        return result;
    }
    let Some(queue) = file.queue() else {
        file.refresh(cx, description, at);
        return value(file.read(description, buffer, at)?);
    };
    let ticket = cx.ticket()?;
    match file.read_for(cx, description, buffer, at) {
        Err(Errno::EAGAIN) if !description.is_nonblocking() => {
            queue.add(ticket);
            if file.follows_signals() {
                cx.process()?.signal_queue.add(ticket);
            }
            // What came between the look and the ticket is not missed: the second look has the ticket in the queue.
            match file.read_for(cx, description, buffer, at) {
                Err(Errno::EAGAIN) => cx.wait(ticket, None, Restart::IfAsked, 0),
                other => value(other?),
            }
        }
        other => value(other?),
    }
}

fn transfer_out(cx: &mut Cx<'_>, fd: i32, stretches: Vec<Stretch>, at: Option<u64>) -> SysResult {
    let description = cx.open_description(fd)?;
    if !description.is_writable() {
        return Err(Errno::EBADF);
    }
    positioned(&description, at)?;
    if description.file.socket().is_some() {
        return super::socket_data::write(cx, &description, stretches);
    }
    let mut buffer = Buffer::new(cx.memory(), stretches);
    write_from(cx, &description, &mut buffer, at)
}

/// Writes all of it, waiting for room as often as it takes; a non-blocking description writes what fits.
pub fn write_from(
    cx: &mut Cx<'_>,
    description: &Arc<Description>,
    buffer: &mut Buffer,
    at: Option<u64>,
) -> SysResult {
    let file = description.file.clone();
    if let Some(stored) = file.store(cx, description, buffer) {
        return value(stored?);
    }
    file.before_write(cx)?;
    let Some(queue) = file.queue() else {
        super::size::limit_write(cx, description, buffer, at)?;
        return written(cx, 0, file.write(description, buffer, at));
    };
    let mut done = cx.progress();
    buffer.skip(done as usize);
    let ticket = cx.ticket()?;
    let mut has_queued = false;
    loop {
        match file.write(description, buffer, at) {
            Ok(count) => {
                done += count as u64;
                if count == 0 || buffer.remaining() == 0 {
                    return value(done);
                }
            }
            Err(Errno::EAGAIN) if description.is_nonblocking() => {
                return if done > 0 {
                    value(done)
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            Err(Errno::EAGAIN) if has_queued => {
                return match cx.wait(ticket, None, Restart::IfAsked, done) {
                    Err(Errno::EINTR) if done > 0 => {
                        cx.task_mut()?.interrupted = None;
                        value(done)
                    }
                    other => other,
                };
            }
            Err(Errno::EAGAIN) => {
                queue.add(ticket);
                has_queued = true;
            }
            Err(error) => return written(cx, done, Err(error)),
        }
    }
}

fn written(cx: &mut Cx<'_>, done: u64, result: Result<usize>) -> SysResult {
    match result {
        Ok(count) => value(done + count as u64),
        Err(_) if done > 0 => value(done),
        Err(Errno::EPIPE) => {
            let tid = cx.tid();
            cx.kernel.send_to_thread(tid, Info::new(SIGPIPE, SI_KERNEL));
            Err(Errno::EPIPE)
        }
        Err(error) => Err(error),
    }
}
