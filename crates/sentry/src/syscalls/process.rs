//! Ends of threads and processes, and waiting for them.

use super::arguments::Flags;
use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::task::{Restart, Usage};
use crate::kernel::wait::{Change, Wanted, Which};
use crate::memory::Address;

pub fn exit(cx: &mut Cx<'_>, status: i32) -> SysResult {
    let tid = cx.tid();
    cx.kernel.end_thread(tid, status);
    Ok(Outcome::Native)
}

pub fn exit_group(cx: &mut Cx<'_>, status: i32) -> SysResult {
    let pid = cx.task()?.pid;
    cx.kernel.end_process(pid, (status & 0xFF) << 8);
    Ok(Outcome::Native)
}

pub fn wait4(
    cx: &mut Cx<'_>,
    pid: i32,
    status: Address,
    options: Flags,
    rusage: Address,
) -> SysResult {
    const CLONE: i32 = 0x8000_0000_u32.cast_signed();
    const ALL: i32 = 0x4000_0000;
    const NOTHREAD: i32 = 0x2000_0000;
    options.only(libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED | CLONE | ALL | NOTHREAD)?;
    let own = cx.process()?.group;
    let which = match pid {
        -1 => Which::Any,
        0 => Which::Group(own),
        i32::MIN => return Err(Errno::ESRCH),
        group if group < 0 => Which::Group(-group),
        pid => Which::Pid(pid),
    };
    let wanted = Wanted {
        exited: true,
        stopped: options.has(libc::WUNTRACED),
        continued: options.has(libc::WCONTINUED),
        keep: false,
        clones: options.has(CLONE),
        all: options.has(ALL),
    };
    let Some(change) = find(cx, which, wanted, options)? else {
        return if options.has(libc::WNOHANG) {
            DONE
        } else {
            Ok(Outcome::Blocked)
        };
    };
    if !status.is_null() {
        cx.memory().write_i32(status, change.status)?;
    }
    if !rusage.is_null() {
        write_usage(cx, rusage, change.usage)?;
    }
    value(change.pid)
}

/// The next change, or a wait for one: then the caller returns `Blocked` (unless WNOHANG).
fn find(cx: &mut Cx<'_>, which: Which, wanted: Wanted, options: Flags) -> Result<Option<Change>> {
    let process = cx.process()?;
    let (pid, queue) = (process.pid, process.child_queue.clone());
    let may_wait = !options.has(libc::WNOHANG);
    if may_wait {
        // Even if the child, which begins beside it, was faster.
        cx.task_mut()?.habit.waits();
    }
    let found = cx.kernel.find_change(pid, which, wanted)?;
    if found.is_none() && may_wait {
        cx.wait_on(&queue, Restart::IfAsked, 0)?;
    }
    Ok(found)
}

pub fn waitid(
    cx: &mut Cx<'_>,
    kind: i32,
    id: i32,
    info: Address,
    options: Flags,
    rusage: Address,
) -> SysResult {
    const P_PIDFD: i32 = 3;
    options.only(
        libc::WNOHANG
            | libc::WEXITED
            | libc::WSTOPPED
            | libc::WCONTINUED
            | libc::WNOWAIT
            | 0x6000_0000
            | 0x8000_0000_u32.cast_signed(),
    )?;
    if options.0 & (libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED).cast_unsigned() == 0 {
        return Err(Errno::EINVAL);
    }
    let own = cx.process()?.group;
    let mut is_nonblocking = false;
    let which = match kind {
        0 => Which::Any,
        1 if id > 0 => Which::Pid(id),
        2 if id > 0 => Which::Group(id),
        2 if id == 0 => Which::Group(own),
        P_PIDFD => {
            let (pid, nonblocking) = super::pidfd::to_wait_for(cx, id)?;
            is_nonblocking = nonblocking;
            Which::Pid(pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    let wanted = Wanted {
        exited: options.has(libc::WEXITED),
        stopped: options.has(libc::WSTOPPED),
        continued: options.has(libc::WCONTINUED),
        keep: options.has(libc::WNOWAIT),
        clones: options.0 & 0x8000_0000 != 0,
        all: options.has(0x4000_0000),
    };
    let look_only = Flags(options.0 | libc::WNOHANG.cast_unsigned());
    let change = find(
        cx,
        which,
        wanted,
        if is_nonblocking { look_only } else { options },
    )?;
    if change.is_none() && is_nonblocking && !options.has(libc::WNOHANG) {
        // waitid(2): a pidfd with O_NONBLOCK.
        return Err(Errno::EAGAIN);
    }
    if change.is_none() && !options.has(libc::WNOHANG) {
        return Ok(Outcome::Blocked);
    }
    if !info.is_null() {
        let bytes = change.as_ref().map_or([0; 128], child_info);
        cx.memory().write(info, &bytes)?;
    }
    if let (Some(change), false) = (change, rusage.is_null()) {
        write_usage(cx, rusage, change.usage)?;
    }
    DONE
}

/// What a child of the caller's used.
fn write_usage(cx: &Cx<'_>, at: Address, usage: Usage) -> Result<()> {
    let usage = usage.seen_by(cx.process()?.host_pid);
    cx.memory().write(at, &usage_bytes(&usage))
}

fn child_info(change: &Change) -> [u8; 128] {
    let status = change.status;
    let (code, value) = if status == 0xFFFF {
        (6, libc::SIGCONT)
    } else if status & 0xFF == 0x7F {
        (if change.is_traced { 4 } else { 5 }, status >> 8)
    } else if status & 0x7F == 0 {
        (1, status >> 8)
    } else if status & 0x80 != 0 {
        (3, status & 0x7F)
    } else {
        (2, status & 0x7F)
    };
    crate::kernel::signals::Info::child(libc::SIGCHLD, code, change.pid, change.uid, value)
        .to_bytes()
}

/// `struct rusage`: times and the largest memory; what else it counts is not known.
#[must_use]
pub fn usage_bytes(usage: &Usage) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(144);
    for microseconds in [usage.user_us, usage.system_us] {
        bytes.extend((microseconds / 1_000_000).to_le_bytes());
        bytes.extend((microseconds % 1_000_000).to_le_bytes());
    }
    bytes.extend(usage.max_rss_kib.to_le_bytes());
    bytes.resize(144, 0);
    bytes
}
