//! New threads and processes. The host makes them, with the caller's own registers; the sentry notes what the child is to share. clone(2).

use std::sync::Arc;

use super::{Cx, Outcome, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::bind::{CLONE_PARENT, CLONE_THREAD, CLONE_VM};
use crate::kernel::recloning::Recloning;
use crate::kernel::task::Embryo;
use crate::memory::Address;
use crate::vfs::description::Description;
use crate::vfs::eventfd::EventFd;

pub const CSIGNAL: u64 = 0xFF;
pub const CLONE_FS: u64 = 0x200;
pub const CLONE_FILES: u64 = 0x400;
pub const CLONE_SIGHAND: u64 = 0x800;
pub const CLONE_PIDFD: u64 = 0x1000;
pub const CLONE_VFORK: u64 = 0x4000;
pub const CLONE_SYSVSEM: u64 = 0x4_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
pub const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
pub const CLONE_DETACHED: u64 = 0x40_0000;
const CLONE_UNTRACED: u64 = 0x80_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const CLONE_IO: u64 = 0x8000_0000;
pub const CLONE_NAMESPACES: u64 = 0x7E02_0080;
pub const KNOWN: u64 = CSIGNAL
    | CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_PIDFD
    | CLONE_VFORK
    | CLONE_PARENT
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID
    | CLONE_DETACHED
    | CLONE_UNTRACED
    | CLONE_CHILD_SETTID
    | CLONE_IO;

pub fn clone(
    cx: &mut Cx<'_>,
    flags: u64,
    stack: Address,
    parent_tid: Address,
    child_tid: Address,
    tls: Address,
) -> SysResult {
    // The register's high half means nothing to clone(2).
    let flags = flags & 0xFFFF_FFFF;
    // Nor does CLONE_NEWTIME, whose bit is one of the signal's.
    if flags & CLONE_NAMESPACES & !CSIGNAL != 0 {
        return Err(Errno::EPERM);
    }
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & CLONE_PIDFD != 0 {
        return with_pidfd(cx, flags, stack, parent_tid, child_tid, tls);
    }
    let is_child = flags & (CLONE_THREAD | CLONE_PARENT) == 0;
    if is_child && flags & CSIGNAL != libc::SIGCHLD as u64 {
        let recloning = Recloning {
            stack: stack.0,
            parent_tid: parent_tid.0,
            child_tid: child_tid.0,
            tls: tls.0,
            ..Recloning::new(flags, flags & CSIGNAL)
        };
        let call = cx.call;
        return cx.kernel.begin_recloning(&call, recloning, false);
    }
    expect_child(cx, flags, parent_tid, child_tid)
}

/// The descriptor takes the place of the number. Linux: kernel_clone(), copy_process().
fn with_pidfd(
    cx: &mut Cx<'_>,
    flags: u64,
    stack: Address,
    pidfd: Address,
    child_tid: Address,
    tls: Address,
) -> SysResult {
    if flags & (CLONE_PARENT_SETTID | CLONE_DETACHED) != 0 {
        return Err(Errno::EINVAL);
    }
    check_pidfd(cx, pidfd)?;
    let recloning = Recloning {
        stack: stack.0,
        child_tid: child_tid.0,
        tls: tls.0,
        pidfd: Some(pidfd.0),
        ..Recloning::new(flags, flags & CSIGNAL)
    };
    let call = cx.call;
    cx.kernel.begin_recloning(&call, recloning, false)
}

/// Whatever can fail does so before there is a child: a number for the descriptor, and where that goes.
pub fn check_pidfd(cx: &mut Cx<'_>, pidfd: Address) -> Result<()> {
    let files = cx.task()?.files.clone();
    let probe = Description::new(Arc::new(EventFd::new(0, false)), 0);
    let number = cx.add_description(probe, true)?;
    let closed = files.lock().remove(number);
    drop(closed);
    cx.memory().write_i32(pidfd, number)
}

pub fn fork(cx: &mut Cx<'_>) -> SysResult {
    expect_child(cx, libc::SIGCHLD as u64, Address(0), Address(0))
}

pub fn vfork(cx: &mut Cx<'_>) -> SysResult {
    let flags = CLONE_VM | CLONE_VFORK | libc::SIGCHLD as u64;
    expect_child(cx, flags, Address(0), Address(0))
}

fn expect_child(cx: &mut Cx<'_>, flags: u64, parent_tid: Address, child_tid: Address) -> SysResult {
    if flags & CLONE_VM != 0 && flags & CLONE_THREAD == 0 {
        // The child has this thread's FS base and its memory: it must not find its slot.
        let tid = cx.tid();
        cx.kernel.withdraw_slot(tid);
    }
    // Linux: copy_process(): a new member of the group while a signal waits would miss it.
    let process = cx.process()?;
    let remade = cx.kernel.remade(&cx.call);
    let actions = if flags & CLONE_SIGHAND != 0 {
        process.actions.clone()
    } else {
        process.actions.copy()
    };
    let (mut flags, mut returning) = (flags, None);
    if let Some(remade) = remade {
        flags = flags & !CSIGNAL | remade.exit_signal;
        returning = remade.returning;
        if remade.clears_handlers {
            actions.lock().reset_for_exec();
        }
    }
    let task = cx.task_mut()?;
    let files = if flags & CLONE_FILES != 0 {
        task.files.clone()
    } else {
        task.files.copy()
    };
    let fs = if flags & CLONE_FS != 0 {
        task.fs.clone()
    } else {
        task.fs.copy()
    };
    let mask = task.mask;
    task.embryo = Some(Embryo {
        flags,
        parent_tid: (flags & CLONE_PARENT_SETTID != 0).then_some(parent_tid.0),
        child_tid: (flags & CLONE_CHILD_SETTID != 0).then_some(child_tid.0),
        files,
        fs,
        actions,
        mask,
        returning,
    });
    cx.kernel.embryos.push(cx.call.tid);
    if flags & CLONE_THREAD == 0 {
        let tid = cx.tid();
        cx.kernel.prepare_birth(tid, flags & CLONE_VFORK != 0);
    }
    Ok(Outcome::Native)
}
