//! A frame of a traced thread's stub is new: what it is of, and whether it is one to stop in.

use casemate_platform::loader::{self, COMMANDS, RETURN};
use casemate_platform::notify::Call;

use super::children::InCall;
use super::frame::{FLAGS, Frame, RAX, RIP, TRAP_FLAG};
use super::restart::{RESTARTNOINTR, RESTARTSYS};
use super::steps::Phase;
use crate::errno::Result;
use crate::fast::patch::Step;
use crate::kernel::Kernel;
use crate::kernel::deliver::Next;

impl Kernel {
    /// A new frame: what it is of, and the registers as the program knows them. An answer where it is none to stop in.
    pub(super) fn begin_frame(&mut self, call: &Call, is_kick: bool) -> Result<Option<Next>> {
        let tid = call.tid;
        let native = call.args[0] as i32;
        if is_kick && self.task(tid)?.image.is_some() {
            self.own(tid)?.phase = Phase::Loading;
            return self.execute_loader(call).map(Some);
        }
        if is_kick && self.is_within_frame(call)? {
            return Ok(Some(Next::Answer(RETURN)));
        }
        let mut frame = Frame::read(tid, call.args[2])?;
        let ip = frame.get(RIP);
        if is_kick && self.next_of_plan(call)? == Some(Step::Commands) {
            return Ok(Some(Next::Answer(COMMANDS)));
        }
        let own = self.own(tid)?;
        own.context = call.args[2];
        own.is_told = false;
        own.new_bases = false;
        own.stop = None;
        let in_call = own.in_call.clone();
        if let Some(in_call) = in_call
            && !in_call.has_returned
        {
            let at = loader::traced_call();
            let is_left = is_kick && (ip == at || ip == loader::traced_trap());
            if is_kick && ip != at && self.put_registers(call)? {
                return self.leave_frame(call).map(Some);
            }
            if is_left || native == libc::SIGTRAP && ip == loader::traced_trap() + 1 {
                return self
                    .end_call(tid, &in_call, &mut frame, ip == at)
                    .map(|()| None);
            }
            if is_kick && (loader::BASE..loader::DATA).contains(&ip) {
                // Its clone is on the way, or its new program.
                self.put_off(call)?;
                return Ok(Some(Next::Answer(RETURN)));
            }
            // It went another way: only a program that meddles with its stub can.
            self.own(tid)?.in_call = None;
        }
        if !is_kick && native == libc::SIGTRAP && self.steps_in_stub(call)? {
            return self.leave_frame(call).map(Some);
        }
        let is_trapped = native == libc::SIGSYS && self.own(tid)?.traps;
        if self.settle_frame(call, !is_kick && !is_trapped)? {
            return self.leave_frame(call).map(Some);
        }
        if is_kick && self.put_registers(call)? {
            self.look_again(tid);
            return self.leave_frame(call).map(Some);
        }
        let mut frame = Frame::read(tid, call.args[2])?;
        if is_kick {
            self.show_interruption(tid, None, &mut frame)?;
        }
        let own = self.own(tid)?;
        let stepped = std::mem::take(&mut own.steps);
        if stepped {
            frame.set(FLAGS, frame.get(FLAGS) & !TRAP_FLAG)?;
        }
        own.phase = if is_trapped {
            Phase::Entry
        } else if !is_kick {
            Phase::Fault
        } else if own.in_call.is_some() {
            Phase::Exit
        } else {
            Phase::Signals
        };
        if !is_kick {
            own.original = -1;
        }
        Ok(None)
    }

    /// A call that was made at the stub's instruction is over, or (`is_before`) was kept from being made.
    fn end_call(
        &mut self,
        tid: i32,
        in_call: &InCall,
        frame: &mut Frame,
        is_before: bool,
    ) -> Result<()> {
        in_call.end(frame)?;
        if is_before {
            // The host has it so, too, if it was a futex(2) that waited.
            let is_futex = in_call.nr == libc::SYS_futex;
            let code = if is_futex { RESTARTSYS } else { RESTARTNOINTR };
            frame.set(RAX, code.cast_unsigned())?;
        }
        self.own(tid)?.original = in_call.nr;
        self.show_interruption(tid, Some(in_call.nr), frame)?;
        self.own(tid)?.phase = if in_call.has_executed {
            Phase::Executed
        } else {
            Phase::Over
        };
        Ok(())
    }
}
