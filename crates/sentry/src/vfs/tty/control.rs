//! Controlling terminals and job control. credentials(7), tcsetpgrp(3), POSIX chapter 11.1.

use std::sync::Arc;

use super::Tty;
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::credentials::CAP_SYS_ADMIN;
use crate::kernel::signals::{SIG_IGN, SIGCONT};
use crate::kernel::task::Restart;
use crate::memory::Address;
use crate::syscalls::Cx;

const SIGHUP: i32 = 1;
pub const SIGTTIN: i32 = 21;
pub const SIGTTOU: i32 = 22;

/// Whether it is the caller's controlling terminal.
pub fn is_controlling(cx: &Cx<'_>, tty: &Arc<Tty>) -> bool {
    cx.process().is_ok_and(|process| {
        process
            .terminal
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, tty))
    })
}

/// A background process may not go on: its group is stopped by `signal`, after which the call is made again. `EIO`: nobody would continue an orphaned group.
/// Linux: __tty_check_change().
pub fn check_foreground(cx: &mut Cx<'_>, tty: &Arc<Tty>, signal: i32) -> Result<()> {
    if !is_controlling(cx, tty) {
        return Ok(());
    }
    let process = cx.process()?;
    let (group, session) = (process.group, process.session);
    let foreground = tty.lock().foreground;
    if foreground == 0 || foreground == group {
        return Ok(());
    }
    let is_ignored = process.actions.lock().get(signal).handler == SIG_IGN;
    if is_ignored || cx.task()?.mask.has(signal) {
        return if signal == SIGTTIN {
            Err(Errno::EIO)
        } else {
            Ok(())
        };
    }
    if cx.kernel.is_orphaned(group, session) {
        return Err(Errno::EIO);
    }
    cx.kernel.send_to_group(group, signal);
    let (nr, tid) = (cx.call.nr, cx.tid());
    cx.task_mut()?.interrupted = Some((nr, Restart::IfAsked));
    cx.kernel.kick(tid);
    Err(Errno::EINTR)
}

/// Opening a terminal makes it the controlling one of a session leader that has none. open(2), O_NOCTTY.
pub fn acquire_by_open(cx: &mut Cx<'_>, tty: &Arc<Tty>) -> Result<()> {
    let process = cx.process()?;
    if process.pid == process.session && process.terminal.is_none() && tty.lock().session == 0 {
        cx.kernel.give_terminal(process.pid, tty);
    }
    Ok(())
}

/// TIOCSCTTY.
pub fn acquire(
    cx: &mut Cx<'_>,
    tty: &Arc<Tty>,
    argument: Address,
    is_readable: bool,
) -> Result<()> {
    let process = cx.process()?;
    let (pid, is_leader, session) = (
        process.pid,
        process.pid == process.session,
        tty.lock().session,
    );
    if is_leader && process.session == session {
        return Ok(());
    }
    let is_admin = cx.task()?.credentials.has(CAP_SYS_ADMIN);
    if !is_leader || process.terminal.is_some() || !(is_readable || is_admin) {
        return Err(Errno::EPERM);
    }
    if session != 0 {
        if argument.0 != 1 || !is_admin {
            return Err(Errno::EPERM);
        }
        cx.kernel.take_terminal_from(session);
    }
    cx.kernel.give_terminal(pid, tty);
    Ok(())
}

/// TIOCNOTTY.
pub fn give_up(cx: &mut Cx<'_>, tty: &Arc<Tty>) -> Result<()> {
    if !is_controlling(cx, tty) {
        return Err(Errno::ENOTTY);
    }
    let pid = cx.process()?.pid;
    cx.kernel.leave_terminal(pid, false);
    cx.process_mut()?.terminal = None;
    Ok(())
}

/// TIOCSPGRP.
pub fn set_foreground(cx: &mut Cx<'_>, tty: &Arc<Tty>, argument: Address) -> Result<()> {
    match check_foreground(cx, tty, SIGTTOU) {
        Err(Errno::EIO) => return Err(Errno::ENOTTY),
        other => other?,
    }
    let session = cx.process()?.session;
    if !is_controlling(cx, tty) || tty.lock().session != session {
        return Err(Errno::ENOTTY);
    }
    let group = cx.memory().read_u32(argument)?.cast_signed();
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let mut members = cx
        .kernel
        .processes
        .values()
        .filter(|process| process.group == group);
    let Some(member) = members.next() else {
        return Err(Errno::ESRCH);
    };
    if member.session != session {
        return Err(Errno::EPERM);
    }
    tty.lock().foreground = group;
    Ok(())
}

impl Kernel {
    /// Makes it the controlling terminal of a session leader.
    pub fn give_terminal(&mut self, pid: i32, tty: &Arc<Tty>) {
        if let Ok(process) = self.process_mut(pid) {
            process.terminal = Some(tty.clone());
            process.hung_up_group = 0;
            let (session, group) = (process.session, process.group);
            let mut state = tty.lock();
            (state.session, state.foreground) = (session, group);
        }
    }

    pub fn take_terminal_from(&mut self, session: i32) {
        if session != 0 {
            for process in self.processes.values_mut() {
                if process.session == session {
                    process.terminal = None;
                }
            }
        }
    }

    /// A session leader leaves its terminal, by TIOCNOTTY or its end: nobody in the session keeps it. Linux: disassociate_ctty().
    pub fn leave_terminal(&mut self, pid: i32, by_end: bool) {
        let Ok(process) = self.process_mut(pid) else {
            return;
        };
        if process.session != pid {
            return;
        }
        let hung_up_group = std::mem::take(&mut process.hung_up_group);
        let Some(tty) = process.terminal.clone() else {
            if by_end && hung_up_group != 0 {
                self.send_to_group(hung_up_group, SIGHUP);
                self.send_to_group(hung_up_group, SIGCONT);
            }
            return;
        };
        let foreground = {
            let mut state = tty.lock();
            state.session = 0;
            std::mem::take(&mut state.foreground)
        };
        self.take_terminal_from(pid);
        if foreground != 0 {
            self.send_to_group(foreground, SIGHUP);
            if !by_end {
                self.send_to_group(foreground, SIGCONT);
            }
        }
    }

    /// Whether no member has a parent in another group of the session, who could continue it. POSIX, "orphaned process group".
    #[must_use]
    pub fn is_orphaned(&self, group: i32, session: i32) -> bool {
        !self
            .processes
            .values()
            .filter(|member| member.group == group && !member.is_zombie())
            .any(|member| {
                self.process(member.parent).is_ok_and(|parent| {
                    parent.session == session && parent.group != group && !parent.is_zombie()
                })
            })
    }
}
