//! Sockets: making, naming, connecting, ending. socket(2), bind(2), connect(2), listen(2), accept(2), shutdown(2).

use std::sync::Arc;

use super::arguments::Flags;
use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::task::Restart;
use crate::memory::Address;
use crate::vfs::description::Description;
use crate::vfs::file::File;
use crate::vfs::socket::host::HostSocket;
use crate::vfs::socket::unix::{Kind, UnixFile, UnixSocket};
use crate::vfs::socket::{self, Direction, unix_connect};

/// struct sockaddr_storage.
const ADDRESS_MAX: usize = 128;
const TYPE_MASK: i32 = 0xF;

/// A socket's type, and how its descriptor is to be.
fn parse_kind(kind: i32) -> Result<(i32, Flags)> {
    let flags = Flags((kind & !TYPE_MASK).cast_unsigned())
        .only(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)?;
    Ok((kind & TYPE_MASK, flags))
}

/// Linux: SOCK_RAW of a local socket is a datagram one.
fn local_kind(kind: i32, protocol: i32) -> Result<Kind> {
    if protocol != 0 && protocol != libc::AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        libc::SOCK_STREAM => Ok(Kind::Stream),
        libc::SOCK_DGRAM | libc::SOCK_RAW => Ok(Kind::Datagram),
        libc::SOCK_SEQPACKET => Ok(Kind::Packets),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

fn add(cx: &mut Cx<'_>, file: Arc<dyn File>, flags: Flags) -> Result<i32> {
    let kept = libc::O_RDWR.cast_unsigned() | flags.0 & libc::O_NONBLOCK.cast_unsigned();
    cx.add_description(Description::new(file, kept), flags.has(libc::SOCK_CLOEXEC))
}

pub fn socket(cx: &mut Cx<'_>, domain: i32, kind: i32, protocol: i32) -> SysResult {
    let (kind, flags) = parse_kind(kind)?;
    let file: Arc<dyn File> = if domain == libc::AF_UNIX {
        let kind = local_kind(kind, protocol)?;
        let who = cx.task()?.credentials.clone();
        let attributes = socket::attributes(cx.kernel.new_inode(), who.fsuid, who.fsgid);
        Arc::new(UnixFile(UnixSocket::new(kind, attributes)))
    } else {
        HostSocket::open(cx, domain, kind, protocol)?
    };
    value(add(cx, file, flags)?)
}

pub fn socketpair(
    cx: &mut Cx<'_>,
    domain: i32,
    kind: i32,
    protocol: i32,
    fds: Address,
) -> SysResult {
    let (kind, flags) = parse_kind(kind)?;
    match domain {
        libc::AF_UNIX => {}
        libc::AF_INET | libc::AF_INET6 => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EAFNOSUPPORT),
    }
    let [one, other] = unix_connect::pair(cx, local_kind(kind, protocol)?)?;
    let (one, other) = (Arc::new(UnixFile(one)), Arc::new(UnixFile(other)));
    let first = add(cx, one, flags)?;
    let second = add(cx, other, flags);
    let files = cx.task()?.files.clone();
    let result = second.and_then(|second| {
        let bytes = [first.to_le_bytes(), second.to_le_bytes()].concat();
        cx.memory().write(fds, &bytes).inspect_err(|_| {
            let closed = files.lock().remove(second);
            drop(closed);
        })
    });
    if let Err(error) = result {
        let closed = files.lock().remove(first);
        drop(closed);
        return Err(error);
    }
    DONE
}

/// A `struct sockaddr` of the program's. `EINVAL` longer than any.
pub fn read_address(cx: &Cx<'_>, address: Address, len: u32) -> Result<Vec<u8>> {
    let len = len as usize;
    if len > ADDRESS_MAX {
        return Err(Errno::EINVAL);
    }
    cx.memory().read_vec(address, len)
}

/// Writes an address into as much room as `*len` says, and its whole length there.
pub fn write_address(cx: &Cx<'_>, bytes: &[u8], address: Address, len: Address) -> Result<()> {
    let room = cx.memory().read_u32(len)?.cast_signed();
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    cx.memory()
        .write(address, &bytes[..bytes.len().min(room)])?;
    cx.memory().write_u32(len, bytes.len() as u32)
}

