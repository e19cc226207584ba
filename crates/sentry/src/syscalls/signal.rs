//! Signals: dispositions, masks, sending, waiting.

use std::time::Duration;

use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::signals::{Action, Info, LAST, SI_TKILL, SI_USER, SIGKILL, SIGSTOP, Set};
use crate::kernel::task::{Process, Restart};
use crate::memory::{Address, word};

const SET_SIZE: usize = 8;

fn set_at(cx: &Cx<'_>, at: Address, size: usize) -> Result<Set> {
    if size != SET_SIZE {
        return Err(Errno::EINVAL);
    }
    cx.memory().read_u64(at).map(Set)
}

pub fn rt_sigaction(
    cx: &mut Cx<'_>,
    signum: i32,
    act: Address,
    oldact: Address,
    size: usize,
) -> SysResult {
    if size != SET_SIZE || !(1..=LAST).contains(&signum) {
        return Err(Errno::EINVAL);
    }
    let old = cx.process()?.actions.lock().get(signum);
    if !act.is_null() {
        if signum == SIGKILL || signum == SIGSTOP {
            return Err(Errno::EINVAL);
        }
        let bytes = cx.memory().read_vec(act, 32)?;
        let action = Action {
            handler: word(&bytes, 0),
            flags: word(&bytes, 8),
            restorer: word(&bytes, 16),
            mask: Set(word(&bytes, 24)).as_mask(),
        };
        cx.process()?.actions.lock().set(signum, action);
        cx.kernel.discard_ignored(cx.call.tid, signum);
    }
    if !oldact.is_null() {
        let bytes: Vec<u8> = [old.handler, old.flags, old.restorer, old.mask.0]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        cx.memory().write(oldact, &bytes)?;
    }
    DONE
}

