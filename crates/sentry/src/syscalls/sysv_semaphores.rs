//! System V semaphores. semget(2), semop(2), semctl(2).

use super::arguments::Flags;
use super::sysv::{IPC_RMID, IPC_SET, IPC_STAT, now};
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::task::Restart;
use crate::memory::{Address, half};

/// Semaphores of a set, operations of a call, largest value. Linux: SEMMSL, SEMOPM, SEMVMX.
const MOST_SEMAPHORES: i32 = 32_000;
const MOST_OPERATIONS: usize = 500;
const LARGEST: i32 = 32_767;
const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const NOWAIT: i32 = libc::IPC_NOWAIT;

#[derive(Debug, Default)]
pub struct Semaphores {
    /// Value, and the process that changed it last.
    values: Vec<(i32, i32)>,
    operated: i64,
}

pub fn semget(cx: &mut Cx<'_>, key: i32, count: i32, flags: Flags) -> SysResult {
    if !(0..=MOST_SEMAPHORES).contains(&count) {
        return Err(Errno::EINVAL);
    }
    let who = cx.task()?.credentials.clone();
    let fits = |set: &Semaphores| {
        if count as usize > set.values.len() {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    };
    let make = || {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Semaphores {
            values: vec![(0, 0); count as usize],
            operated: 0,
        })
    };
    value(
        cx.kernel
            .sysv
            .semaphores
            .find_or_make(key, flags, &who, fits, make)?,
    )
}

pub fn semop(cx: &mut Cx<'_>, id: i32, operations: Address, count: usize) -> SysResult {
    semtimedop(cx, id, operations, count, Address(0))
}

pub fn semtimedop(
    cx: &mut Cx<'_>,
    id: i32,
    operations: Address,
    count: usize,
    timeout: Address,
) -> SysResult {
    if count == 0 {
        return Err(Errno::EINVAL);
    }
    if count > MOST_OPERATIONS {
        return Err(Errno::E2BIG);
    }
    let limit = if timeout.is_null() {
        None
    } else {
        Some(super::time::read_timespec(cx, timeout)?)
    };
    let bytes = cx.memory().read_vec(operations, 6 * count)?;
    let number = |entry: &[u8], at: usize| i16::from_le_bytes([entry[at], entry[at + 1]]);
    let wanted: Vec<(usize, i32, i32)> = bytes
        .chunks_exact(6)
        .map(|entry| {
            let index = number(entry, 0).cast_unsigned();
            (
                usize::from(index),
                i32::from(number(entry, 2)),
                i32::from(number(entry, 4)),
            )
        })
        .collect();
    let (who, pid) = (cx.task()?.credentials.clone(), cx.task()?.pid);
    let ticket = cx.ticket()?;
    let has_waited = cx.resumed.is_some();
    let set = match cx.kernel.sysv.semaphores.get(id) {
        Err(_) if has_waited => return Err(Errno::EIDRM),
        other => other?,
    };
    if wanted
        .iter()
        .any(|(index, ..)| *index >= set.value.values.len())
    {
        return Err(Errno::EFBIG);
    }
    let alters = wanted.iter().any(|(_, change, _)| *change != 0);
    set.check(&who, if alters { 2 } else { 4 })?;
    set.queue.add(ticket);
    match attempt(&mut set.value, &wanted, pid) {
        Ok(()) => {
            if alters {
                set.queue.wake();
            }
            DONE
        }
        Err(Errno::EAGAIN) if !wanted.iter().any(|(_, _, flags)| flags & NOWAIT != 0) => {
            if cx.has_timed_out() {
                return Err(Errno::EAGAIN);
            }
            let deadline = cx.deadline(limit);
            cx.wait(ticket, deadline, Restart::WithoutHandler, 0)
        }
        Err(error) => Err(error),
    }
}

/// All operations or none.
fn attempt(set: &mut Semaphores, wanted: &[(usize, i32, i32)], pid: i32) -> Result<()> {
    let mut values = set.values.clone();
    for (index, change, _) in wanted {
        let slot = values.get_mut(*index).ok_or(Errno::EFBIG)?;
        let next = slot.0 + change;
        if (*change == 0 && slot.0 != 0) || next < 0 {
            return Err(Errno::EAGAIN);
        }
        if next > LARGEST {
            return Err(Errno::ERANGE);
        }
        *slot = (next, pid);
    }
    set.values = values;
    set.operated = now();
    Ok(())
}

pub fn semctl(cx: &mut Cx<'_>, id: i32, index: i32, command: i32, argument: u64) -> SysResult {
    let (who, pid, memory) = (cx.task()?.credentials.clone(), cx.task()?.pid, cx.memory());
    let at = Address(argument);
    let sets = &mut cx.kernel.sysv.semaphores;
    let set = sets.get(id)?;
    let slot = || usize::try_from(index).map_err(|_| Errno::EINVAL);
    match command {
        IPC_RMID => {
            sets.remove(id, &who)?;
            DONE
        }
        IPC_STAT => {
            set.check(&who, 4)?;
            let mut bytes = set.permissions(id);
            for word in [
                set.value.operated,
                0,
                set.changed,
                0,
                set.value.values.len() as i64,
                0,
                0,
            ] {
                bytes.extend(word.to_le_bytes());
            }
            memory.write(at, &bytes)?;
            DONE
        }
        IPC_SET => {
            let permissions = memory.read_vec(at, 48)?;
            set.set(&who, &permissions)?;
            DONE
        }
        GETALL => {
            set.check(&who, 4)?;
            let bytes: Vec<u8> = set
                .value
                .values
                .iter()
                .flat_map(|(value, _)| (*value as u16).to_le_bytes())
                .collect();
            memory.write(at, &bytes)?;
            DONE
        }
        SETALL => {
            set.check(&who, 2)?;
            let bytes = memory.read_vec(at, 2 * set.value.values.len())?;
            let values: Vec<i32> = bytes
                .chunks_exact(2)
                .map(|pair| i32::from(u16::from_le_bytes([pair[0], pair[1]])))
                .collect();
            if values.iter().any(|value| *value > LARGEST) {
                return Err(Errno::ERANGE);
            }
            set.value.values = values.into_iter().map(|value| (value, pid)).collect();
            set.changed = now();
            set.queue.wake();
            DONE
        }
        GETVAL | GETPID => {
            set.check(&who, 4)?;
            let found = set.value.values.get(slot()?).ok_or(Errno::EINVAL)?;
            value(if command == GETVAL { found.0 } else { found.1 })
        }
        GETNCNT | GETZCNT => {
            set.check(&who, 4)?;
            set.value.values.get(slot()?).ok_or(Errno::EINVAL)?;
            DONE
        }
        SETVAL => {
            set.check(&who, 2)?;
            let new = half(&argument.to_le_bytes(), 0).cast_signed();
            if !(0..=LARGEST).contains(&new) {
                return Err(Errno::ERANGE);
            }
            *set.value.values.get_mut(slot()?).ok_or(Errno::EINVAL)? = (new, pid);
            set.changed = now();
            set.queue.wake();
            DONE
        }
        _ => Err(Errno::EINVAL),
    }
}
