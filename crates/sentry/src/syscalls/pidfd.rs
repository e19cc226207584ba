//! Descriptors of processes. pidfd_open(2).

use std::sync::Arc;

use super::arguments::Flags;
use super::signal::checked;
use super::signal_send::{read_info, sent};
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::CAP_SYS_PTRACE;
use crate::kernel::signals::{Info, SI_USER};
use crate::memory::Address;
use crate::vfs::description::Description;
use crate::vfs::pidfd::PidFd;
use crate::vfs::place::Place;
use crate::vfs::proc::{ProcNode, Who};

/// The process that a descriptor stands for. `EBADF` it stands for none; `ESRCH` the process has been waited for.
fn process_behind(cx: &Cx<'_>, fd: i32) -> Result<i32> {
    let description = cx.open_description(fd)?;
    let file = description.file.as_any().downcast_ref::<PidFd>();
    file.ok_or(Errno::EBADF)?.pid(cx.kernel).ok_or(Errno::ESRCH)
}

/// As `process_behind`, for waitid(2): nobody waits for what has been waited for. Also whether to wait at all.
pub fn to_wait_for(cx: &Cx<'_>, fd: i32) -> Result<(i32, bool)> {
    let pid = process_behind(cx, fd).map_err(|error| match error {
        Errno::ESRCH => Errno::ECHILD,
        other => other,
    })?;
    Ok((pid, cx.description(fd)?.is_nonblocking()))
}

/// The process that a signal through `fd` is for: a directory of /proc will do as well, which stands for whatever process has that number now.
fn target_of(cx: &Cx<'_>, fd: i32) -> Result<i32> {
    match cx.open_description(fd)?.file.place() {
        Some(Place::Proc(ProcNode::Process(Who { pid, thread: None }))) => {
            cx.kernel.process(*pid).map(|process| process.pid)
        }
        _ => process_behind(cx, fd),
    }
}

pub fn pidfd_open(cx: &mut Cx<'_>, pid: i32, flags: Flags) -> SysResult {
    flags.only(libc::O_NONBLOCK)?;
    if pid <= 0 {
        return Err(Errno::EINVAL);
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
    let file = Arc::new(PidFd::new(pid, process.end.clone()));
    let kept = libc::O_RDWR.cast_unsigned() | flags.0;
    value(cx.add_description(Description::new(file, kept), true)?)
}

pub fn pidfd_send_signal(
    cx: &mut Cx<'_>,
    fd: i32,
    signal: i32,
    info: Address,
    flags: Flags,
) -> SysResult {
    flags.only(0)?;
    let target = target_of(cx, fd)?;
    let (own, who) = (cx.task()?.pid, cx.task()?.credentials.clone());
    let info = if info.is_null() {
        Info::from_sender(signal, SI_USER, own, who.uid)
    } else {
        // Linux: pidfd_send_signal(), unlike rt_sigqueueinfo(2), wants the two to agree.
        if cx.memory().read_u32(info)?.cast_signed() != signal {
            return Err(Errno::EINVAL);
        }
        read_info(cx, info, signal, target == own)?
    };
    checked(signal)?;
    if target != own && !cx.kernel.may_signal(&who, own, target, signal) {
        return Err(Errno::EPERM);
    }
    if signal == 0 {
        return DONE;
    }
    let queued = cx.kernel.send_to_process(target, info);
    sent(cx, queued)
}

pub fn pidfd_getfd(cx: &mut Cx<'_>, fd: i32, target: i32, flags: Flags) -> SysResult {
    flags.only(0)?;
    let pid = process_behind(cx, fd)?;
    let process = cx.kernel.process(pid)?;
    let task = cx.kernel.leader(process).ok_or(Errno::ESRCH)?;
    let (who, theirs) = (&cx.task()?.credentials, &task.credentials);
    // ptrace(2), "Ptrace access mode checking", PTRACE_MODE_ATTACH_REALCREDS.
    let is_same = [theirs.uid, theirs.euid, theirs.suid] == [who.uid; 3]
        && [theirs.gid, theirs.egid, theirs.sgid] == [who.gid; 3]
        && process.dumpable
        && theirs.permitted & !who.permitted == 0;
    if pid != cx.task()?.pid && !is_same && !who.has(CAP_SYS_PTRACE) {
        return Err(Errno::EPERM);
    }
    let description = task.files.lock().get(target)?;
    value(cx.add_description(description, true)?)
}
