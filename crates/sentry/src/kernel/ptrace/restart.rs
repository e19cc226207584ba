//! Calls of traced threads that a signal interrupted: what their results say meanwhile, and making them again.

use casemate_platform::notify::Call;

use super::frame::{Frame, RAX, RIP};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::deliver::SYSCALL_INSTRUCTION;
use crate::kernel::signals::{Action, SA_RESTART};
use crate::kernel::task::Restart;

/// What an interrupted call's result says until it is known whether a handler runs. Linux: include/linux/errno.h.
pub(super) const RESTARTSYS: i64 = -512;
pub(super) const RESTARTNOINTR: i64 = -513;
const RESTARTNOHAND: i64 = -514;
const RESTART_BLOCK: i64 = -516;

impl Kernel {
    /// A call that was interrupted says so, as it does on Linux until a signal was delivered.
    pub(super) fn show_interruption(
        &mut self,
        tid: i32,
        nr: Option<i64>,
        frame: &mut Frame,
    ) -> Result<()> {
        let interrupted = self.task_mut(tid)?.interrupted.take();
        let own = self.own(tid)?;
        if nr.is_none() && !std::mem::take(&mut own.restarts) && own.chosen.is_none() {
            own.original = -1;
        }
        let Some((interrupted, restart)) = interrupted else {
            return Ok(());
        };
        own.original = nr.unwrap_or(interrupted.into());
        let code = match restart {
            Restart::IfAsked => RESTARTSYS,
            Restart::WithoutHandler => match i64::from(interrupted) {
                libc::SYS_nanosleep | libc::SYS_clock_nanosleep | libc::SYS_poll => RESTART_BLOCK,
                _ => RESTARTNOHAND,
            },
            Restart::Uninterruptible => RESTARTNOINTR,
            Restart::Never => return Ok(()),
        };
        if code == RESTART_BLOCK {
            own.restarted = Some(interrupted.into());
        }
        frame.set(RAX, code.cast_unsigned())
    }

    /// Makes an interrupted call again, if it should be: by what the registers say, which the tracer may have changed. Linux: handle_signal(), arch_do_signal_or_restart().
    pub(super) fn make_again(&mut self, call: &Call, handler: Option<Action>) -> Result<()> {
        let tid = call.tid;
        let original = std::mem::replace(&mut self.own(tid)?.original, -1);
        let mut frame = Frame::read(tid, call.args[2])?;
        let code = frame.get(RAX).cast_signed();
        if original < 0 || !is_interrupted(code) {
            return Ok(());
        }
        let again = match (code, handler) {
            (_, None) | (RESTARTNOINTR, _) => true,
            (RESTARTSYS, Some(action)) => action.flags & SA_RESTART != 0,
            _ => false,
        };
        if !again || handler.is_some() {
            self.task_mut(tid)?.carried = None;
            self.own(tid)?.restarted = None;
        }
        if !again {
            return frame.set(RAX, i64::from(-libc::EINTR).cast_unsigned());
        }
        let own = self.own(tid)?;
        let nr = if code == RESTART_BLOCK && own.restarted.is_some() && own.tracer.is_some() {
            libc::SYS_restart_syscall
        } else {
            original
        };
        frame.set(RIP, frame.get(RIP).wrapping_sub(SYSCALL_INSTRUCTION))?;
        frame.set(RAX, nr.cast_unsigned())
    }
}

/// Whether a result says that its call was interrupted, and may have to be made again.
pub(super) fn is_interrupted(code: i64) -> bool {
    [RESTARTSYS, RESTARTNOINTR, RESTARTNOHAND, RESTART_BLOCK].contains(&code)
}
