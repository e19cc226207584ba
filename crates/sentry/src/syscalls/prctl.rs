//! prctl(2)'s rarer options: capabilities, timers, machine checks, and what the host answers for the caller's own thread.

use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::Errno;
use crate::kernel::credentials::{CAP_SETPCAP, CAP_SYS_RESOURCE, Credentials};
use crate::memory::Address;
use crate::vfs::proc::settings::DEFAULT_TIMER_SLACK_NS;

const LAST_CAPABILITY: u64 = 40;
const KEEP_CAPS: u32 = 1 << 4;
const KEEP_CAPS_LOCKED: u32 = 1 << 5;
const NO_AMBIENT_RAISE: u32 = 1 << 6;
const ALL_SECUREBITS: u32 = 0xFF;
/// Bits that lock the bit below them: the odd ones.
const LOCKS: u32 = 0xAA;
const PR_SET_IO_FLUSHER: i32 = 57;
const PR_GET_IO_FLUSHER: i32 = 58;
const PR_GET_AUXV: i32 = 0x4155_5856;

pub fn other(cx: &mut Cx<'_>, option: i32, arguments: [u64; 4]) -> SysResult {
    let [a, b, c, d] = arguments;
    match option {
        // The caller's own thread or memory, which the host keeps.
        libc::PR_SET_THP_DISABLE
        | libc::PR_GET_THP_DISABLE
        | libc::PR_GET_TSC
        | libc::PR_SET_TSC => Ok(Outcome::Native),
        libc::PR_GET_TID_ADDRESS
        | libc::PR_GET_SPECULATION_CTRL
        | libc::PR_SET_SPECULATION_CTRL => Ok(Outcome::Native),
        libc::PR_GET_TIMING
        | libc::PR_TASK_PERF_EVENTS_DISABLE
        | libc::PR_TASK_PERF_EVENTS_ENABLE => DONE,
        libc::PR_SET_TIMING if a == 0 => DONE,
        libc::PR_GET_SECCOMP => DONE,
        libc::PR_GET_KEEPCAPS => value(i32::from(cx.task()?.credentials.keep_capabilities)),
        libc::PR_SET_KEEPCAPS => set_keep(cx, a),
        libc::PR_CAPBSET_DROP => drop_bounding(cx, a),
        libc::PR_GET_SECUREBITS => value(securebits(cx)?),
        libc::PR_SET_SECUREBITS => set_securebits(cx, a),
        libc::PR_CAP_AMBIENT => ambient(cx, a, b, c | d),
        libc::PR_GET_TIMERSLACK => value(
            cx.task()?
                .settings
                .timer_slack_ns
                .unwrap_or(DEFAULT_TIMER_SLACK_NS),
        ),
        libc::PR_SET_TIMERSLACK => {
            cx.task_mut()?.settings.timer_slack_ns = (a.cast_signed() > 0).then_some(a);
            DONE
        }
        libc::PR_MCE_KILL => machine_check(cx, a, b, c | d),
        libc::PR_MCE_KILL_GET if a | b | c | d == 0 => {
            // PR_MCE_KILL_LATE 0, EARLY 1, DEFAULT 2: kept with the default as 0.
            value((cx.task()?.settings.machine_check + 2) % 3)
        }
        libc::PR_SET_MM | PR_SET_IO_FLUSHER | PR_GET_IO_FLUSHER
            if !cx.task()?.credentials.has(CAP_SYS_RESOURCE) =>
        {
            Err(Errno::EPERM)
        }
        PR_GET_AUXV if c | d == 0 => {
            let vector = cx.process()?.settings.auxiliary.clone();
            let len = vector.len().min(b as usize);
            cx.memory().write(Address(a), &vector[..len])?;
            value(vector.len())
        }
        _ => Err(Errno::EINVAL),
    }
}

fn change(cx: &mut Cx<'_>, change: impl FnOnce(&mut Credentials)) -> SysResult {
    let mut who = (*cx.task()?.credentials).clone();
    change(&mut who);
    cx.task_mut()?.credentials = std::sync::Arc::new(who);
    DONE
}

fn set_keep(cx: &mut Cx<'_>, value: u64) -> SysResult {
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    if cx.task()?.settings.securebits & KEEP_CAPS_LOCKED != 0 {
        return Err(Errno::EPERM);
    }
    change(cx, |who| who.keep_capabilities = value == 1)
}

fn drop_bounding(cx: &mut Cx<'_>, capability: u64) -> SysResult {
    if !cx.task()?.credentials.has(CAP_SETPCAP) {
        return Err(Errno::EPERM);
    }
    if capability > LAST_CAPABILITY {
        return Err(Errno::EINVAL);
    }
    change(cx, |who| who.bounding &= !(1 << capability))
}

fn securebits(cx: &Cx<'_>) -> crate::errno::Result<u32> {
    let task = cx.task()?;
    let keeps = if task.credentials.keep_capabilities {
        KEEP_CAPS
    } else {
        0
    };
    Ok((task.settings.securebits & !KEEP_CAPS) | keeps)
}

/// Linux: security/commoncap.c cap_task_prctl().
fn set_securebits(cx: &mut Cx<'_>, wanted: u64) -> SysResult {
    let old = securebits(cx)?;
    let bits = u32::try_from(wanted).unwrap_or(u32::MAX);
    let changed_under_lock = ((old & LOCKS) >> 1) & (old ^ bits);
    let unlocked = old & LOCKS & !bits;
    let is_refused = changed_under_lock != 0
        || unlocked != 0
        || bits & !ALL_SECUREBITS != 0
        || !cx.task()?.credentials.has(CAP_SETPCAP);
    if is_refused {
        return Err(Errno::EPERM);
    }
    cx.task_mut()?.settings.securebits = bits;
    change(cx, |who| who.keep_capabilities = bits & KEEP_CAPS != 0)
}

fn ambient(cx: &mut Cx<'_>, operation: u64, capability: u64, rest: u64) -> SysResult {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    if operation == CLEAR_ALL {
        if capability | rest != 0 {
            return Err(Errno::EINVAL);
        }
        return change(cx, |who| who.ambient = 0);
    }
    if rest != 0 || capability > LAST_CAPABILITY {
        return Err(Errno::EINVAL);
    }
    let bit = 1 << capability;
    let who = &cx.task()?.credentials;
    match operation {
        IS_SET => value(u64::from(who.ambient & bit != 0)),
        RAISE => {
            let may = who.permitted & who.inheritable & bit != 0;
            if !may || cx.task()?.settings.securebits & NO_AMBIENT_RAISE != 0 {
                return Err(Errno::EPERM);
            }
            change(cx, |who| who.ambient |= bit)
        }
        LOWER => change(cx, |who| who.ambient &= !bit),
        _ => Err(Errno::EINVAL),
    }
}

fn machine_check(cx: &mut Cx<'_>, operation: u64, policy: u64, rest: u64) -> SysResult {
    let kept = match (operation, policy, rest) {
        (0, 0, 0) => 0,
        (1, policy @ 0..=2, 0) => ((policy + 1) % 3) as i32,
        _ => return Err(Errno::EINVAL),
    };
    cx.task_mut()?.settings.machine_check = kept;
    DONE
}
