//! What sendfile(2), splice(2) and copy_file_range(2) share: which descriptors may, at which offset, a chunk at a time.

use std::sync::Arc;

use super::Cx;
use crate::errno::{Errno, Result};
use crate::kernel::signals::{Info, SI_KERNEL};
use crate::kernel::wake::Ticket;
use crate::memory::{Address, Buffer};
use crate::vfs::description::Description;
use crate::vfs::pipe::{Pipe, PipeEnd};
use crate::vfs::socket::Outgoing;

const SIGPIPE: i32 = 13;
/// Bytes that pass through the sentry at a time.
pub const CHUNK: usize = 64 << 10;
/// read(2): no call moves more.
pub const MOST: usize = 0x7FFF_F000;

pub fn pipe_of(description: &Description) -> Option<Arc<Pipe>> {
    let end = description.file.downcast_ref::<PipeEnd>()?;
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
pub fn read_some(description: &Description, limit: usize, at: Option<u64>) -> Result<Vec<u8>> {
    let mut sink = Buffer::sink(limit);
    description.file.read(description, &mut sink, at)?;
    Ok(sink.into_bytes())
}

pub fn write_some(
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
pub enum Offset {
    Own,
    At(Address, u64),
}

impl Offset {
    pub fn read(cx: &Cx<'_>, description: &Description, at: Address) -> Result<Self> {
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

    pub fn value(self) -> Option<u64> {
        match self {
            Self::Own => None,
            Self::At(_, offset) => Some(offset),
        }
    }

    /// Goes on, in the program's memory too, so that a call that waits goes on from there.
    pub fn advance(&mut self, cx: &Cx<'_>, count: usize) -> Result<()> {
        if let Self::At(at, offset) = self {
            *offset += count as u64;
            cx.memory().write_u64(*at, *offset)?;
        }
        Ok(())
    }
}

/// A broken pipe tells by signal too.
pub fn raise(cx: &mut Cx<'_>, error: Errno) -> Errno {
    if error == Errno::EPIPE {
        let tid = cx.tid();
        cx.kernel.send_to_thread(tid, Info::new(SIGPIPE, SI_KERNEL));
    }
    error
}
