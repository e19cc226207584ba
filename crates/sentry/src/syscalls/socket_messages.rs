//! Messages with several buffers and control data: sendmsg(2), recvmsg(2), cmsg(3), and several messages at once.

use std::sync::Arc;
use std::time::Duration;

use super::arguments::Flags;
use super::socket_data::{Sending, receive, send};
use super::{Cx, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::memory::{Address, Stretch, half, word};
use crate::vfs::description::Description;
use crate::vfs::socket::host_options::append;
use crate::vfs::socket::rights::MOST_RIGHTS;
use crate::vfs::socket::unix_send::check_credentials;
use crate::vfs::socket::{self, Control, Received};

/// struct msghdr, and struct mmsghdr around it.
const HEADER: usize = 56;
const MULTIPLE: u64 = 64;
/// Messages of one sendmmsg or recvmmsg. Linux: UIO_MAXIOV.
const MOST_MESSAGES: u32 = 1024;
/// Control data of one message. Linux: net.core.optmem_max.
const MOST_CONTROL: u64 = 128 << 10;
/// struct cmsghdr.
const CONTROL_HEADER: usize = 16;

/// `struct msghdr`, read once.
#[derive(Debug)]
struct Header {
    name: Address,
    name_len: u32,
    stretches: Vec<Stretch>,
    control: Address,
    control_len: u64,
}

fn read_header(cx: &Cx<'_>, at: Address) -> Result<Header> {
    let bytes = cx.memory().read_vec(at, HEADER)?;
    let count = word(&bytes, 24);
    if count > 1024 {
        return Err(Errno::EMSGSIZE);
    }
    let name = Address(word(&bytes, 0));
    let name_len = half(&bytes, 8);
    if name_len.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Header {
        name,
        name_len: if name.is_null() { 0 } else { name_len.min(128) },
        stretches: cx.memory().read_iovec(Address(word(&bytes, 16)), count)?,
        control: Address(word(&bytes, 32)),
        control_len: word(&bytes, 40),
    })
}

pub fn sendmsg(cx: &mut Cx<'_>, fd: i32, message: Address, flags: Flags) -> SysResult {
    let description = cx.open_description(fd)?;
    socket::of(&description)?;
    send_one(cx, &description, message, flags)
}

fn send_one(
    cx: &mut Cx<'_>,
    description: &Arc<Description>,
    message: Address,
    flags: Flags,
) -> SysResult {
    let header = read_header(cx, message)?;
    let to = cx
        .memory()
        .read_vec(header.name, header.name_len as usize)?;
    let control = read_control(cx, &header)?;
    let sending = Sending {
        stretches: header.stretches,
        to: Some(to).filter(|to| !to.is_empty()),
        control,
        flags: flags.0.cast_signed(),
    };
    send(cx, description, sending)
}

