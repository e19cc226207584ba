//! Nice values and I/O priorities, of threads, groups and users: setpriority(2), ioprio_set(2).

use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::task::Task;

const CAP_SYS_NICE: u32 = 23;
const CAP_SYS_ADMIN: u32 = 21;

/// Whom a call means.
#[derive(Clone, Copy)]
enum Whom {
    Thread,
    Group,
    User,
}

/// The native ids of the threads that are meant. `ESRCH`: none.
fn find(cx: &Cx<'_>, whom: Whom, who: i32) -> Result<Vec<i32>> {
    let own = cx.task()?;
    let found: Vec<i32> = match whom {
        Whom::Thread if who == 0 => vec![own.host_tid],
        Whom::Thread => cx.kernel.tids.get(&who).copied().into_iter().collect(),
        Whom::Group => {
            let group = if who == 0 { cx.process()?.group } else { who };
            let is_member = |task: &&Task| {
                cx.kernel
                    .process(task.pid)
                    .is_ok_and(|process| process.group == group)
            };
            cx.kernel
                .tasks
                .values()
                .filter(is_member)
                .map(|task| task.host_tid)
                .collect()
        }
        Whom::User => {
            let uid = if who == 0 {
                own.credentials.uid
            } else {
                who.cast_unsigned()
            };
            let tasks = cx
                .kernel
                .tasks
                .values()
                .filter(|task| task.credentials.uid == uid);
            tasks.map(|task| task.host_tid).collect()
        }
    };
    if found.is_empty() {
        Err(Errno::ESRCH)
    } else {
        Ok(found)
    }
}

fn whom(which: i32, first: i32) -> Result<Whom> {
    match which.wrapping_sub(first) {
        0 => Ok(Whom::Thread),
        1 => Ok(Whom::Group),
        2 => Ok(Whom::User),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether the caller may set a thread's priorities. sched(7), "Privileges".
pub fn may_schedule(cx: &Cx<'_>, target: &Task) -> Result<bool> {
    let own = &cx.task()?.credentials;
    let theirs = &target.credentials;
    Ok(own.has(CAP_SYS_NICE) || [theirs.uid, theirs.euid].contains(&own.euid))
}

/// Whether a nice value may become this one: upwards always, downwards by RLIMIT_NICE or a capability. Linux: can_nice().
pub fn may_nice(cx: &Cx<'_>, target: &Task, nice: i32) -> Result<bool> {
    let limit = cx.kernel.process(target.pid)?.limits.0[libc::RLIMIT_NICE as usize].0;
    let allowed = (20 - nice) as u64 <= limit;
    Ok(
        nice >= target.settings.schedule.nice
            || allowed
            || cx.task()?.credentials.has(CAP_SYS_NICE),
    )
}

pub fn getpriority(cx: &mut Cx<'_>, which: i32, who: i32) -> SysResult {
    let found = find(cx, whom(which, 0)?, who)?;
    let nices = found.iter().filter_map(|tid| cx.kernel.tasks.get(tid));
    let best = nices.map(|task| 20 - task.settings.schedule.nice).max();
    value(best.ok_or(Errno::ESRCH)?)
}

pub fn setpriority(cx: &mut Cx<'_>, which: i32, who: i32, nice: i32) -> SysResult {
    let nice = nice.clamp(-20, 19);
    let whom = whom(which, 0)?;
    let mut result = DONE;
    for tid in find(cx, whom, who)? {
        let task = cx.kernel.task(tid)?;
        if !may_schedule(cx, task)? {
            result = Err(Errno::EPERM);
        } else if !may_nice(cx, task, nice)? {
            result = Err(Errno::EACCES);
        } else if set_nice(cx, tid, nice)? && matches!(whom, Whom::Thread) {
            // Numbers of threads are the same there, and it cannot be refused.
            cx.kernel.task_mut(tid)?.settings.host_nice = nice;
            result = Ok(Outcome::Native);
        }
    }
    result
}

/// Keeps the value; whether the host lets the program's own call do the same: what takes a capability there stays a number.
pub fn set_nice(cx: &mut Cx<'_>, tid: i32, nice: i32) -> Result<bool> {
    let settings = &mut cx.kernel.task_mut(tid)?.settings;
    settings.schedule.nice = nice;
    Ok(nice >= settings.host_nice)
}

const CLASS_SHIFT: i32 = 13;

pub fn ioprio_get(cx: &mut Cx<'_>, which: i32, who: i32) -> SysResult {
    let found = find(cx, whom(which, 1)?, who)?;
    // Of several the best: the lowest number, where none at all counts as the middle of best-effort.
    let rank = |value: &i32| {
        if *value >> CLASS_SHIFT == 0 {
            2 << CLASS_SHIFT | 4
        } else {
            *value
        }
    };
    let values = found.iter().filter_map(|tid| cx.kernel.tasks.get(tid));
    value(
        values
            .map(|task| task.settings.io_priority)
            .min_by_key(rank)
            .ok_or(Errno::ESRCH)?,
    )
}

pub fn ioprio_set(cx: &mut Cx<'_>, which: i32, who: i32, priority: i32) -> SysResult {
    let (class, level) = (priority >> CLASS_SHIFT, priority & 0x1FFF);
    match class {
        0 if level & 7 == 0 => {}
        1 => {
            let own = &cx.task()?.credentials;
            if !own.has(CAP_SYS_ADMIN) && !own.has(CAP_SYS_NICE) {
                return Err(Errno::EPERM);
            }
        }
        // Above the level's three bits are hints. Linux 6.5: ioprio.h.
        2 | 3 => {}
        _ => return Err(Errno::EINVAL),
    }
    for tid in find(cx, whom(which, 1)?, who)? {
        if !may_schedule(cx, cx.kernel.task(tid)?)? {
            return Err(Errno::EPERM);
        }
        cx.kernel.task_mut(tid)?.settings.io_priority = priority;
    }
    DONE
}
