//! System V semaphores. semget(2), semop(2), semctl(2).

use std::collections::{BTreeMap, HashMap};

use super::arguments::Flags;
use super::sysv::{IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Object, Table, now};
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
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;
const NOWAIT: i32 = libc::IPC_NOWAIT;
const UNDO: i32 = 0x1000;

#[derive(Debug, Default)]
pub struct Semaphores {
    /// Value, and the process that changed it last.
    values: Vec<(i32, i32)>,
    operated: i64,
    /// By process, what its end adds to each semaphore (SEM_UNDO).
    undo: BTreeMap<i32, Vec<i32>>,
    /// By native thread that waits: for which semaphore, and whether for its being 0.
    waiting: HashMap<i32, (usize, bool)>,
}

/// The end of a process: its operations with SEM_UNDO are undone. Linux: exit_sem().
pub fn process_ended(sets: &mut Table<Semaphores>, pid: i32) {
    for set in sets.values_mut() {
        let Some(adjustments) = set.value.undo.remove(&pid) else {
            continue;
        };
        for (slot, adjustment) in set.value.values.iter_mut().zip(adjustments) {
            if adjustment != 0 {
                *slot = ((slot.0 + adjustment).clamp(0, LARGEST), pid);
            }
        }
        set.value.operated = now();
        set.queue.wake();
    }
}

/// IPC_INFO and SEM_INFO: `struct seminfo`, the limits or what is in use. Returns the highest index.
fn tell_limits(cx: &Cx<'_>, command: i32, at: Address) -> SysResult {
    const ALL: i32 = 32_000 * 32_000;
    let sets = &cx.kernel.sysv.semaphores;
    let (mut undo_size, mut most_undone) = (20, LARGEST);
    if command == SEM_INFO {
        undo_size = sets.count() as i32;
        most_undone = sets.values().map(|set| set.value.values.len() as i32).sum();
    }
    let words = [
        ALL,
        32_000,
        ALL,
        ALL,
        MOST_SEMAPHORES,
        MOST_OPERATIONS as i32,
        MOST_OPERATIONS as i32,
        undo_size,
        LARGEST,
        most_undone,
    ];
    let bytes: Vec<u8> = words.into_iter().flat_map(i32::to_le_bytes).collect();
    cx.memory().write(at, &bytes)?;
    value(sets.highest_id())
}

fn describe(set: &Object<Semaphores>, id: i32) -> Vec<u8> {
    let mut bytes = set.permissions(id);
    let count = set.value.values.len() as i64;
    for word in [set.value.operated, 0, set.changed, 0, count, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
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
            ..Semaphores::default()
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
    let (has_waited, tid) = (cx.resumed.is_some(), cx.tid());
    let set = match cx.kernel.sysv.semaphores.get(id) {
        Err(_) if has_waited => return Err(Errno::EIDRM),
        other => other?,
    };
    set.value.waiting.remove(&tid);
    if wanted
        .iter()
        .any(|(index, ..)| *index >= set.value.values.len())
    {
        return Err(Errno::EFBIG);
    }
    let alters = wanted.iter().any(|(_, change, _)| *change != 0);
    set.check(&who, if alters { 2 } else { 4 })?;
    set.queue.add(ticket);
    let Some((index, change, flags)) = attempt(&mut set.value, &wanted, pid)? else {
        if alters {
            set.queue.wake();
        }
        return DONE;
    };
    if flags & NOWAIT != 0 || cx.has_timed_out() {
        return Err(Errno::EAGAIN);
    }
    let deadline = cx.deadline(limit);
    let outcome = cx.wait(ticket, deadline, Restart::WithoutHandler, 0)?;
    let set = cx.kernel.sysv.semaphores.get(id)?;
    set.value.waiting.insert(tid, (index, change == 0));
    Ok(outcome)
}

type Operation = (usize, i32, i32);

/// All operations or none: the one that has to wait, if one has. `ERANGE`
fn attempt(set: &mut Semaphores, wanted: &[Operation], pid: i32) -> Result<Option<Operation>> {
    let mut values = set.values.clone();
    let nothing = || vec![0; set.values.len()];
    let mut undo = set.undo.get(&pid).cloned().unwrap_or_else(nothing);
    for operation in wanted {
        let (index, change, flags) = *operation;
        let slot = values.get_mut(index).ok_or(Errno::EFBIG)?;
        let next = slot.0 + change;
        if (change == 0 && slot.0 != 0) || next < 0 {
            return Ok(Some(*operation));
        }
        if next > LARGEST {
            return Err(Errno::ERANGE);
        }
        *slot = (next, pid);
        if flags & UNDO != 0 {
            let adjustment = undo[index] - change;
            if !(-LARGEST - 1..=LARGEST).contains(&adjustment) {
                return Err(Errno::ERANGE);
            }
            undo[index] = adjustment;
        }
    }
    if wanted.iter().any(|(.., flags)| flags & UNDO != 0) {
        set.undo.insert(pid, undo);
    }
    set.values = values;
    set.operated = now();
    Ok(None)
}

pub fn semctl(cx: &mut Cx<'_>, id: i32, index: i32, command: i32, argument: u64) -> SysResult {
    let (who, pid, memory) = (cx.task()?.credentials.clone(), cx.task()?.pid, cx.memory());
    let at = Address(argument);
    if [IPC_INFO, SEM_INFO].contains(&command) {
        return tell_limits(cx, command, at);
    }
    let tasks = &cx.kernel.tasks;
    let sets = &mut cx.kernel.sysv.semaphores;
    let set = sets.get(id)?;
    let slot = || usize::try_from(index).map_err(|_| Errno::EINVAL);
    match command {
        IPC_RMID => {
            sets.remove(id, &who)?;
            DONE
        }
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => {
            if command != SEM_STAT_ANY {
                set.check(&who, 4)?;
            }
            memory.write(at, &describe(set, id))?;
            value(if command == IPC_STAT { 0 } else { id })
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
            set.value.undo.clear();
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
            let index = slot()?;
            set.value.values.get(index).ok_or(Errno::EINVAL)?;
            let waits = |tid: &i32| {
                tasks
                    .get(tid)
                    .and_then(|task| task.blocked.as_ref())
                    .is_some_and(|blocked| blocked.call.args[0] as i32 == id)
            };
            set.value.waiting.retain(|tid, _| waits(tid));
            let wanted = (index, command == GETZCNT);
            value(
                set.value
                    .waiting
                    .values()
                    .filter(|it| **it == wanted)
                    .count(),
            )
        }
        SETVAL => {
            set.check(&who, 2)?;
            let new = half(&argument.to_le_bytes(), 0).cast_signed();
            if !(0..=LARGEST).contains(&new) {
                return Err(Errno::ERANGE);
            }
            let index = slot()?;
            *set.value.values.get_mut(index).ok_or(Errno::EINVAL)? = (new, pid);
            for adjustments in set.value.undo.values_mut() {
                adjustments[index] = 0;
            }
            set.changed = now();
            set.queue.wake();
            DONE
        }
        _ => Err(Errno::EINVAL),
    }
}
