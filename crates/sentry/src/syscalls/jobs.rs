//! Process groups and sessions. setpgid(2), credentials(7).

use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::task::Process;

fn named<'a>(cx: &'a Cx<'_>, pid: i32) -> Result<&'a Process> {
    if pid == 0 {
        cx.process()
    } else {
        cx.kernel.process(pid)
    }
}

pub fn setpgid(cx: &mut Cx<'_>, pid: i32, group: i32) -> SysResult {
    if pid < 0 || group < 0 {
        return Err(Errno::EINVAL);
    }
    let own = cx.process()?;
    let (own_pid, own_session) = (own.pid, own.session);
    let target = named(cx, pid)?;
    let group = if group == 0 { target.pid } else { group };
    if target.pid != own_pid {
        if target.parent != own_pid {
            return Err(Errno::ESRCH);
        }
        if target.session != own_session {
            return Err(Errno::EPERM);
        }
        if target.has_executed {
            return Err(Errno::EACCES);
        }
    }
    if target.session == target.pid {
        return Err(Errno::EPERM);
    }
    let exists = group == target.pid
        || cx
            .kernel
            .processes
            .values()
            .any(|process| process.group == group && process.session == own_session);
    if !exists {
        return Err(Errno::EPERM);
    }
    let target = target.pid;
    cx.kernel.process_mut(target)?.group = group;
    DONE
}

pub fn getpgid(cx: &mut Cx<'_>, pid: i32) -> SysResult {
    value(named(cx, pid)?.group)
}

pub fn getpgrp(cx: &mut Cx<'_>) -> SysResult {
    value(cx.process()?.group)
}

pub fn getsid(cx: &mut Cx<'_>, pid: i32) -> SysResult {
    value(named(cx, pid)?.session)
}

pub fn setsid(cx: &mut Cx<'_>) -> SysResult {
    let pid = cx.process()?.pid;
    if cx
        .kernel
        .processes
        .values()
        .any(|process| process.group == pid)
    {
        return Err(Errno::EPERM);
    }
    let process = cx.process_mut()?;
    process.group = pid;
    process.session = pid;
    process.terminal = None;
    process.hung_up_group = 0;
    value(pid)
}
