//! What a traced thread does in a frame of its stub, step by step.
//!
//! Every stop is made in such a frame, since only there all registers are known and can be set: the host's kernel built it for a kick, for a fault, or because
//! the thread's calls trap (PR_SET_SYSCALL_USER_DISPATCH). The thread asks (`magic::DELIVER`), and is answered when its tracer lets it go. A call that trapped
//! is made at an instruction of the stub's, which is behind the range that traps; a breakpoint follows it, whose frame tells that the call is over.
//!
//! Here is what leads from step to step; `begin` takes a new frame, and the steps are in `calls`, `delivery` and `restart`.

use casemate_platform::loader::{
    KICK, KICK_ON_ALTERNATE_STACK, LET_CALLS, TAKE_BASES, TELL_BASES, TRAP_CALLS,
};
use casemate_platform::notify::Call;

use super::children::{InCall, stop_info};
use super::frame::{FLAGS, Frame, RAX, TRAP_FLAG};
use super::restart::is_interrupted;
use super::{Kind, Resume, Stop};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::deliver::Next;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// It runs, or waits in a call.
    #[default]
    Out,
    /// Its memory is about to be replaced: until a breakpoint in front of the new program.
    Loading,
    /// Its call trapped.
    Entry,
    Run,
    RunNow,
    /// Its call is over.
    Over,
    OverTold,
    Waits(i32),
    Executed,
    Exit,
    /// A frame on which signals are delivered; then one that the tracer let pass.
    Signals,
    Chosen,
    /// A fault's; then with what the tracer made of it.
    Fault,
    FaultChosen,
    /// wait(2)'s status.
    Dying(i32),
    Finish,
    /// The stub is about to leave the frame.
    Leaving,
}

impl Kernel {
    /// As `stub_asks`, for a thread that is traced, or was.
    pub fn traced_asks(&mut self, call: &Call) -> Result<Next> {
        let tid = call.tid;
        let native = call.args[0] as i32;
        let is_kick = native == KICK || native == KICK_ON_ALTERNATE_STACK;
        if is_kick {
            self.task_mut(tid)?.is_kicked = false;
        }
        let own = self.own(tid)?;
        own.asks_host = false;
        let is_new = matches!(own.phase, Phase::Out | Phase::Loading | Phase::Leaving);
        if (is_new || own.context != call.args[2])
            && let Some(next) = self.begin_frame(call, is_kick)?
        {
            return Ok(next);
        }
        loop {
            let own = self.own(tid)?;
            if own.stop.is_some() {
                return Ok(Next::HoldOn(own.queue.clone()));
            }
            if own.tracer.is_some() && !std::mem::replace(&mut own.is_told, true) {
                return Ok(Next::Answer(TELL_BASES));
            }
            if let Some(next) = self.step(call)? {
                return Ok(next);
            }
        }
    }

    /// One step on the way through the frame; `None`: there is a next one.
    fn step(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        match self.own(tid)?.phase {
            Phase::Entry => self.enter_call(call),
            Phase::Run => self.before_call(call),
            Phase::RunNow => self.make_call(call),
            Phase::Over => self.tell_child(call),
            Phase::OverTold => {
                let frame = Frame::read(tid, call.args[2])?;
                let child = frame.get(RAX) as i32;
                let own = self.own(tid)?;
                let waits = own.in_call.as_ref().is_some_and(InCall::waits_for_child);
                own.phase = if waits && child > 0 {
                    Phase::Waits(child)
                } else {
                    Phase::Exit
                };
                Ok(None)
            }
            Phase::Waits(child) => self.wait_for_child(call, child),
            Phase::Executed => self.tell_program(call),
            Phase::Exit => self.leave_call(call),
            Phase::Signals => self.next_signal(call),
            Phase::Chosen => self.deliver_chosen(call),
            Phase::Fault => self.tell_fault(call),
            Phase::FaultChosen => self.deliver_fault(call),
            Phase::Dying(status) => {
                let pid = self.task(tid)?.pid;
                self.terminate(pid, status);
                Ok(Some(Next::Gone))
            }
            Phase::Out | Phase::Loading | Phase::Finish | Phase::Leaving => self.finish_frame(call),
        }
    }

    /// Stops the thread, and goes on with `next` once the tracer lets it. Without a tracer it goes on at once.
    pub(super) fn stop_for(
        &mut self,
        call: &Call,
        stop: Stop,
        next: Phase,
    ) -> Result<Option<Next>> {
        let tid = call.tid;
        let own = self.own(tid)?;
        if own.tracer.is_none() {
            own.phase = next;
            return Ok(None);
        }
        own.phase = next;
        own.stop = Some(stop);
        self.tell_tracer(tid);
        Ok(None)
    }

    /// A stop that no signal caused.
    pub(super) fn stop_of(
        &mut self,
        call: &Call,
        (kind, code): (Kind, i32),
        message: u64,
        next: Phase,
    ) -> Result<Option<Next>> {
        let task = self.task(call.tid)?;
        let info = Some(stop_info(code, (task.tid, task.credentials.uid)));
        self.own(call.tid)?.message = message;
        self.stop_for(call, Stop::new(kind, code, info), next)
    }

    pub(super) fn stop_of_event(
        &mut self,
        call: &Call,
        event: i32,
        message: u64,
        next: Phase,
    ) -> Result<Option<Next>> {
        self.stop_of(
            call,
            (Kind::Other, libc::SIGTRAP | event << 8),
            message,
            next,
        )
    }

    /// What the stub has to do for the sentry before the frame is left; `None`: nothing.
    pub(super) fn sync_host(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        let own = self.own(tid)?;
        if std::mem::take(&mut own.new_bases) {
            return Ok(Some(Next::Answer(TAKE_BASES)));
        }
        let wanted = own.tracer.is_some();
        if own.traps != wanted {
            own.traps = wanted;
            own.asks_host = true;
            self.switch_stub(tid);
            let answer = if wanted { TRAP_CALLS } else { LET_CALLS };
            return Ok(Some(Next::Answer(answer)));
        }
        self.switch_stub(tid);
        Ok(None)
    }

    /// Leaves the frame for the program.
    fn finish_frame(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        if let Some(next) = self.sync_host(call)? {
            return Ok(Some(next));
        }
        let mut frame = Frame::read(tid, call.args[2])?;
        let code = frame.get(RAX).cast_signed();
        let own = self.own(tid)?;
        if own.in_call.is_none() {
            if own.original >= 0 && is_interrupted(code) {
                own.restarts = true;
            }
            if own.resume == Resume::Step && own.tracer.is_some() {
                own.steps = frame.get(FLAGS) & TRAP_FLAG == 0;
                frame.set(FLAGS, frame.get(FLAGS) | TRAP_FLAG)?;
            }
        }
        let own = self.own(tid)?;
        own.phase = Phase::Leaving;
        self.leave_frame(call).map(Some)
    }
}
