//! seccomp(2) of the programs, inside. Filters hold for every call that comes to the sentry.

use std::sync::Arc;

use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{CAP_SYS_ADMIN, Credentials};
use crate::kernel::deliver::leaves_frame;
use crate::kernel::filters::{self, Chain, Instruction};
use crate::kernel::signals::{Info, SIG_DFL, SIG_IGN};
use crate::memory::{Address, half, word};

const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const GET_NOTIF_SIZES: u32 = 3;
const TSYNC: u64 = 1;
const LOG: u64 = 2;
const SPEC_ALLOW: u64 = 4;
const TSYNC_ESRCH: u64 = 16;
const SIGSYS: i32 = 31;
const SYS_SECCOMP: i32 = 1;

pub fn seccomp(cx: &mut Cx<'_>, operation: u32, flags: u64, arguments: Address) -> SysResult {
    match operation {
        SET_MODE_STRICT if flags != 0 || !arguments.is_null() => Err(Errno::EINVAL),
        // The two modes exclude each other. Linux: seccomp_may_assign_mode().
        SET_MODE_STRICT if cx.task()?.credentials.filters.is_some() => Err(Errno::EINVAL),
        SET_MODE_STRICT => install(cx, strict(), 0),
        SET_MODE_FILTER => {
            if flags & !(TSYNC | LOG | SPEC_ALLOW | TSYNC_ESRCH) != 0 {
                return Err(Errno::EINVAL);
            }
            let program = read_program(cx, arguments)?;
            install(cx, program, flags)
        }
        GET_ACTION_AVAIL if flags != 0 => Err(Errno::EINVAL),
        GET_ACTION_AVAIL => {
            let action = cx.memory().read_u32(arguments)?;
            let known = [
                filters::KILL_PROCESS,
                filters::KILL_THREAD,
                filters::TRAP,
                filters::ERRNO,
                filters::TRACE,
                filters::LOG,
                filters::ALLOW,
            ];
            if known.contains(&action) {
                DONE
            } else {
                Err(Errno::EOPNOTSUPP)
            }
        }
        GET_NOTIF_SIZES if flags != 0 => Err(Errno::EINVAL),
        GET_NOTIF_SIZES => {
            // struct seccomp_notif, seccomp_notif_resp, seccomp_data.
            let sizes: Vec<u8> = [80_u16, 24, 64]
                .into_iter()
                .flat_map(u16::to_le_bytes)
                .collect();
            cx.memory().write(arguments, &sizes)?;
            DONE
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Strict mode as a filter: read, write, exit, rt_sigreturn; anything else kills the thread.
fn strict() -> Vec<Instruction> {
    let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
    vec![
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 4, 0, 0),
        instruction(0x15, 3, 0, 1),
        instruction(0x15, 2, 0, 60),
        instruction(0x15, 1, 0, 15),
        instruction(0x06, 0, 0, filters::KILL_THREAD),
        instruction(0x06, 0, 0, filters::ALLOW),
    ]
}

/// `struct sock_fprog`: a length, and where the instructions are.
fn read_program(cx: &Cx<'_>, at: Address) -> Result<Vec<Instruction>> {
    let header = cx.memory().read_vec(at, 16)?;
    let len = (word(&header, 0) & 0xFFFF) as usize;
    if len == 0 || len > filters::MOST_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let bytes = cx.memory().read_vec(Address(word(&header, 8)), 8 * len)?;
    let instructions = bytes.chunks_exact(8).map(|raw| Instruction {
        code: half(raw, 0) as u16,
        jt: raw[2],
        jf: raw[3],
        k: half(raw, 4),
    });
    Ok(instructions.collect())
}

fn install(cx: &mut Cx<'_>, program: Vec<Instruction>, flags: u64) -> SysResult {
    let who = cx.task()?.credentials.clone();
    if !who.no_new_privs && !who.has(CAP_SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    let chain = Arc::new(Chain::new(program, who.filters.clone())?);
    if flags & TSYNC == 0 {
        return put(cx, cx.tid(), &chain);
    }
    let threads = cx.process()?.threads.clone();
    for tid in &threads {
        let task = cx.kernel.task(*tid)?;
        if let Some(other) = &task.credentials.filters
            && !chain.is_above(Some(other))
        {
            return if flags & TSYNC_ESRCH != 0 {
                Err(Errno::ESRCH)
            } else {
                value(task.tid)
            };
        }
    }
    for tid in threads {
        put(cx, tid, &chain)?;
    }
    DONE
}

fn put(cx: &mut Cx<'_>, tid: i32, chain: &Arc<Chain>) -> SysResult {
    let own = cx.task()?.credentials.no_new_privs;
    let task = cx.kernel.task_mut(tid)?;
    let new = Credentials {
        filters: Some(chain.clone()),
        no_new_privs: own || task.credentials.no_new_privs,
        ..(*task.credentials).clone()
    };
    task.credentials = Arc::new(new);
    // A clone that older filters let through is not to be made again.
    task.recloning = None;
    // From now on each call of its is asked about.
    cx.kernel.cut_lines(tid);
    cx.kernel.ids_changed(tid);
    cx.kernel.stub_may_not_clone(tid);
    DONE
}

/// Asks the caller's filters about its call. `None`: go on.
pub fn judge(cx: &mut Cx<'_>) -> Result<Option<Outcome>> {
    let task = cx.task()?;
    let Some(chain) = task.credentials.filters.clone() else {
        return Ok(None);
    };
    let call = &cx.call;
    if task.image.is_some()
        || cx.kernel.remade(call).is_some()
        || cx.kernel.is_of_plan(call)
        || cx.kernel.switches_traps(call)
        || leaves_frame(call)
    {
        // Loading a program is ours, once its execve was let through; so is a clone in place of one that was, and what the stub does on frames of its own.
        return Ok(None);
    }
    let data = filters::data_of(cx.call.nr, cx.call.ip, &cx.call.args);
    let answer = chain.evaluate(&data);
    match answer & filters::ACTION {
        filters::ALLOW | filters::LOG => Ok(None),
        filters::ERRNO => {
            // Linux: MAX_ERRNO; an errno of 0 answers 0.
            let errno = i64::from((answer & 0xFFFF).min(4095));
            Ok(Some(Outcome::Value(-errno)))
        }
        filters::TRAP => trap(cx, (answer & 0xFFFF) as i32).map(Some),
        // Nobody listens and nobody traces.
        filters::TRACE | filters::USER_NOTIF => Err(Errno::ENOSYS),
        // One thread alone is not killed here, but its process.
        _ => {
            const CORE_DUMPED: i32 = 0x80;
            let pid = cx.task()?.pid;
            let dumps = cx.process()?.dumpable && cx.process()?.limits.0[4].0 > 0;
            cx.kernel
                .terminate(pid, SIGSYS | if dumps { CORE_DUMPED } else { 0 });
            Ok(Some(Outcome::Gone))
        }
    }
}

/// A forced SIGSYS: blocked or ignored, it kills.
fn trap(cx: &mut Cx<'_>, data: i32) -> Result<Outcome> {
    let tid = cx.tid();
    let (pid, is_blocked) = {
        let task = cx.task()?;
        (task.pid, task.mask.has(SIGSYS))
    };
    let handler = cx.process()?.actions.lock().get(SIGSYS).handler;
    if is_blocked || handler == SIG_IGN || handler == SIG_DFL {
        cx.kernel.terminate(pid, SIGSYS);
        return Ok(Outcome::Gone);
    }
    let mut info = Info::new(SIGSYS, SYS_SECCOMP);
    info.errno = data;
    info.fields[..8].copy_from_slice(&cx.call.ip.to_le_bytes());
    info.fields[8..12].copy_from_slice(&cx.call.nr.to_le_bytes());
    info.fields[12..16].copy_from_slice(&0xC000_003E_u32.to_le_bytes());
    cx.kernel.send_to_thread(tid, info);
    // The registers stay as they were: the call's number is its result.
    Ok(Outcome::Value(i64::from(cx.call.nr)))
}
