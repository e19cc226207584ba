//! System V message queues. msgget(2), msgop(2), msgctl(2).

use std::collections::VecDeque;

use super::arguments::Flags;
use super::sysv::{IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Object, now};
use super::{Cx, DONE, SysResult, value};
use crate::errno::Errno;
use crate::kernel::credentials::CAP_SYS_RESOURCE;
use crate::kernel::task::Restart;
use crate::memory::{Address, word};

/// Longest message, and bytes of a queue. Linux: MSGMAX, MSGMNB.
const LONGEST: usize = 8192;
const MOST_BYTES: usize = 16_384;
const MSG_NOERROR: i32 = 0o10_000;
const MSG_EXCEPT: i32 = 0o20_000;
const MSG_COPY: i32 = 0o40_000;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;
/// What even CAP_SYS_RESOURCE raises a queue's bytes to: they lie in the sentry's memory.
const MOST_BYTES_EVER: u64 = 64 << 20;

#[derive(Debug)]
pub struct Messages {
    waiting: VecDeque<(i64, Vec<u8>)>,
    bytes: usize,
    /// Bytes that it may hold, and how many messages, which may be empty.
    most: usize,
    /// Time and process of the last send and the last receive.
    sent: (i64, i32),
    received: (i64, i32),
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            most: MOST_BYTES,
            sent: (0, 0),
            received: (0, 0),
        }
    }
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
    let most = queue.value.most;
    if queue.value.bytes + size > most || queue.value.waiting.len() >= most {
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
    // Looking without taking never waits. Linux: do_msgrcv().
    let copies = flags.has(MSG_COPY);
    let may_copy = flags.has(libc::IPC_NOWAIT) && !flags.has(MSG_EXCEPT);
    if size > isize::MAX as usize || (copies && !may_copy) {
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
        _ if copies => usize::try_from(kind)
            .ok()
            .filter(|index| *index < waiting.len()),
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
    let (kind, bytes) = if copies {
        waiting[index].clone()
    } else {
        let taken = queue.value.waiting.remove(index).ok_or(Errno::ENOMSG)?;
        queue.value.bytes -= taken.1.len();
        queue.value.received = (now(), pid);
        queue.queue.wake();
        taken
    };
    let count = bytes.len().min(size);
    let mut told = kind.to_le_bytes().to_vec();
    told.extend_from_slice(&bytes[..count]);
    memory.write(message, &told)?;
    value(count)
}

/// IPC_INFO and MSG_INFO: `struct msginfo`, the limits or what is in use. Returns the highest index.
fn tell_limits(cx: &Cx<'_>, command: i32, at: Address) -> SysResult {
    const QUEUES: i32 = 32_000;
    /// Linux: MSGPOOL, KiB.
    const POOL: i32 = 512_000;
    let queues = &cx.kernel.sysv.messages;
    let all = MOST_BYTES as i32;
    let (mut pool, mut map, mut headers) = (POOL, all, all);
    if command == MSG_INFO {
        let total =
            |of: fn(&Messages) -> usize| queues.values().map(|it| of(&it.value)).sum::<usize>();
        pool = queues.count() as i32;
        map = total(|it| it.waiting.len()) as i32;
        headers = total(|it| it.bytes) as i32;
    }
    let words = [pool, map, LONGEST as i32, all, QUEUES, 16, headers, 0xFFFF];
    let bytes: Vec<u8> = words.into_iter().flat_map(i32::to_le_bytes).collect();
    cx.memory().write(at, &bytes)?;
    value(queues.highest_id())
}

/// `struct msqid_ds`.
fn describe(queue: &Object<Messages>, id: i32) -> Vec<u8> {
    let state = &queue.value;
    let mut bytes = queue.permissions(id);
    let words = [
        state.sent.0,
        state.received.0,
        queue.changed,
        state.bytes as i64,
        state.waiting.len() as i64,
        state.most as i64,
    ];
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(state.sent.1.to_le_bytes());
    bytes.extend(state.received.1.to_le_bytes());
    bytes.resize(120, 0);
    bytes
}

pub fn msgctl(cx: &mut Cx<'_>, id: i32, command: i32, buf: Address) -> SysResult {
    if [IPC_INFO, MSG_INFO].contains(&command) {
        return tell_limits(cx, command, buf);
    }
    let (who, memory) = (cx.task()?.credentials.clone(), cx.memory());
    let queues = &mut cx.kernel.sysv.messages;
    let queue = queues.get(id)?;
    match command {
        IPC_RMID => queues.remove(id, &who)?,
        IPC_STAT | MSG_STAT | MSG_STAT_ANY => {
            if command != MSG_STAT_ANY {
                queue.check(&who, 4)?;
            }
            memory.write(buf, &describe(queue, id))?;
            return value(if command == IPC_STAT { 0 } else { id });
        }
        IPC_SET => {
            let bytes = memory.read_vec(buf, 96)?;
            let most = word(&bytes, 88);
            let limit = if who.has(CAP_SYS_RESOURCE) {
                MOST_BYTES_EVER
            } else {
                MOST_BYTES as u64
            };
            if most > limit {
                return Err(Errno::EPERM);
            }
            queue.set(&who, &bytes[..48])?;
            queue.value.most = most as usize;
            queue.queue.wake();
        }
        _ => return Err(Errno::EINVAL),
    }
    DONE
}
