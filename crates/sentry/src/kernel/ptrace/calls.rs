//! A traced thread's call on its frame: stops at its entry and its exit, and what it made, a child or a new program.

use casemate_platform::notify::Call;

use super::children::InCall;
use super::frame::{Frame, RAX, RDI};
use super::steps::Phase;
use super::{
    EVENT_EXEC, EVENT_EXIT, EVENT_VFORK_DONE, Kind, Resume, TRACE_EXEC, TRACE_EXIT, TRACE_SYSGOOD,
    TRACE_VFORK_DONE,
};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::deliver::Next;
use crate::kernel::signals::{Info, SI_USER};

/// SIGTRAP's code behind a call that was stepped over. Linux: user_single_step_report().
const TRAP_BRKPT: i32 = 1;
/// PTRACE_EVENTMSG_SYSCALL_*.
const MESSAGE_ENTRY: u64 = 1;
const MESSAGE_EXIT: u64 = 2;

impl Kernel {
    pub(super) fn enter_call(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        let mut frame = Frame::read(tid, call.args[2])?;
        let own = self.own(tid)?;
        own.original = i64::from(frame.get(RAX) as i32);
        frame.set(RAX, i64::from(-libc::ENOSYS).cast_unsigned())?;
        if own.resume != Resume::Call {
            own.phase = Phase::Run;
            return Ok(None);
        }
        let code = self.call_code(tid);
        self.stop_of(call, (Kind::Entry, code), MESSAGE_ENTRY, Phase::Run)
    }

    pub(super) fn before_call(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        let own = self.own(tid)?;
        let is_end = matches!(own.original, libc::SYS_exit | libc::SYS_exit_group);
        if own.original < 0 {
            // The tracer wants none to be made: the result is what it left.
            own.phase = Phase::Exit;
            return Ok(None);
        }
        if is_end && own.has(TRACE_EXIT) {
            let frame = Frame::read(tid, call.args[2])?;
            let status = (frame.get(RDI) & 0xFF) << 8;
            return self.stop_of_event(call, EVENT_EXIT, status, Phase::RunNow);
        }
        own.phase = Phase::RunNow;
        Ok(None)
    }

    pub(super) fn make_call(&mut self, call: &Call) -> Result<Option<Next>> {
        let mut frame = Frame::read(call.tid, call.args[2])?;
        let own = self.own(call.tid)?;
        let nr = match (own.original, own.restarted.take()) {
            (libc::SYS_restart_syscall, Some(restarted)) => restarted,
            (nr, _) => nr,
        };
        let in_call = InCall::begin(&mut frame, nr)?;
        own.in_call = Some(in_call);
        own.phase = Phase::Finish;
        Ok(None)
    }

    pub(super) fn tell_child(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        let child = Frame::read(tid, call.args[2])?.get(RAX).cast_signed();
        let own = self.own(tid)?;
        own.phase = Phase::OverTold;
        let Some(in_call) = own.in_call.clone() else {
            return Ok(None);
        };
        if in_call.is_child {
            // Linux: copy_process() clears what would have it stop at the end of a call.
            own.in_call = None;
            own.original = -1;
            own.phase = Phase::Finish;
            return Ok(None);
        }
        if !in_call.makes_child() || child <= 0 {
            return Ok(None);
        }
        self.bind_child_of(tid);
        let (event, option) = in_call.event();
        if self.own(tid)?.has(option) {
            let message = child.cast_unsigned();
            return self.stop_of_event(call, event, message, Phase::OverTold);
        }
        Ok(None)
    }

    pub(super) fn wait_for_child(&mut self, call: &Call, child: i32) -> Result<Option<Next>> {
        if self.holds_creator(child) {
            return Ok(Some(Next::HoldOn(self.vfork_queue.clone())));
        }
        let own = self.own(call.tid)?;
        if own.has(TRACE_VFORK_DONE) {
            let message = u64::from(child.cast_unsigned());
            return self.stop_of_event(call, EVENT_VFORK_DONE, message, Phase::Exit);
        }
        own.phase = Phase::Exit;
        Ok(None)
    }

    pub(super) fn tell_program(&mut self, call: &Call) -> Result<Option<Next>> {
        let task = self.task(call.tid)?;
        let (number, pid, uid) = (task.tid, task.pid, task.credentials.uid);
        let own = self.own(call.tid)?;
        if own.has(TRACE_EXEC) {
            let message = u64::from(number.cast_unsigned());
            return self.stop_of_event(call, EVENT_EXEC, message, Phase::Exit);
        }
        own.phase = Phase::Exit;
        if own.tracer.is_some() && !own.is_seized {
            let info = Info::from_sender(libc::SIGTRAP, SI_USER, pid, uid);
            self.send_to_thread(call.tid, info);
        }
        Ok(None)
    }

    pub(super) fn leave_call(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        let own = self.own(tid)?;
        let is_frame_left = own.in_call.take().is_some_and(|own| own.has_returned);
        let next = if is_frame_left {
            own.original = -1;
            Phase::Signals
        } else {
            Phase::Finish
        };
        own.phase = next;
        match own.resume {
            Resume::Continue => Ok(None),
            Resume::Call => {
                let code = self.call_code(tid);
                self.stop_of(call, (Kind::Exit, code), MESSAGE_EXIT, next)
            }
            Resume::Step => {
                own.signal = Some(Info::new(libc::SIGTRAP, TRAP_BRKPT));
                own.phase = Phase::Fault;
                Ok(None)
            }
        }
    }

    fn call_code(&self, tid: i32) -> i32 {
        let is_marked = self
            .traced(tid)
            .is_some_and(|traced| traced.has(TRACE_SYSGOOD));
        libc::SIGTRAP | if is_marked { 0x80 } else { 0 }
    }
}