pub fn rt_sigprocmask(
    cx: &mut Cx<'_>,
    how: i32,
    set: Address,
    oldset: Address,
    size: usize,
) -> SysResult {
    if size != SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let old = cx.task()?.mask;
    if !set.is_null() {
        let set = set_at(cx, set, size)?;
        let new = match how {
            libc::SIG_BLOCK => old.union(set),
            libc::SIG_UNBLOCK => old.without(set),
            libc::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        cx.task_mut()?.mask = new.as_mask();
    }
    if !oldset.is_null() {
        cx.memory().write_u64(oldset, old.0)?;
    }
    let tid = cx.tid();
    cx.kernel.take_unblocked(tid)
}

/// The stub's frame is left: the host's kernel restores registers from it.
pub fn rt_sigreturn(cx: &mut Cx<'_>) -> SysResult {
    let call = cx.call;
    if cx.kernel.return_from_frame(&call).is_err() {
        let pid = cx.task()?.pid;
        cx.kernel.terminate(pid, libc::SIGSEGV | 0x80);
        return Ok(Outcome::Gone);
    }
    Ok(Outcome::Native)
}

/// The alternate stack is the host's to keep: its frames are built there.
pub fn sigaltstack(cx: &mut Cx<'_>, stack: Address, _old: Address) -> SysResult {
    if !stack.is_null() {
        let bytes = cx.memory().read_vec(stack, 24)?;
        cx.task_mut()?.alternate_stack = (word(&bytes, 0), word(&bytes, 16));
    }
    Ok(Outcome::Native)
}

pub fn rt_sigpending(cx: &mut Cx<'_>, set: Address, size: usize) -> SysResult {
    if size > SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let task = cx.task()?;
    let pending = task.pending.set.union(cx.process()?.pending.set).0 & task.mask.0;
    cx.memory().write(set, &pending.to_le_bytes()[..size])?;
    DONE
}

pub fn pause(cx: &mut Cx<'_>) -> SysResult {
    let ticket = cx.ticket()?;
    cx.wait(ticket, None, Restart::WithoutHandler, 0)
}

pub fn rt_sigsuspend(cx: &mut Cx<'_>, mask: Address, size: usize) -> SysResult {
    if cx.task()?.saved_mask.is_none() {
        let mask = set_at(cx, mask, size)?;
        if cx.change_mask(mask)? == Outcome::Gone {
            return Ok(Outcome::Gone);
        }
    }
    let ticket = cx.ticket()?;
    cx.wait(ticket, None, Restart::WithoutHandler, 0)
}

pub fn rt_sigtimedwait(
    cx: &mut Cx<'_>,
    set: Address,
    info: Address,
    timeout: Address,
    size: usize,
) -> SysResult {
    let set = set_at(cx, set, size)?.as_mask();
    let limit = if timeout.is_null() {
        None
    } else {
        Some(super::time::read_timespec(cx, timeout)?)
    };
    let queue = cx.process()?.signal_queue.clone();
    let ticket = cx.ticket()?;
    queue.add(ticket);
    let tid = cx.tid();
    if let Some(found) = cx.kernel.take_signal(tid, set)? {
        if !info.is_null() {
            cx.memory().write(info, &found.to_bytes())?;
        }
        return value(found.signal);
    }
    if limit == Some(Duration::ZERO) || cx.has_timed_out() {
        return Err(Errno::EAGAIN);
    }
    let deadline = cx.deadline(limit);
    cx.wait(ticket, deadline, Restart::Never, 0)
}

/// What the host's kernel has an interrupted call do; none of the programs' is.
pub fn restart_syscall(_cx: &mut Cx<'_>) -> SysResult {
    Err(Errno::EINTR)
}

pub fn checked(signal: i32) -> Result<i32> {
    if (0..=LAST).contains(&signal) {
        Ok(signal)
    } else {
        Err(Errno::EINVAL)
    }
}

pub fn kill(cx: &mut Cx<'_>, pid: i32, signal: i32) -> SysResult {
    let signal = checked(signal)?;
    let own = cx.process()?;
    let (own_pid, own_group) = (own.pid, own.group);
    let uid = cx.task()?.credentials.uid;
    let is_meant = |process: &Process| match pid {
        0 => process.group == own_group,
        -1 => process.pid != 1 && process.pid != own_pid,
        group if group < -1 => process.group == group.wrapping_neg(),
        pid => process.pid == pid,
    };
    let info = Info::from_sender(signal, SI_USER, own_pid, uid);
    signal_each(cx, is_meant, &info)
}

/// Signals each process that is meant. `ESRCH` there is none; `EPERM` it may signal none of them.
pub fn signal_each(cx: &mut Cx<'_>, is_meant: impl Fn(&Process) -> bool, info: &Info) -> SysResult {
    let own_pid = cx.task()?.pid;
    let targets: Vec<i32> = cx
        .kernel
        .processes
        .values()
        .filter(|process| is_meant(process))
        .map(|process| process.pid)
        .collect();
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    let who = cx.task()?.credentials.clone();
    let allowed: Vec<i32> = targets
        .into_iter()
        .filter(|target| cx.kernel.may_signal(&who, own_pid, *target, info.signal))
        .collect();
    if allowed.is_empty() {
        return Err(Errno::EPERM);
    }
    let mut ended = false;
    for target in allowed {
        if info.signal != 0 {
            cx.kernel.send_to_process(target, info.clone());
            ended |= target == own_pid && cx.task().is_err();
        }
    }
    if ended { Ok(Outcome::Gone) } else { DONE }
}

pub fn tkill(cx: &mut Cx<'_>, tid: i32, signal: i32) -> SysResult {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    signal_thread(cx, None, tid, signal)
}

pub fn tgkill(cx: &mut Cx<'_>, pid: i32, tid: i32, signal: i32) -> SysResult {
    if tid <= 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    signal_thread(cx, Some(pid), tid, signal)
}

fn signal_thread(cx: &mut Cx<'_>, pid: Option<i32>, tid: i32, signal: i32) -> SysResult {
    let host = find_target(cx, pid, tid, signal)?;
    let task = cx.task()?;
    let info = Info::from_sender(signal, SI_TKILL, task.pid, task.credentials.uid);
    // Linux: do_send_specific(): only this way can a real-time signal of tkill be refused.
    let queued = signal == 0 || cx.kernel.send_to_thread(host, info);
    super::signal_send::sent(cx, queued)
}

/// The thread (native id) that a signal is for, if the caller may send it.
pub fn find_target(cx: &Cx<'_>, pid: Option<i32>, tid: i32, signal: i32) -> Result<i32> {
    let signal = checked(signal)?;
    let who = cx.task()?.credentials.clone();
    let own_pid = cx.task()?.pid;
    let host = cx.kernel.find_thread(tid).ok_or(Errno::ESRCH)?;
    let target = cx.kernel.task(host)?.pid;
    if pid.is_some_and(|pid| pid != target) {
        return Err(Errno::ESRCH);
    }
    if target != own_pid && !cx.kernel.may_signal(&who, own_pid, target, signal) {
        return Err(Errno::EPERM);
    }
    Ok(host)
}
