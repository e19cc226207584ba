//! File locks: fcntl(2)'s of processes and of open file descriptions, flock(2). And fcntl's commands that few use: owners, hints, leases.

use std::sync::Arc;

use super::arguments::Flags;
use super::{Cx, DONE, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::locks::{self, Key, Owner, Range};
use crate::kernel::task::Restart;
use crate::memory::Address;
use crate::vfs::description::Description;

const F_OFD_GETLK: i32 = 36;
const F_OFD_SETLK: i32 = 37;
const F_OFD_SETLKW: i32 = 38;
/// Linux: OFFSET_MAX.
const LAST: u64 = i64::MAX as u64;
/// Processes in a cycle of waiters that are looked through. Linux: MAX_DEADLK_ITERATIONS.
const MOST_STEPS: usize = 10;

/// The rest of fcntl(2).
pub fn fcntl(
    cx: &mut Cx<'_>,
    description: &Arc<Description>,
    command: i32,
    argument: u64,
) -> SysResult {
    match command {
        libc::F_GETLK | F_OFD_GETLK => tell(cx, description, command, Address(argument)),
        libc::F_SETLK | libc::F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => {
            set(cx, description, command, Address(argument))
        }
        _ => super::file_settings::fcntl(cx, description, command, argument),
    }
}

/// `struct flock` as it was given.
struct Request {
    kind: i16,
    range: Range,
}

/// Linux: flock_to_posix_lock().
fn read_request(
    cx: &Cx<'_>,
    description: &Arc<Description>,
    command: i32,
    at: Address,
) -> Result<Request> {
    let mut bytes = [0; 32];
    cx.memory().read(at, &mut bytes)?;
    let kind = i16::from_le_bytes([bytes[0], bytes[1]]);
    let whence = i16::from_le_bytes([bytes[2], bytes[3]]);
    let long = |at| crate::memory::word(&bytes, at).cast_signed();
    let (start, len) = (long(8), long(16));
    let pid = crate::memory::half(&bytes, 24);
    let is_of_description = command >= F_OFD_GETLK;
    let base = match i32::from(whence) {
        libc::SEEK_SET => 0,
        libc::SEEK_CUR => *description.position(),
        libc::SEEK_END => description.file.attributes()?.size,
        _ => return Err(Errno::EINVAL),
    };
    let start = base
        .cast_signed()
        .checked_add(start)
        .ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let (start, end) = match len {
        0 => (start, LAST.cast_signed()),
        1.. => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        _ => {
            let first = start.checked_add(len).filter(|first| *first >= 0);
            (first.ok_or(Errno::EINVAL)?, start - 1)
        }
    };
    if ![libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK].contains(&i32::from(kind))
        || (is_of_description && pid != 0)
    {
        return Err(Errno::EINVAL);
    }
    let owner = if is_of_description {
        Owner::Description(Arc::as_ptr(description).addr())
    } else {
        Owner::Process(cx.kernel.owner_number(cx.task()?.pid))
    };
    Ok(Request {
        kind,
        range: Range {
            start: start.cast_unsigned(),
            end: end.cast_unsigned(),
            owner,
            is_exclusive: i32::from(kind) == libc::F_WRLCK,
        },
    })
}

fn key_of(description: &Description) -> Result<Key> {
    description.file.identity()
}

fn tell(cx: &mut Cx<'_>, description: &Arc<Description>, command: i32, at: Address) -> SysResult {
    let request = read_request(cx, description, command, at)?;
    let is_unlock = i32::from(request.kind) == libc::F_UNLCK;
    if is_unlock && command == libc::F_GETLK {
        return Err(Errno::EINVAL);
    }
    let Some(held) = locks::conflict(key_of(description)?, &request.range) else {
        let unlocked = (libc::F_UNLCK as i16).to_le_bytes();
        cx.memory().write(at, &unlocked)?;
        return DONE;
    };
    let kind = if held.is_exclusive {
        libc::F_WRLCK
    } else {
        libc::F_RDLCK
    };
    let len = if held.end == LAST {
        0
    } else {
        held.end - held.start + 1
    };
    let pid = match held.owner {
        Owner::Process(number) => cx.kernel.owner_pid(number),
        Owner::Description(_) => -1,
    };
    let mut bytes = (kind as i16).to_le_bytes().to_vec();
    bytes.extend([0; 6]);
    bytes.extend(held.start.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(pid.to_le_bytes());
    cx.memory().write(at, &bytes[..2])?;
    // l_whence is SEEK_SET; what lies between stays the program's.
    cx.memory().write(at.offset(2), &[0, 0])?;
    cx.memory().write(at.offset(8), &bytes[8..])?;
    DONE
}

fn set(cx: &mut Cx<'_>, description: &Arc<Description>, command: i32, at: Address) -> SysResult {
    let request = read_request(cx, description, command, at)?;
    let key = key_of(description)?;
    let is_allowed = match i32::from(request.kind) {
        libc::F_RDLCK => description.is_readable(),
        libc::F_WRLCK => description.is_writable(),
        _ => {
            locks::unlock_range(key, &request.range);
            return DONE;
        }
    };
    if !is_allowed {
        return Err(Errno::EBADF);
    }
    if let Owner::Description(_) = request.range.owner {
        description.note_lock();
    }
    let waits = [libc::F_SETLKW, F_OFD_SETLKW].contains(&command);
    let tid = cx.tid();
    cx.kernel.lock_waits.remove(&tid);
    let ticket = if waits { Some(cx.ticket()?) } else { None };
    let Err(held) = locks::lock_range(key, request.range, ticket)? else {
        return DONE;
    };
    let Some(ticket) = ticket else {
        return Err(Errno::EAGAIN);
    };
    if let Owner::Process(pid) = request.range.owner {
        if would_deadlock(cx, pid, held.owner) {
            return Err(Errno(libc::EDEADLK));
        }
        // Threads that ended while they waited leave theirs behind.
        let tasks = &cx.kernel.tasks;
        cx.kernel
            .lock_waits
            .retain(|tid, _| tasks.contains_key(tid));
        cx.kernel
            .lock_waits
            .insert(tid, (ticket.wait, pid, held.owner));
    }
    cx.wait(ticket, None, Restart::IfAsked, 0)
}

/// Whether who holds the lock waits, over others, for this process. Linux: posix_locks_deadlock().
fn would_deadlock(cx: &Cx<'_>, pid: i32, holder: Owner) -> bool {
    let mut holder = holder;
    for _ in 0..MOST_STEPS {
        let Owner::Process(next) = holder else {
            return false;
        };
        if next == pid {
            return true;
        }
        let waits_for = cx
            .kernel
            .lock_waits
            .iter()
            .find(|(tid, (wait, waiter, _))| {
                let blocked = cx
                    .kernel
                    .tasks
                    .get(tid)
                    .and_then(|task| task.blocked.as_ref());
                *waiter == next && blocked.is_some_and(|blocked| blocked.wait == *wait)
            });
        let Some((_, (_, _, further))) = waits_for else {
            return false;
        };
        holder = *further;
    }
    false
}

pub fn flock(cx: &mut Cx<'_>, fd: i32, operation: Flags) -> SysResult {
    /// Mandatory locks are gone (Linux 5.15), and asking for one does nothing.
    const LOCK_MAND: i32 = 32;
    if operation.has(LOCK_MAND) {
        return DONE;
    }
    let kind = operation.0.cast_signed() & !libc::LOCK_NB;
    if ![libc::LOCK_UN, libc::LOCK_SH, libc::LOCK_EX].contains(&kind) {
        return Err(Errno::EINVAL);
    }
    let description = cx.open_description(fd)?;
    let key = key_of(&description)?;
    let owner = Arc::as_ptr(&description).addr();
    let is_exclusive = match kind {
        libc::LOCK_UN => {
            locks::unlock_whole(key, owner);
            return DONE;
        }
        kind => kind == libc::LOCK_EX,
    };
    description.note_lock();
    let waits = !operation.has(libc::LOCK_NB);
    let ticket = if waits { Some(cx.ticket()?) } else { None };
    if locks::lock_whole(key, owner, is_exclusive, ticket) {
        return DONE;
    }
    match ticket {
        Some(ticket) => cx.wait(ticket, None, Restart::IfAsked, 0),
        None => Err(Errno::EAGAIN),
    }
}
