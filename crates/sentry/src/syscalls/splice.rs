//! Moving data through pipes: splice(2), tee(2), vmsplice(2).

use std::sync::Arc;

use super::arguments::Flags;
use super::transfer::{CHUNK, MOST, Offset, input, output, pipe_of, raise, read_some, write_some};
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::task::Restart;
use crate::kernel::wake::Ticket;
use crate::memory::{Address, Buffer};
use crate::vfs::description::Description;
use crate::vfs::pipe::Pipe;

const SPLICE_KNOWN: i32 = 0xF;
const SPLICE_NONBLOCK: i32 = 2;
const APPEND: u32 = libc::O_APPEND.cast_unsigned();

pub fn splice(
    cx: &mut Cx<'_>,
    from: i32,
    from_offset: Address,
    to: i32,
    to_offset: Address,
    len: usize,
    flags: Flags,
) -> SysResult {
    flags.only(SPLICE_KNOWN)?;
    if len == 0 {
        return DONE;
    }
    let (source, target) = (input(cx, from)?, output(cx, to)?);
    let (in_pipe, out_pipe) = (pipe_of(&source), pipe_of(&target));
    if (in_pipe.is_some() && !from_offset.is_null()) || (out_pipe.is_some() && !to_offset.is_null())
    {
        return Err(Errno::ESPIPE);
    }
    let len = len.min(MOST);
    let nonblocking = flags.has(SPLICE_NONBLOCK);
    match (in_pipe, out_pipe) {
        (Some(one), Some(other)) if Arc::ptr_eq(&one, &other) => Err(Errno::EINVAL),
        (Some(one), Some(other)) => {
            let nonblocking = nonblocking || source.is_nonblocking() || target.is_nonblocking();
            between_pipes(cx, &one, &other, len, nonblocking, Kept::No)
        }
        (Some(pipe), None) => {
            if target.flags() & APPEND != 0 {
                return Err(Errno::EINVAL);
            }
            let at = Offset::read(cx, &target, to_offset)?;
            let nonblocking = nonblocking || source.is_nonblocking();
            from_pipe(cx, &pipe, &target, at, len, nonblocking)
        }
        (None, Some(pipe)) => {
            let at = Offset::read(cx, &source, from_offset)?;
            let nonblocking = nonblocking || target.is_nonblocking();
            into_pipe(cx, &source, at, &pipe, len, nonblocking)
        }
        (None, None) => Err(Errno::EINVAL),
    }
}

/// Waits for a pipe or what is at its other side; what must not wait says so.
fn wait_unless(cx: &mut Cx<'_>, nonblocking: bool, ticket: Ticket) -> SysResult {
    if nonblocking {
        return Err(Errno::EAGAIN);
    }
    cx.wait(ticket, None, Restart::IfAsked, 0)
}

/// The bytes at a pipe's front; `None` none will come.
fn front(pipe: &Pipe, len: usize) -> Result<Option<Vec<u8>>> {
    let bytes = pipe.peek(len.min(CHUNK));
    if bytes.is_empty() {
        let (_, writers, ..) = pipe.counts();
        return if writers == 0 {
            Ok(None)
        } else {
            Err(Errno::EAGAIN)
        };
    }
    Ok(Some(bytes))
}

fn from_pipe(
    cx: &mut Cx<'_>,
    pipe: &Arc<Pipe>,
    target: &Arc<Description>,
    mut at: Offset,
    len: usize,
    nonblocking: bool,
) -> SysResult {
    let ticket = cx.ticket()?;
    pipe.queue().add(ticket);
    if let Some(queue) = target.file.queue() {
        queue.add(ticket);
    }
    let mut done = 0;
    while done < len {
        let moved = match front(pipe, len - done) {
            Ok(None) => break,
            Ok(Some(bytes)) => write_some(cx, target, bytes, at.value(), ticket),
            Err(error) => Err(error),
        };
        match moved {
            Ok(0) => break,
            Ok(moved) => {
                pipe.consume(moved);
                at.advance(cx, moved)?;
                done += moved;
            }
            Err(_) if done > 0 => break,
            Err(Errno::EAGAIN) => return wait_unless(cx, nonblocking, ticket),
            Err(error) => return Err(raise(cx, error)),
        }
    }
    value(done)
}