/// Control data, made safe: descriptors become what they stand for, and credentials are checked. Linux: __scm_send().
fn read_control(cx: &Cx<'_>, header: &Header) -> Result<Vec<Control>> {
    if header.control.is_null() || header.control_len == 0 {
        return Ok(Vec::new());
    }
    if header.control_len > MOST_CONTROL {
        return Err(Errno::EMSGSIZE);
    }
    let bytes = cx
        .memory()
        .read_vec(header.control, header.control_len as usize)?;
    let mut found = Vec::new();
    let mut rights = Vec::new();
    let mut rest = &bytes[..];
    while rest.len() >= CONTROL_HEADER {
        let len = usize::try_from(word(rest, 0)).map_err(|_| Errno::EINVAL)?;
        let data = rest.get(CONTROL_HEADER..len).ok_or(Errno::EINVAL)?;
        let (level, kind) = (half(rest, 8).cast_signed(), half(rest, 12).cast_signed());
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                if rights.len() + data.len() / 4 > MOST_RIGHTS {
                    return Err(Errno::EINVAL);
                }
                for number in data.chunks_exact(4) {
                    rights.push(cx.open_description(half(number, 0).cast_signed())?);
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                if data.len() != 12 {
                    return Err(Errno::EINVAL);
                }
                let ids = [half(data, 0), half(data, 4), half(data, 8)];
                check_credentials(cx, ids)?;
                found.push(Control::Credentials(ids));
            }
            (libc::SOL_SOCKET, _) => return Err(Errno::EINVAL),
            _ => found.push(Control::Raw(level, kind, data.to_vec())),
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    if !rights.is_empty() {
        found.push(Control::Rights(rights));
    }
    Ok(found)
}

pub fn recvmsg(cx: &mut Cx<'_>, fd: i32, message: Address, flags: Flags) -> SysResult {
    let description = cx.open_description(fd)?;
    socket::of(&description)?;
    receive_one(cx, &description, message, flags)
}

fn receive_one(
    cx: &mut Cx<'_>,
    description: &Arc<Description>,
    message: Address,
    flags: Flags,
) -> SysResult {
    let header = read_header(cx, message)?;
    let mut received = match receive(cx, description, &header.stretches, flags.0.cast_signed())? {
        Ok(received) => received,
        Err(outcome) => return Ok(outcome),
    };
    if !header.name.is_null() {
        let from = received.from.take().unwrap_or_default();
        let len = from.len().min(header.name_len as usize);
        cx.memory().write(header.name, &from[..len])?;
        cx.memory()
            .write_u32(message.offset(8), from.len() as u32)?;
    }
    let close_on_exec = flags.has(libc::MSG_CMSG_CLOEXEC);
    let control_len = write_control(cx, &header, &mut received, close_on_exec)?;
    cx.memory().write_u64(message.offset(40), control_len)?;
    let told = received.flags
        | if close_on_exec {
            libc::MSG_CMSG_CLOEXEC
        } else {
            0
        };
    cx.memory().write_i32(message.offset(48), told)?;
    value(received.count)
}

/// Writes what fits of the control data; the rest is dropped, descriptors among it, and MSG_CTRUNC tells. Returns the length. Linux: put_cmsg(), scm_detach_fds().
fn write_control(
    cx: &mut Cx<'_>,
    header: &Header,
    received: &mut Received,
    close_on_exec: bool,
) -> Result<u64> {
    let room = if header.control.is_null() {
        0
    } else {
        usize::try_from(header.control_len).map_err(|_| Errno::EINVAL)?
    };
    let mut bytes = Vec::new();
    for item in std::mem::take(&mut received.control) {
        let left = room.saturating_sub(bytes.len());
        let (level, kind, data) = match item {
            Control::Rights(descriptions) => {
                let fit = left.saturating_sub(CONTROL_HEADER) / 4;
                if descriptions.len() > fit {
                    received.flags |= libc::MSG_CTRUNC;
                }
                if left <= CONTROL_HEADER || fit == 0 {
                    continue;
                }
                let numbers = install(cx, descriptions, fit, close_on_exec, &mut received.flags);
                if numbers.is_empty() {
                    continue;
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS, numbers)
            }
            Control::Credentials(ids) => {
                let ids = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS, ids)
            }
            Control::Raw(level, kind, data) => (level, kind, data),
        };
        if left < CONTROL_HEADER {
            received.flags |= libc::MSG_CTRUNC;
            continue;
        }
        if data.len() > left - CONTROL_HEADER {
            received.flags |= libc::MSG_CTRUNC;
        }
        let data = &data[..data.len().min(left - CONTROL_HEADER)];
        append(&mut bytes, level, kind, data);
        if bytes.len() > room {
            bytes.truncate(room);
        }
    }
    cx.memory().write(header.control, &bytes)?;
    Ok(bytes.len() as u64)
}

