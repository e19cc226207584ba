//! Descriptors of processes and threads. pidfd_open(2).

use std::sync::Arc;

use super::arguments::Flags;
use super::signal::{checked, signal_each};
use super::signal_send::{read_info, sent};
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::CAP_SYS_PTRACE;
use crate::kernel::signals::{Info, SI_TKILL, SI_USER};
use crate::memory::Address;
use crate::vfs::description::Description;
use crate::vfs::pidfd::{PidFd, THREAD, Target};
use crate::vfs::place::Place;
use crate::vfs::proc::{ProcNode, Who};

/// PIDFD_SIGNAL_*: whom a signal is for, whatever the descriptor stands for.
const SIGNAL_THREAD: i32 = 1;
const SIGNAL_THREAD_GROUP: i32 = 2;
const SIGNAL_PROCESS_GROUP: i32 = 4;

/// Whom a descriptor stands for. `EBADF` nobody; `ESRCH` who is gone.
fn behind(cx: &Cx<'_>, fd: i32) -> Result<Target> {
    let description = cx.open_description(fd)?;
    let file = description.file.downcast_ref::<PidFd>();
    let file = file.ok_or(Errno::EBADF)?;
    file.target(cx.kernel).ok_or(Errno::ESRCH)
}

/// As `behind`, for waitid(2): nobody waits for what has been waited for, nor for a thread. Also whether to wait at all.
pub fn to_wait_for(cx: &Cx<'_>, fd: i32) -> Result<(i32, bool)> {
    match behind(cx, fd) {
        Ok(Target::Process(pid)) => Ok((pid, cx.description(fd)?.is_nonblocking())),
        Ok(Target::Thread(_)) | Err(Errno::ESRCH) => Err(Errno::ECHILD),
        Err(error) => Err(error),
    }
}

/// Whom a signal through `fd` is for: a directory of /proc will do as well, which stands for whatever process has that number now.
fn target_of(cx: &Cx<'_>, fd: i32) -> Result<Target> {
    match cx.open_description(fd)?.file.place() {
        Some(Place::Proc(ProcNode::Process(Who { pid, thread: None }))) => {
            let process = cx.kernel.process(*pid)?;
            Ok(Target::Process(process.pid))
        }
        _ => behind(cx, fd),
    }
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Process(i32),
    /// By its native number.
    Thread(i32),
    Group(i32),
}

/// What the flags make of a descriptor's target: itself, the first thread of its process, its process, the group of that number.
fn scope_of(cx: &Cx<'_>, target: Target, flags: Flags) -> Result<Scope> {
    let (pid, tid) = match target {
        Target::Process(pid) => (pid, cx.kernel.process(pid)?.host_pid),
        Target::Thread(tid) => (cx.kernel.task(tid)?.pid, tid),
    };
    Ok(match (flags.0.cast_signed(), target) {
        (SIGNAL_THREAD, _) | (0, Target::Thread(_)) => Scope::Thread(tid),
        (SIGNAL_PROCESS_GROUP, Target::Thread(tid)) => Scope::Group(cx.kernel.task(tid)?.tid),
        (SIGNAL_PROCESS_GROUP, Target::Process(pid)) => Scope::Group(pid),
        _ => Scope::Process(pid),
    })
}

pub fn pidfd_open(cx: &mut Cx<'_>, pid: i32, flags: Flags) -> SysResult {
    flags.only(libc::O_NONBLOCK | THREAD)?;
    if pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let kept = libc::O_RDWR.cast_unsigned() | flags.0;
    if flags.has(THREAD) {
        let file = Arc::new(PidFd::of_thread(cx.kernel, pid)?);
        return value(cx.add_description(Description::new(file, kept), true)?);
    }
    let Ok(process) = cx.kernel.process(pid) else {
        // A thread that is no process of its own.
        let is_thread = cx.kernel.find_thread(pid).is_some();
        return Err(if is_thread {
            Errno::ENOENT
        } else {
            Errno::ESRCH
        });
    };
    let file = Arc::new(PidFd::of_process(pid, process.end.clone()));
    value(cx.add_description(Description::new(file, kept), true)?)
}

pub fn pidfd_send_signal(
    cx: &mut Cx<'_>,
    fd: i32,
    signal: i32,
    info: Address,
    flags: Flags,
) -> SysResult {
    flags.only(SIGNAL_THREAD | SIGNAL_THREAD_GROUP | SIGNAL_PROCESS_GROUP)?;
    if flags.0.count_ones() > 1 {
        return Err(Errno::EINVAL);
    }
    let scope = scope_of(cx, target_of(cx, fd)?, flags)?;
    let (own, who) = (cx.task()?.pid, cx.task()?.credentials.clone());
    let info = if info.is_null() {
        let is_for_thread = matches!(scope, Scope::Thread(_));
        let code = if is_for_thread { SI_TKILL } else { SI_USER };
        Info::from_sender(signal, code, own, who.uid)
    } else {
        // Linux: pidfd_send_signal(), unlike rt_sigqueueinfo(2), wants the two to agree.
        if cx.memory().read_u32(info)?.cast_signed() != signal {
            return Err(Errno::EINVAL);
        }
        let is_own = scope == Scope::Process(own) || scope == Scope::Thread(cx.tid());
        read_info(cx, info, signal, is_own)?
    };
    checked(signal)?;
    let pid = match scope {
        Scope::Process(pid) => pid,
        Scope::Thread(tid) => cx.kernel.task(tid)?.pid,
        Scope::Group(group) => return signal_each(cx, |process| process.group == group, &info),
    };
    if pid != own && !cx.kernel.may_signal(&who, own, pid, signal) {
        return Err(Errno::EPERM);
    }
    if signal == 0 {
        return DONE;
    }
    let queued = match scope {
        Scope::Thread(tid) => cx.kernel.send_to_thread(tid, info),
        _ => cx.kernel.send_to_process(pid, info),
    };
    sent(cx, queued)
}

pub fn pidfd_getfd(cx: &mut Cx<'_>, fd: i32, target: i32, flags: Flags) -> SysResult {
    flags.only(0)?;
    let target_tid = match behind(cx, fd)? {
        Target::Process(pid) => {
            let process = cx.kernel.process(pid)?;
            cx.kernel.leader(process).ok_or(Errno::ESRCH)?.host_tid
        }
        Target::Thread(tid) => tid,
    };
    let task = cx.kernel.task(target_tid)?;
    let process = cx.kernel.process(task.pid)?;
    let (who, theirs) = (&cx.task()?.credentials, &task.credentials);
    // ptrace(2), "Ptrace access mode checking", PTRACE_MODE_ATTACH_REALCREDS.
    let is_same = [theirs.uid, theirs.euid, theirs.suid] == [who.uid; 3]
        && [theirs.gid, theirs.egid, theirs.sgid] == [who.gid; 3]
        && process.dumpable
        && theirs.permitted & !who.permitted == 0;
    if task.pid != cx.task()?.pid && !is_same && !who.has(CAP_SYS_PTRACE) {
        return Err(Errno::EPERM);
    }
    let description = task.files.lock().get(target)?;
    value(cx.add_description(description, true)?)
}