pub fn bind(cx: &mut Cx<'_>, fd: i32, address: Address, len: u32) -> SysResult {
    let description = cx.open_description(fd)?;
    let socket = socket::of(&description)?;
    let address = read_address(cx, address, len)?;
    socket.bind(cx, &address)?;
    DONE
}

pub fn listen(cx: &mut Cx<'_>, fd: i32, backlog: i32) -> SysResult {
    let description = cx.open_description(fd)?;
    socket::of(&description)?.listen(cx, backlog)?;
    DONE
}

pub fn connect(cx: &mut Cx<'_>, fd: i32, address: Address, len: u32) -> SysResult {
    let description = cx.open_description(fd)?;
    let socket = socket::of(&description)?;
    let address = read_address(cx, address, len)?;
    let ticket = cx.ticket()?;
    if let Some(queue) = description.file.queue() {
        queue.add(ticket);
    }
    match socket.connect(cx, &address, ticket) {
        Ok(()) => DONE,
        Err(error @ (Errno::EAGAIN | Errno::EINPROGRESS | Errno::EALREADY)) => {
            // A local datagram or netlink socket's, or a port that is not to be had: EAGAIN that no waiting ends.
            let waits = error != Errno::EAGAIN || description.file.is::<UnixFile>();
            if description.is_nonblocking() || cx.has_timed_out() || !waits {
                return Err(error);
            }
            wait(cx, &description, ticket, Direction::Send, 0)
        }
        Err(error) => Err(error),
    }
}

/// Waits as long as SO_RCVTIMEO or SO_SNDTIMEO lets; a call with such a limit is not restarted. signal(7).
pub fn wait(
    cx: &mut Cx<'_>,
    description: &Description,
    ticket: crate::kernel::wake::Ticket,
    direction: Direction,
    progress: u64,
) -> SysResult {
    let limit = socket::of(description)?.options().limit(direction);
    let deadline = cx.deadline(limit);
    let restart = if limit.is_some() {
        Restart::WithoutHandler
    } else {
        Restart::IfAsked
    };
    match cx.wait(ticket, deadline, restart, progress) {
        Err(Errno::EINTR) if progress > 0 => {
            cx.task_mut()?.interrupted = None;
            value(progress)
        }
        other => other,
    }
}

pub fn accept(cx: &mut Cx<'_>, fd: i32, address: Address, len: Address) -> SysResult {
    accept4(cx, fd, address, len, Flags(0))
}

pub fn accept4(
    cx: &mut Cx<'_>,
    fd: i32,
    address: Address,
    len: Address,
    flags: Flags,
) -> SysResult {
    flags.only(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)?;
    let description = cx.open_description(fd)?;
    let socket = socket::of(&description)?;
    let ticket = cx.ticket()?;
    if let Some(queue) = description.file.queue() {
        queue.add(ticket);
    }
    let (file, peer) = match socket.accept(cx) {
        Err(Errno::EAGAIN) if !description.is_nonblocking() && !cx.has_timed_out() => {
            return wait(cx, &description, ticket, Direction::Receive, 0);
        }
        other => other?,
    };
    let made = add(cx, file, flags)?;
    if !address.is_null()
        && let Err(error) = write_address(cx, &peer, address, len)
    {
        let closed = cx.task()?.files.lock().remove(made);
        drop(closed);
        return Err(error);
    }
    value(made)
}

pub fn getsockname(cx: &mut Cx<'_>, fd: i32, address: Address, len: Address) -> SysResult {
    let description = cx.open_description(fd)?;
    let bytes = socket::of(&description)?.own_address()?;
    write_address(cx, &bytes, address, len)?;
    DONE
}

pub fn getpeername(cx: &mut Cx<'_>, fd: i32, address: Address, len: Address) -> SysResult {
    let description = cx.open_description(fd)?;
    let bytes = socket::of(&description)?.peer_address()?;
    write_address(cx, &bytes, address, len)?;
    DONE
}

pub fn shutdown(cx: &mut Cx<'_>, fd: i32, how: i32) -> SysResult {
    let description = cx.open_description(fd)?;
    let socket = socket::of(&description)?;
    if ![libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR].contains(&how) {
        return Err(Errno::EINVAL);
    }
    socket.shutdown(how)?;
    Ok(Outcome::Value(0))
}
