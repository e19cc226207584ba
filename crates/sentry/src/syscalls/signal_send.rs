//! Sending signals with a value: sigqueue(3).

use super::signal::{checked, find_target};
use super::{Cx, DONE, Outcome, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::signals::{Info, SI_TKILL};
use crate::memory::Address;

/// A siginfo that the program made up, for the signal of the call. EPERM where it could pass for the kernel's or kill(2)'s, except to oneself.
pub fn read_info(cx: &Cx<'_>, at: Address, signal: i32, is_own: bool) -> Result<Info> {
    let mut bytes = [0; 128];
    cx.memory().read(at, &mut bytes)?;
    let mut info = Info::from_bytes(&bytes);
    // Linux: do_rt_sigqueueinfo().
    if (info.code >= 0 || info.code == SI_TKILL) && !is_own {
        return Err(Errno::EPERM);
    }
    info.signal = signal;
    Ok(info)
}

pub fn rt_sigqueueinfo(cx: &mut Cx<'_>, pid: i32, signal: i32, info: Address) -> SysResult {
    let own = cx.task()?.pid;
    let info = read_info(cx, info, signal, pid == own)?;
    checked(signal)?;
    if cx.kernel.process(pid).is_err() {
        return Err(Errno::ESRCH);
    }
    let who = cx.task()?.credentials.clone();
    if pid != own && !cx.kernel.may_signal(&who, own, pid, signal) {
        return Err(Errno::EPERM);
    }
    if signal == 0 {
        return DONE;
    }
    let queued = cx.kernel.send_to_process(pid, info);
    sent(cx, queued)
}

pub fn rt_tgsigqueueinfo(
    cx: &mut Cx<'_>,
    pid: i32,
    tid: i32,
    signal: i32,
    info: Address,
) -> SysResult {
    if pid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let own = cx.task()?.pid;
    let info = read_info(cx, info, signal, pid == own)?;
    let target = find_target(cx, Some(pid), tid, signal)?;
    if signal == 0 {
        return DONE;
    }
    let queued = cx.kernel.send_to_thread(target, info);
    sent(cx, queued)
}

/// `EAGAIN` the queue is full.
pub fn sent(cx: &Cx<'_>, queued: bool) -> SysResult {
    if cx.task().is_err() {
        Ok(Outcome::Gone)
    } else if queued {
        DONE
    } else {
        Err(Errno::EAGAIN)
    }
}
