//! Scheduling policies and processors: sched(7), sched_setaffinity(2).
//!
//! Policies are kept, checked as Linux checks them, and not passed on: the host schedules all of a sandbox alike, but for nice values and affinities.

use super::priorities::{may_nice, may_schedule, set_nice};
use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::settings::Schedule;
use crate::memory::{Address, half, word};

const CAP_SYS_NICE: u32 = 23;
const SCHED_DEADLINE: i32 = 6;
const RESET_ON_FORK: i32 = 0x4000_0000;
/// Bytes of a mask that are looked at: 1024 processors.
const MASK_MAX: usize = 128;
const RR_INTERVAL_NS: u64 = 100_000_000;
const FAIR_INTERVAL_NS: u64 = 4_000_000;

/// The native id of a thread, 0 being the caller.
fn thread(cx: &Cx<'_>, tid: i32) -> Result<i32> {
    match tid {
        0 => Ok(cx.tid()),
        tid if tid < 0 => Err(Errno::EINVAL),
        tid => cx.kernel.tids.get(&tid).copied().ok_or(Errno::ESRCH),
    }
}

fn is_realtime(policy: i32) -> bool {
    [libc::SCHED_FIFO, libc::SCHED_RR].contains(&policy)
}

fn range(policy: i32) -> Result<(i32, i32)> {
    match policy {
        libc::SCHED_FIFO | libc::SCHED_RR => Ok((1, 99)),
        libc::SCHED_OTHER | libc::SCHED_BATCH | libc::SCHED_IDLE | SCHED_DEADLINE => Ok((0, 0)),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_get_priority_max(_cx: &mut Cx<'_>, policy: i32) -> SysResult {
    value(range(policy)?.1)
}

pub fn sched_get_priority_min(_cx: &mut Cx<'_>, policy: i32) -> SysResult {
    value(range(policy)?.0)
}

pub fn sched_getscheduler(cx: &mut Cx<'_>, tid: i32) -> SysResult {
    let schedule = cx.kernel.task(thread(cx, tid)?)?.settings.schedule;
    let flag = if schedule.resets { RESET_ON_FORK } else { 0 };
    value(schedule.policy | flag)
}

pub fn sched_getparam(cx: &mut Cx<'_>, tid: i32, param: Address) -> SysResult {
    if param.is_null() {
        return Err(Errno::EINVAL);
    }
    let schedule = cx.kernel.task(thread(cx, tid)?)?.settings.schedule;
    cx.memory().write_i32(param, schedule.priority)?;
    DONE
}

pub fn sched_setparam(cx: &mut Cx<'_>, tid: i32, param: Address) -> SysResult {
    if param.is_null() || tid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = cx.memory().read_u32(param)?.cast_signed();
    let target = thread(cx, tid)?;
    let wanted = Schedule {
        priority,
        ..cx.kernel.task(target)?.settings.schedule
    };
    change(cx, target, wanted)
}

pub fn sched_setscheduler(cx: &mut Cx<'_>, tid: i32, policy: i32, param: Address) -> SysResult {
    if param.is_null() || tid < 0 || policy < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = cx.memory().read_u32(param)?.cast_signed();
    let target = thread(cx, tid)?;
    let wanted = Schedule {
        policy: policy & !RESET_ON_FORK,
        priority,
        nice: cx.kernel.task(target)?.settings.schedule.nice,
        resets: policy & RESET_ON_FORK != 0,
    };
    change(cx, target, wanted)
}

/// Linux: __sched_setscheduler() and its user_check_sched_setscheduler().
fn change(cx: &mut Cx<'_>, target: i32, wanted: Schedule) -> SysResult {
    let (least, most) = range(wanted.policy)?;
    if !(least..=most).contains(&wanted.priority) || wanted.policy == SCHED_DEADLINE {
        return Err(Errno::EINVAL);
    }
    let task = cx.kernel.task(target)?;
    let old = task.settings.schedule;
    if !cx.task()?.credentials.has(CAP_SYS_NICE) {
        let limit = cx.kernel.process(task.pid)?.limits.0[libc::RLIMIT_RTPRIO as usize].0;
        let may_realtime =
            limit != 0 || (old.policy == wanted.policy && wanted.priority <= old.priority);
        let is_too_high = wanted.priority > old.priority && wanted.priority as u64 > limit;
        let leaves_idle = old.policy == libc::SCHED_IDLE
            && wanted.policy != libc::SCHED_IDLE
            && !may_nice(cx, task, old.nice.min(19))?;
        let refused = (is_realtime(wanted.policy) && (!may_realtime || is_too_high))
            || leaves_idle
            || (wanted.nice < old.nice && !may_nice(cx, task, wanted.nice)?)
            || !may_schedule(cx, task)?
            || (old.resets && !wanted.resets);
        if refused {
            return Err(Errno::EPERM);
        }
    }
    if wanted.nice != old.nice {
        set_nice(cx, target, wanted.nice)?;
    }
    cx.kernel.task_mut(target)?.settings.schedule = wanted;
    DONE
}

const ATTR_SIZE_FIRST: usize = 48;
const ATTR_SIZE: usize = 56;

pub fn sched_getattr(cx: &mut Cx<'_>, tid: i32, attr: Address, size: u32, flags: u32) -> SysResult {
    let size = size as usize;
    if attr.is_null() || tid < 0 || flags != 0 || !(ATTR_SIZE_FIRST..=4096).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let schedule = cx.kernel.task(thread(cx, tid)?)?.settings.schedule;
    let len = size.min(ATTR_SIZE);
    let nice = if is_realtime(schedule.policy) {
        0
    } else {
        schedule.nice
    };
    let mut bytes = (len as u32).to_le_bytes().to_vec();
    bytes.extend(schedule.policy.to_le_bytes());
    bytes.extend(u64::from(schedule.resets).to_le_bytes());
    bytes.extend(nice.to_le_bytes());
    bytes.extend(schedule.priority.to_le_bytes());
    bytes.resize(48, 0);
    bytes.extend([0_u32, 1024].iter().flat_map(|clamp| clamp.to_le_bytes()));
    bytes.truncate(len);
    cx.memory().write(attr, &bytes)?;
    DONE
}

pub fn sched_setattr(cx: &mut Cx<'_>, tid: i32, attr: Address, flags: u32) -> SysResult {
    const RESET: u64 = 1;
    const KEEP_POLICY: u64 = 8;
    const KEEP_PARAMS: u64 = 16;
    if attr.is_null() || tid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let size = match cx.memory().read_u32(attr)? as usize {
        0 => ATTR_SIZE_FIRST,
        size => size,
    };
    if !(ATTR_SIZE_FIRST..=4096).contains(&size) {
        cx.memory().write_u32(attr, ATTR_SIZE as u32)?;
        return Err(Errno::E2BIG);
    }
    let bytes = cx.memory().read_vec(attr, size)?;
    if bytes.iter().skip(ATTR_SIZE).any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let asked = u64::from(half(&bytes, 8)) | u64::from(half(&bytes, 12)) << 32;
    if asked & !0x7F != 0 {
        return Err(Errno::EINVAL);
    }
    // Deadlines are the machine's to promise. Linux: __checkparam_dl(), user_check_sched_setscheduler().
    let [runtime, deadline, period] = [24, 32, 40].map(|at| word(&bytes, at));
    if half(&bytes, 4).cast_signed() == SCHED_DEADLINE && asked & KEEP_POLICY == 0 {
        let is_legal =
            runtime >= 1024 && runtime <= deadline && (period == 0 || deadline <= period);
        return Err(if is_legal {
            Errno::EPERM
        } else {
            Errno::EINVAL
        });
    }
    let target = thread(cx, tid)?;
    let old = cx.kernel.task(target)?.settings.schedule;
    let policy = if asked & KEEP_POLICY != 0 {
        old.policy
    } else {
        half(&bytes, 4).cast_signed()
    };
    let keeps = asked & KEEP_PARAMS != 0;
    let nice = half(&bytes, 16).cast_signed();
    let wanted = Schedule {
        policy,
        priority: if keeps {
            old.priority
        } else {
            half(&bytes, 20).cast_signed()
        },
        nice: if keeps || is_realtime(policy) {
            old.nice
        } else {
            nice.clamp(-20, 19)
        },
        resets: asked & RESET != 0,
    };
    change(cx, target, wanted)
}

pub fn sched_rr_get_interval(cx: &mut Cx<'_>, tid: i32, interval: Address) -> SysResult {
    let policy = cx.kernel.task(thread(cx, tid)?)?.settings.schedule.policy;
    let nanoseconds = match policy {
        libc::SCHED_FIFO => 0,
        libc::SCHED_RR => RR_INTERVAL_NS,
        _ => FAIR_INTERVAL_NS,
    };
    super::time::write_timespec(cx, interval, std::time::Duration::from_nanos(nanoseconds))?;
    DONE
}

pub fn sched_getaffinity(cx: &mut Cx<'_>, tid: i32, len: u32, mask: Address) -> SysResult {
    let task = cx.kernel.task(thread(cx, tid).map_err(|_| Errno::ESRCH)?)?;
    let cpus = if task.settings.cpus.is_empty() {
        &cx.kernel.machine.cpus
    } else {
        &task.settings.cpus
    };
    let bits = crate::vfs::proc::controls::possible(cx.kernel);
    let len = len as usize;
    if len * 8 < bits || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0_u8; len.min(cx.kernel.machine.mask_bytes)];
    for cpu in cpus {
        if let Some(byte) = bytes.get_mut(cpu / 8) {
            *byte |= 1 << (cpu % 8);
        }
    }
    cx.memory().write(mask, &bytes)?;
    value(bytes.len())
}

pub fn sched_setaffinity(cx: &mut Cx<'_>, tid: i32, len: u32, mask: Address) -> SysResult {
    // Bits beyond the machine's are not looked at, nor read.
    let bytes = cx.memory().read_vec(mask, (len as usize).min(MASK_MAX))?;
    let target = thread(cx, tid).map_err(|_| Errno::ESRCH)?;
    if !may_schedule(cx, cx.kernel.task(target)?)? {
        return Err(Errno::EPERM);
    }
    let has = |cpu: &usize| {
        bytes
            .get(cpu / 8)
            .is_some_and(|byte| byte >> (cpu % 8) & 1 == 1)
    };
    let cpus: Vec<usize> = cx.kernel.machine.cpus.iter().copied().filter(has).collect();
    if cpus.is_empty() {
        return Err(Errno::EINVAL);
    }
    cx.kernel.task_mut(target)?.settings.cpus = cpus;
    // Whatever the mask says by then: it is of a thread of the sandbox, in whose pid namespace the caller is, and of processors that it has anyway.
    Ok(Outcome::Native)
}

/// Where the caller runs is the host's to say.
pub fn getcpu(_cx: &mut Cx<'_>, _cpu: Address, _node: Address, _cache: Address) -> SysResult {
    Ok(Outcome::Native)
}
