//! System V message queues. msgget(2), msgop(2), msgctl(2).

use std::collections::VecDeque;

use super::arguments::Flags;
use super::sysv::{IPC_RMID, IPC_SET, IPC_STAT, now};
use super::{Cx, DONE, SysResult, value};
use crate::errno::Errno;
use crate::kernel::task::Restart;
use crate::memory::{Address, word};

/// Longest message, and bytes of a queue. Linux: MSGMAX, MSGMNB.
const LONGEST: usize = 8192;
const MOST_BYTES: usize = 16_384;
const MSG_NOERROR: i32 = 0o10_000;
const MSG_EXCEPT: i32 = 0o20_000;
const MSG_COPY: i32 = 0o40_000;

#[derive(Debug, Default)]
pub struct Messages {
    waiting: VecDeque<(i64, Vec<u8>)>,
    bytes: usize,
    /// Time and process of the last send and the last receive.
    sent: (i64, i32),
    received: (i64, i32),
}

pub fn msgget(cx: &mut Cx<'_>, key: i32, flags: Flags) -> SysResult {
    let who = cx.task()?.credentials.clone();
    let make = || Ok(Messages::default());
    value(
        cx.kernel
            .sysv
            .messages
            .find_or_make(key, flags, &who, |_| Ok(()), make)?,
    )
}

pub fn msgsnd(cx: &mut Cx<'_>, id: i32, message: Address, size: usize, flags: Flags) -> SysResult {
    if size > LONGEST {
        return Err(Errno::EINVAL);
    }
    let bytes = cx.memory().read_vec(message, 8 + size)?;
    let kind = word(&bytes, 0).cast_signed();
    if kind < 1 {
        return Err(Errno::EINVAL);
    }
    let (who, pid) = (cx.task()?.credentials.clone(), cx.task()?.pid);
    let ticket = cx.ticket()?;
    let has_waited = cx.resumed.is_some();
    let queue = match cx.kernel.sysv.messages.get(id) {
        Err(_) if has_waited => return Err(Errno::EIDRM),
        other => other?,
    };
    queue.check(&who, 2)?;
    queue.queue.add(ticket);
    // Empty messages are bounded by their number. Linux: msg_fits_inqueue().
    if queue.value.bytes + size > MOST_BYTES || queue.value.waiting.len() >= MOST_BYTES {
        if flags.has(libc::IPC_NOWAIT) {
            return Err(Errno::EAGAIN);
        }
        return cx.wait(ticket, None, Restart::WithoutHandler, 0);
    }
    queue.value.waiting.push_back((kind, bytes[8..].to_vec()));
    queue.value.bytes += size;
    queue.value.sent = (now(), pid);
    queue.queue.wake();
    DONE
}

pub fn msgrcv(
    cx: &mut Cx<'_>,
    id: i32,
    message: Address,
    size: usize,
    kind: i64,
    flags: Flags,
) -> SysResult {
    if size > isize::MAX as usize || flags.has(MSG_COPY) {
        return Err(Errno::EINVAL);
    }
    let (who, pid, memory) = (cx.task()?.credentials.clone(), cx.task()?.pid, cx.memory());
    let ticket = cx.ticket()?;
    let has_waited = cx.resumed.is_some();
    let queue = match cx.kernel.sysv.messages.get(id) {
        Err(_) if has_waited => return Err(Errno::EIDRM),
        other => other?,
    };
    queue.check(&who, 4)?;
    queue.queue.add(ticket);
    let waiting = &queue.value.waiting;
    let found = match kind {
        0 => (!waiting.is_empty()).then_some(0),
        1.. => waiting
            .iter()
            .position(|(other, _)| (*other == kind) != flags.has(MSG_EXCEPT)),
        _ => {
            let limit = kind.saturating_neg();
            let lowest = waiting
                .iter()
                .map(|(other, _)| *other)
                .filter(|other| *other <= limit)
                .min();
            lowest.and_then(|lowest| waiting.iter().position(|(other, _)| *other == lowest))
        }
    };
    let Some(index) = found else {
        if flags.has(libc::IPC_NOWAIT) {
            return Err(Errno::ENOMSG);
        }
        return cx.wait(ticket, None, Restart::WithoutHandler, 0);
    };
    if waiting[index].1.len() > size && !flags.has(MSG_NOERROR) {
        return Err(Errno::E2BIG);
    }
    let Some((kind, bytes)) = queue.value.waiting.remove(index) else {
        return Err(Errno::ENOMSG);
    };
    queue.value.bytes -= bytes.len();
    queue.value.received = (now(), pid);
    queue.queue.wake();
    let count = bytes.len().min(size);
    let mut told = kind.to_le_bytes().to_vec();
    told.extend_from_slice(&bytes[..count]);
    memory.write(message, &told)?;
    value(count)
}

pub fn msgctl(cx: &mut Cx<'_>, id: i32, command: i32, buf: Address) -> SysResult {
    let (who, memory) = (cx.task()?.credentials.clone(), cx.memory());
    let queues = &mut cx.kernel.sysv.messages;
    let queue = queues.get(id)?;
    match command {
        IPC_RMID => queues.remove(id, &who)?,
        IPC_STAT => {
            queue.check(&who, 4)?;
            let mut bytes = queue.permissions(id);
            let state = &queue.value;
            let words = [
                state.sent.0,
                state.received.0,
                queue.changed,
                state.bytes as i64,
                state.waiting.len() as i64,
                MOST_BYTES as i64,
            ];
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            bytes.extend(state.sent.1.to_le_bytes());
            bytes.extend(state.received.1.to_le_bytes());
            bytes.resize(120, 0);
            memory.write(buf, &bytes)?;
        }
        IPC_SET => {
            let permissions = memory.read_vec(buf, 48)?;
            queue.set(&who, &permissions)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    DONE
}
