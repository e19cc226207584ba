//! Moving data between descriptors without the program's memory: sendfile(2), splice(2), tee(2), vmsplice(2), copy_file_range(2); and advice.

use std::sync::Arc;

use super::arguments::Flags;
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::signals::{Info, SI_KERNEL};
use crate::kernel::task::Restart;
use crate::kernel::wake::Ticket;
use crate::memory::{Address, Buffer};
use crate::vfs::description::Description;
use crate::vfs::pipe::{Pipe, PipeEnd};
use crate::vfs::socket::Outgoing;

const SIGPIPE: i32 = 13;
/// Bytes that pass through the sentry at a time.
const CHUNK: usize = 64 << 10;
/// read(2): no call moves more.
const MOST: usize = 0x7FFF_F000;
const SPLICE_KNOWN: i32 = 0xF;
const SPLICE_NONBLOCK: i32 = 2;
const APPEND: u32 = libc::O_APPEND.cast_unsigned();

pub fn pipe_of(description: &Description) -> Option<Arc<Pipe>> {
    let end = description.file.as_any().downcast_ref::<PipeEnd>()?;
    Some(end.pipe.clone())
}

pub fn input(cx: &Cx<'_>, fd: i32) -> Result<Arc<Description>> {
    let description = cx.open_description(fd)?;
    description
        .is_readable()
        .then_some(description)
        .ok_or(Errno::EBADF)
}

pub fn output(cx: &Cx<'_>, fd: i32) -> Result<Arc<Description>> {
    let description = cx.open_description(fd)?;
    description
        .is_writable()
        .then_some(description)
        .ok_or(Errno::EBADF)
}

/// Reads at a position, or the description's own.
fn read_some(description: &Description, limit: usize, at: Option<u64>) -> Result<Vec<u8>> {
    let mut sink = Buffer::sink(limit);
    description.file.read(description, &mut sink, at)?;
    Ok(sink.into_bytes())
}

fn write_some(
    cx: &mut Cx<'_>,
    to: &Description,
    bytes: Vec<u8>,
    at: Option<u64>,
    ticket: Ticket,
) -> Result<usize> {
    let Some(socket) = to.file.socket() else {
        return to.file.write(to, &mut Buffer::source(bytes), at);
    };
    let mut out = Outgoing {
        data: Buffer::source(bytes),
        to: None,
        control: Vec::new(),
        flags: 0,
        ticket,
    };
    socket.send(cx, &mut out)
}

/// The offset argument: what the program's memory holds, or the description's position.
#[derive(Debug, Clone, Copy)]
enum Offset {
    Own,
    At(Address, u64),
}

impl Offset {
    fn read(cx: &Cx<'_>, description: &Description, at: Address) -> Result<Self> {
        if at.is_null() {
            return Ok(Self::Own);
        }
        if description.file.is_stream() {
            return Err(Errno::ESPIPE);
        }
        let offset = cx.memory().read_u64(at)?;
        if offset.cast_signed() < 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Self::At(at, offset))
    }

    fn value(self) -> Option<u64> {
        match self {
            Self::Own => None,
            Self::At(_, offset) => Some(offset),
        }
    }

    /// Goes on, in the program's memory too, so that a call that waits goes on from there.
    fn advance(&mut self, cx: &Cx<'_>, count: usize) -> Result<()> {
        if let Self::At(at, offset) = self {
            *offset += count as u64;
            cx.memory().write_u64(*at, *offset)?;
        }
        Ok(())
    }
}

