//! prctl(2)'s rarer options: capabilities, timers, machine checks, and what the host answers for the caller's own thread.

use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::Errno;
use crate::kernel::credentials::CAP_SYS_RESOURCE;
use crate::memory::Address;
use crate::vfs::proc::settings::DEFAULT_TIMER_SLACK_NS;

const PR_SET_IO_FLUSHER: i32 = 57;
const PR_GET_SPECULATION_CTRL: i32 = 52;
const PR_SET_SPECULATION_CTRL: i32 = 53;
const PR_GET_IO_FLUSHER: i32 = 58;
const PR_GET_AUXV: i32 = 0x4155_5856;

pub fn other(cx: &mut Cx<'_>, option: i32, arguments: [u64; 4]) -> SysResult {
    let [a, b, c, d] = arguments;
    if cx.kernel.switches_traps(&cx.call) {
        return Ok(Outcome::Native);
    }
    match option {
        // The caller's own thread or memory, which the host keeps.
        libc::PR_SET_THP_DISABLE
        | libc::PR_GET_THP_DISABLE
        | libc::PR_GET_TSC
        | libc::PR_SET_TSC => Ok(Outcome::Native),
        libc::PR_GET_TID_ADDRESS | PR_GET_SPECULATION_CTRL | PR_SET_SPECULATION_CTRL => {
            Ok(Outcome::Native)
        }
        libc::PR_GET_TIMING
        | libc::PR_TASK_PERF_EVENTS_DISABLE
        | libc::PR_TASK_PERF_EVENTS_ENABLE => DONE,
        libc::PR_SET_TIMING if a == 0 => DONE,
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

fn machine_check(cx: &mut Cx<'_>, operation: u64, policy: u64, rest: u64) -> SysResult {
    let kept = match (operation, policy, rest) {
        (0, 0, 0) => 0,
        (1, policy @ 0..=2, 0) => ((policy + 1) % 3) as i32,
        _ => return Err(Errno::EINVAL),
    };
    cx.task_mut()?.settings.machine_check = kept;
    DONE
}