/// Gives the caller descriptors for what it was sent, as many as fit its limit.
fn install(
    cx: &mut Cx<'_>,
    descriptions: Vec<Arc<Description>>,
    fit: usize,
    close_on_exec: bool,
    flags: &mut i32,
) -> Vec<u8> {
    let mut numbers = Vec::new();
    for description in descriptions.into_iter().take(fit) {
        if let Ok(number) = cx.add_description(description, close_on_exec) {
            numbers.extend(number.to_le_bytes());
        } else {
            *flags |= libc::MSG_CTRUNC;
            break;
        }
    }
    numbers
}

pub fn sendmmsg(
    cx: &mut Cx<'_>,
    fd: i32,
    messages: Address,
    count: u32,
    flags: Flags,
) -> SysResult {
    let description = cx.open_description(fd)?;
    socket::of(&description)?;
    each(cx, messages, count, |cx, at, sent| {
        // Only the first message waits here: each is then sent whole before the next is begun.
        let flags = if sent > 0 {
            Flags(flags.0 | libc::MSG_DONTWAIT.cast_unsigned())
        } else {
            flags
        };
        send_one(cx, &description, at, flags)
    })
}

/// The time limit is looked at between messages only, as Linux does. recvmmsg(2), BUGS.
pub fn recvmmsg(
    cx: &mut Cx<'_>,
    fd: i32,
    messages: Address,
    count: u32,
    flags: Flags,
    timeout: Address,
) -> SysResult {
    const WAIT_FOR_ONE: i32 = 0x10000;
    let description = cx.open_description(fd)?;
    socket::of(&description)?;
    let limit = if timeout.is_null() {
        None
    } else {
        Some(super::time::read_timespec(cx, timeout)?)
    };
    let began = std::time::Instant::now();
    let plain = flags.0 & !WAIT_FOR_ONE.cast_unsigned();
    let result = each(cx, messages, count, |cx, at, got| {
        let is_late = limit.is_some_and(|limit| began.elapsed() >= limit);
        let one_is_enough = got > 0 && (flags.has(WAIT_FOR_ONE) || is_late);
        let no_wait = if one_is_enough {
            libc::MSG_DONTWAIT.cast_unsigned()
        } else {
            0
        };
        if got > 0 && is_late {
            return Err(Errno::EAGAIN);
        }
        receive_one(cx, &description, at, Flags(plain | no_wait))
    });
    if let (Ok(Outcome::Value(_)), Some(limit)) = (&result, limit) {
        let left = limit.saturating_sub(began.elapsed());
        super::time::write_timespec(cx, timeout, Duration::max(left, Duration::ZERO))?;
    }
    result
}

/// Runs one call per message; how many were done counts, and an error only if none was. A wait of a later one goes on from it: the count done is the
/// call's progress, in messages.
fn each(
    cx: &mut Cx<'_>,
    messages: Address,
    count: u32,
    mut one: impl FnMut(&mut Cx<'_>, Address, u64) -> SysResult,
) -> SysResult {
    let count = u64::from(count.min(MOST_MESSAGES));
    let mut done = cx.progress();
    // The message's own progress starts anew: a stream's part of a message is not remembered across a wait.
    if let Some(resumed) = &mut cx.resumed {
        resumed.progress = 0;
    }
    while done < count {
        let at = messages.offset(MULTIPLE * done);
        match one(cx, at, done) {
            Ok(Outcome::Value(len)) => {
                cx.memory()
                    .write_u32(at.offset(HEADER as u64), len as u32)?;
                done += 1;
            }
            Ok(Outcome::Blocked) => {
                let tid = cx.tid();
                let part = cx
                    .task()?
                    .blocked
                    .as_ref()
                    .map_or(0, |blocked| blocked.progress);
                if part > 0 {
                    // A part of a stream's message has gone: told as it is, since two kinds of progress cannot be kept.
                    cx.kernel.unblock(tid);
                    cx.memory()
                        .write_u32(at.offset(HEADER as u64), part as u32)?;
                    return value(done + 1);
                }
                if let Some(blocked) = cx.task_mut()?.blocked.as_mut() {
                    blocked.progress = done;
                }
                return Ok(Outcome::Blocked);
            }
            Ok(other) => return Ok(other),
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    value(done)
}