pub fn sendfile(cx: &mut Cx<'_>, out: i32, from: i32, offset: Address, count: usize) -> SysResult {
    let source = input(cx, from)?;
    let target = output(cx, out)?;
    // Not from a pipe either: programs fall back to reading then. Linux: splice_direct_to_actor().
    if source.file.is_stream() {
        return Err(if offset.is_null() {
            Errno::EINVAL
        } else {
            Errno::ESPIPE
        });
    }
    if source.attributes_are_directory()? {
        return Err(Errno::EINVAL);
    }
    if target.flags() & APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let mut at = Offset::read(cx, &source, offset)?;
    let count = count.min(MOST) as u64;
    let mut done = cx.progress();
    let ticket = cx.ticket()?;
    if let Some(queue) = target.file.queue() {
        queue.add(ticket);
    }
    while done < count {
        let limit = CHUNK.min((count - done) as usize);
        let start = at.value().unwrap_or_else(|| source.next_byte());
        source.file.refresh(cx, &source, Some(start));
        let bytes = read_some(&source, limit, Some(start))?;
        if bytes.is_empty() {
            break;
        }
        match write_some(cx, &target, bytes, None, ticket) {
            Ok(moved) => {
                done += moved as u64;
                at.advance(cx, moved)?;
                if matches!(at, Offset::Own) {
                    source.move_to(start + moved as u64);
                }
                if moved == 0 {
                    break;
                }
            }
            Err(Errno::EAGAIN) if !target.is_nonblocking() => {
                return wait(cx, ticket, done);
            }
            Err(error) if done == 0 => return Err(raise(cx, error)),
            Err(_) => break,
        }
    }
    value(done)
}

fn wait(cx: &mut Cx<'_>, ticket: Ticket, done: u64) -> SysResult {
    match cx.wait(ticket, None, Restart::IfAsked, done) {
        Err(Errno::EINTR) if done > 0 => {
            cx.task_mut()?.interrupted = None;
            value(done)
        }
        other => other,
    }
}

/// A broken pipe tells by signal too.
fn raise(cx: &mut Cx<'_>, error: Errno) -> Errno {
    if error == Errno::EPIPE {
        let tid = cx.tid();
        cx.kernel.send_to_thread(tid, Info::new(SIGPIPE, SI_KERNEL));
    }
    error
}

impl Description {
    fn attributes_are_directory(&self) -> Result<bool> {
        Ok(self.file.attributes()?.is_directory())
    }
}

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

pub fn copy_file_range(
    cx: &mut Cx<'_>,
    from: i32,
    from_offset: Address,
    to: i32,
    to_offset: Address,
    len: usize,
    flags: Flags,
) -> SysResult {
    flags.only(0)?;
    let (source, target) = (input(cx, from)?, output(cx, to)?);
    let (one, other) = (source.file.attributes()?, target.file.attributes()?);
    if one.is_directory() || other.is_directory() {
        return Err(Errno::EISDIR);
    }
    if one.kind() != libc::S_IFREG || other.kind() != libc::S_IFREG {
        return Err(Errno::EINVAL);
    }
    if target.flags() & APPEND != 0 {
        return Err(Errno::EBADF);
    }
    // A text of /proc: no file system copies out of that, since Linux 5.19.
    if source.file.content(cx).is_some() {
        return Err(Errno::EXDEV);
    }
    let mut in_at = Offset::read(cx, &source, from_offset)?;
    let mut out_at = Offset::read(cx, &target, to_offset)?;
    let start = |offset: Offset, description: &Description| {
        offset.value().unwrap_or_else(|| description.next_byte())
    };
    let (first, second) = (start(in_at, &source), start(out_at, &target));
    let len = len.min(MOST).min(one.size.saturating_sub(first) as usize);
    let is_same = (one.dev, one.ino) == (other.dev, other.ino);
    if is_same && first < second + len as u64 && second < first + len as u64 {
        return Err(Errno::EINVAL);
    }
    let mut done = 0;
    while done < len {
        let offset = done as u64;
        let bytes = read_some(&source, CHUNK.min(len - done), Some(first + offset))?;
        if bytes.is_empty() {
            break;
        }
        match target
            .file
            .write(&target, &mut Buffer::source(bytes), Some(second + offset))
        {
            Ok(0) => break,
            Ok(moved) => done += moved,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    for (offset, description) in [(&mut in_at, &source), (&mut out_at, &target)] {
        match offset {
            Offset::Own => description.move_to(description.next_byte() + done as u64),
            Offset::At(..) => offset.advance(cx, done)?,
        }
    }
    value(done)
}
