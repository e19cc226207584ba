//! Sending and receiving, in the form that all calls share: one message, waiting for room or for data. send(2), recv(2).

use std::sync::Arc;

use super::arguments::Flags;
use super::socket::{read_address, wait, write_address};
use super::{Cx, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::signals::{Info, SI_KERNEL};
use crate::memory::{Address, Buffer, Stretch};
use crate::vfs::description::Description;
use crate::vfs::socket::{self, Control, Direction, Outgoing, Received};

const SIGPIPE: i32 = 13;

/// What a send call was given.
#[derive(Debug)]
pub struct Sending {
    pub stretches: Vec<Stretch>,
    pub to: Option<Vec<u8>>,
    pub control: Vec<Control>,
    pub flags: i32,
}

pub fn sendto(
    cx: &mut Cx<'_>,
    fd: i32,
    buf: Address,
    size: usize,
    flags: Flags,
    address: Address,
    len: u32,
) -> SysResult {
    let description = cx.open_description(fd)?;
    socket::of(&description)?;
    let to = if address.is_null() {
        None
    } else {
        Some(read_address(cx, address, len)?)
    };
    let sending = Sending {
        stretches: vec![Stretch {
            address: buf,
            len: size,
        }],
        to: to.filter(|to| !to.is_empty()),
        control: Vec::new(),
        flags: flags.0.cast_signed(),
    };
    send(cx, &description, sending)
}

/// Sends all of it, waiting for room as often as it takes; what must not wait sends what fits.
pub fn send(cx: &mut Cx<'_>, description: &Arc<Description>, sending: Sending) -> SysResult {
    let socket = socket::of(description)?;
    let may_wait = !description.is_nonblocking() && sending.flags & libc::MSG_DONTWAIT == 0;
    let quiet = sending.flags & libc::MSG_NOSIGNAL != 0;
    let raises = !quiet && !socket.keeps_messages();
    let mut done = cx.progress();
    let ticket = cx.ticket()?;
    let mut has_queued = false;
    let mut data = Buffer::new(cx.memory(), sending.stretches);
    data.skip(done as usize);
    let mut out = Outgoing {
        data,
        to: sending.to,
        control: if done > 0 {
            Vec::new()
        } else {
            sending.control
        },
        flags: sending.flags,
        ticket,
    };
    loop {
        match socket.send(cx, &mut out) {
            Ok(count) => {
                done += count as u64;
                if out.data.remaining() == 0 || count == 0 || socket.keeps_messages() {
                    return value(done);
                }
                out.control.clear();
            }
            Err(Errno::EAGAIN) if !may_wait || cx.has_timed_out() => {
                return if done > 0 {
                    value(done)
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            Err(Errno::EAGAIN) if has_queued => {
                return wait(cx, description, ticket, Direction::Send, done);
            }
            Err(Errno::EAGAIN) => {
                if let Some(queue) = description.file.queue() {
                    queue.add(ticket);
                }
                has_queued = true;
            }
            Err(_) if done > 0 => return value(done),
            Err(Errno::EPIPE) if raises => {
                let tid = cx.tid();
                cx.kernel.send_to_thread(tid, Info::new(SIGPIPE, SI_KERNEL));
                return Err(Errno::EPIPE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// write(2) and its kin on a socket.
pub fn write(
    cx: &mut Cx<'_>,
    description: &Arc<Description>,
    stretches: Vec<Stretch>,
) -> SysResult {
    let sending = Sending {
        stretches,
        to: None,
        control: Vec::new(),
        flags: 0,
    };
    send(cx, description, sending)
}

/// read(2) and its kin on a socket. A read of nothing does not look.
pub fn read(cx: &mut Cx<'_>, description: &Arc<Description>, stretches: Vec<Stretch>) -> SysResult {
    match receive(cx, description, &stretches, 0)? {
        Ok(received) => value(received.count),
        Err(outcome) => Ok(outcome),
    }
}

pub fn recvfrom(
    cx: &mut Cx<'_>,
    fd: i32,
    buf: Address,
    size: usize,
    flags: Flags,
    address: Address,
    len: Address,
) -> SysResult {
    let description = cx.open_description(fd)?;
    let stretches = [Stretch {
        address: buf,
        len: size,
    }];
    let received = match receive(cx, &description, &stretches, flags.0.cast_signed())? {
        Ok(received) => received,
        Err(outcome) => return Ok(outcome),
    };
    if !address.is_null() {
        write_address(cx, &received.from.unwrap_or_default(), address, len)?;
    }
    value(received.count)
}

/// Receives one message, or a part of a stream; `Err` inside is the outcome of a call that waits now.
pub fn receive(
    cx: &mut Cx<'_>,
    description: &Arc<Description>,
    stretches: &[Stretch],
    flags: i32,
) -> Result<std::result::Result<Received, Outcome>> {
    let socket = socket::of(description)?;
    let may_wait =
        !description.is_nonblocking() && flags & (libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE) == 0;
    let flags = if may_wait {
        flags
    } else {
        flags | libc::MSG_DONTWAIT
    };
    let wants_all =
        flags & libc::MSG_WAITALL != 0 && flags & libc::MSG_PEEK == 0 && !socket.keeps_messages();
    let mut buffer = Buffer::new(cx.memory(), stretches.to_vec());
    let mut total = Received {
        count: cx.progress() as usize,
        ..Received::default()
    };
    buffer.skip(total.count);
    let ticket = cx.ticket()?;
    let mut has_queued = false;
    loop {
        match socket.receive(cx, &mut buffer, flags) {
            Ok(received) => {
                let is_end = received.count == 0;
                total.count += received.count;
                total.flags |= received.flags;
                total.from = received.from.or(total.from);
                let ends = !received.control.is_empty();
                total.control.extend(received.control);
                if !wants_all || is_end || ends || buffer.remaining() == 0 {
                    return Ok(Ok(total));
                }
            }
            Err(Errno::EAGAIN) if !may_wait || cx.has_timed_out() => {
                return if total.count > 0 {
                    Ok(Ok(total))
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            Err(Errno::EAGAIN) if has_queued => {
                let outcome = wait(
                    cx,
                    description,
                    ticket,
                    Direction::Receive,
                    total.count as u64,
                )?;
                return Ok(Err(outcome));
            }
            Err(Errno::EAGAIN) => {
                if let Some(queue) = description.file.queue() {
                    queue.add(ticket);
                }
                has_queued = true;
            }
            Err(_) if total.count > 0 => return Ok(Ok(total)),
            Err(error) => return Err(error),
        }
    }
}