fn into_pipe(
    cx: &mut Cx<'_>,
    source: &Arc<Description>,
    mut at: Offset,
    pipe: &Arc<Pipe>,
    len: usize,
    nonblocking: bool,
) -> SysResult {
    let ticket = cx.ticket()?;
    pipe.queue().add(ticket);
    if let Some(queue) = source.file.queue() {
        queue.add(ticket);
    }
    let (readers, ..) = pipe.counts();
    if readers == 0 {
        return Err(raise(cx, Errno::EPIPE));
    }
    let room = pipe.room().min(len);
    if room == 0 {
        return wait_unless(cx, nonblocking, ticket);
    }
    match read_some(source, room, at.value()) {
        Ok(bytes) => {
            pipe.push(&bytes);
            at.advance(cx, bytes.len())?;
            value(bytes.len())
        }
        Err(Errno::EAGAIN) => {
            let nonblocking = nonblocking || source.is_nonblocking();
            wait_unless(cx, nonblocking, ticket)
        }
        Err(error) => Err(error),
    }
}

/// Whether what is moved stays in the first pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

fn between_pipes(
    cx: &mut Cx<'_>,
    one: &Arc<Pipe>,
    other: &Arc<Pipe>,
    len: usize,
    nonblocking: bool,
    kept: Kept,
) -> SysResult {
    let ticket = cx.ticket()?;
    one.queue().add(ticket);
    other.queue().add(ticket);
    let (readers, ..) = other.counts();
    if readers == 0 {
        return Err(raise(cx, Errno::EPIPE));
    }
    let room = other.room();
    let bytes = match front(one, len.min(room)) {
        Ok(None) => return DONE,
        Ok(Some(bytes)) => bytes,
        Err(Errno::EAGAIN) if room > 0 || one.peek(1).is_empty() => {
            return wait_unless(cx, nonblocking, ticket);
        }
        Err(error) => return Err(error),
    };
    other.push(&bytes);
    if kept == Kept::No {
        one.consume(bytes.len());
    }
    value(bytes.len())
}

pub fn tee(cx: &mut Cx<'_>, from: i32, to: i32, len: usize, flags: Flags) -> SysResult {
    flags.only(SPLICE_KNOWN)?;
    if len == 0 {
        return DONE;
    }
    let (source, target) = (input(cx, from)?, output(cx, to)?);
    let (Some(one), Some(other)) = (pipe_of(&source), pipe_of(&target)) else {
        return Err(Errno::EINVAL);
    };
    if Arc::ptr_eq(&one, &other) {
        return Err(Errno::EINVAL);
    }
    let nonblocking =
        flags.has(SPLICE_NONBLOCK) || source.is_nonblocking() || target.is_nonblocking();
    between_pipes(cx, &one, &other, len, nonblocking, Kept::Yes)
}

pub fn vmsplice(cx: &mut Cx<'_>, fd: i32, iov: Address, count: u64, flags: Flags) -> SysResult {
    flags.only(SPLICE_KNOWN)?;
    let description = cx.open_description(fd)?;
    let pipe = pipe_of(&description).ok_or(Errno::EBADF)?;
    if !flags.has(SPLICE_NONBLOCK) {
        return if description.is_writable() {
            super::read_write::writev(cx, fd, iov, count)
        } else {
            super::read_write::readv(cx, fd, iov, count)
        };
    }
    let stretches = cx.memory().read_iovec(iov, count)?;
    let mut buffer = Buffer::new(cx.memory(), stretches);
    if !description.is_writable() {
        return value(description.file.read(&description, &mut buffer, None)?);
    }
    if pipe.counts().0 == 0 {
        return Err(raise(cx, Errno::EPIPE));
    }
    let room = pipe.room();
    if room == 0 && buffer.remaining() > 0 {
        return Err(Errno::EAGAIN);
    }
    let bytes = buffer.take_vec(room)?;
    pipe.push(&bytes);
    value(bytes.len())
}
