//! What a traced thread does in a frame of its stub, step by step.
//!
//! Every stop is made in such a frame, since only there all registers are known and can be set: the host's kernel built it for a kick, for a fault, or because
//! the thread's calls trap (PR_SET_SYSCALL_USER_DISPATCH). The thread asks (`magic::DELIVER`), and is answered when its tracer lets it go. A call that trapped
//! is made at an instruction of the stub's, which is behind the range that traps; a breakpoint follows it, whose frame tells that the call is over.

use casemate_platform::loader::{
    self, COMMANDS, KICK, KICK_ON_ALTERNATE_STACK, LET_CALLS, RETURN, TAKE_BASES, TELL_BASES,
    TRAP_CALLS,
};
use casemate_platform::notify::Call;

use super::children::{InCall, stop_info};
use super::frame::{FLAGS, Frame, RAX, RDI, RIP, TRAP_FLAG};
use super::{
    EVENT_EXEC, EVENT_EXIT, EVENT_STOP, EVENT_VFORK_DONE, Kind, Resume, Stop, TRACE_EXEC,
    TRACE_EXIT, TRACE_SYSGOOD, TRACE_VFORK_DONE,
};
use crate::errno::{Errno, Result};
use crate::fast::patch::Step;
use crate::kernel::Kernel;
use crate::kernel::deliver::Next;
use crate::kernel::signals::{
    Action, Default_, Info, SA_ONSTACK, SA_RESTART, SI_USER, SIG_DFL, SIG_IGN, SIGKILL,
    default_action,
};
use crate::kernel::task::Restart;
use crate::memory::{Address, Memory};

const SIGTRAP: i32 = libc::SIGTRAP;
/// SIGTRAP's code behind a call that was stepped over. Linux: user_single_step_report().
const TRAP_BRKPT: i32 = 1;
const SYSCALL_INSTRUCTION: u64 = 2;
/// PTRACE_EVENTMSG_SYSCALL_*.
const MESSAGE_ENTRY: u64 = 1;
const MESSAGE_EXIT: u64 = 2;
const CORE_DUMPED: i32 = 0x80;
const SA_RESTORER: u64 = 0x0400_0000;

/// What an interrupted call's result says until it is known whether a handler runs. Linux: include/linux/errno.h.
const RESTARTSYS: i64 = -512;
const RESTARTNOINTR: i64 = -513;
const RESTARTNOHAND: i64 = -514;
const RESTART_BLOCK: i64 = -516;

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

    /// A new frame: what it is of, and the registers as the program knows them. An answer where it is none to stop in.
    fn begin_frame(&mut self, call: &Call, is_kick: bool) -> Result<Option<Next>> {
        let tid = call.tid;
        let native = call.args[0] as i32;
        if is_kick && self.is_within_frame(call)? {
            return Ok(Some(Next::Answer(RETURN)));
        }
        let mut frame = Frame::read(tid, call.args[2])?;
        let ip = frame.get(RIP);
        if is_kick {
            if self.task(tid)?.image.is_some() {
                self.own(tid)?.phase = Phase::Loading;
                return self.execute_loader(call).map(Some);
            }
            if self.next_of_plan(call)? == Some(Step::Commands) {
                return Ok(Some(Next::Answer(COMMANDS)));
            }
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
            if is_left || native == SIGTRAP && ip == loader::traced_trap() + 1 {
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
        if !is_kick && native == SIGTRAP && self.steps_in_stub(call)? {
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

    /// Nothing is done on this frame.
    fn leave_frame(&mut self, call: &Call) -> Result<Next> {
        self.leave_mask(call)?;
        Ok(Next::Answer(RETURN))
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

    /// A call that was interrupted says so, as it does on Linux until a signal was delivered.
    fn show_interruption(&mut self, tid: i32, nr: Option<i64>, frame: &mut Frame) -> Result<()> {
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
    fn stop_for(&mut self, call: &Call, stop: Stop, next: Phase) -> Result<Option<Next>> {
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
    fn stop_of(
        &mut self,
        call: &Call,
        (kind, code): (Kind, i32),
        message: u64,
        next: Phase,
    ) -> Result<Option<Next>> {
        let task = self.task(call.tid)?;
        let info = Some(stop_info(code, (task.tid, task.credentials.uid)));
        self.own(call.tid)?.message = message;
        let stop = Stop {
            kind,
            code,
            info,
            is_reported: false,
        };
        self.stop_for(call, stop, next)
    }

    fn stop_of_event(
        &mut self,
        call: &Call,
        event: i32,
        message: u64,
        next: Phase,
    ) -> Result<Option<Next>> {
        self.stop_of(call, (Kind::Other, SIGTRAP | event << 8), message, next)
    }

    fn call_code(&self, tid: i32) -> i32 {
        let is_marked = self
            .traced(tid)
            .is_some_and(|traced| traced.has(TRACE_SYSGOOD));
        SIGTRAP | if is_marked { 0x80 } else { 0 }
    }

    fn enter_call(&mut self, call: &Call) -> Result<Option<Next>> {
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

    fn before_call(&mut self, call: &Call) -> Result<Option<Next>> {
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

    fn make_call(&mut self, call: &Call) -> Result<Option<Next>> {
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

    fn tell_child(&mut self, call: &Call) -> Result<Option<Next>> {
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

    fn wait_for_child(&mut self, call: &Call, child: i32) -> Result<Option<Next>> {
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

    fn tell_program(&mut self, call: &Call) -> Result<Option<Next>> {
        let task = self.task(call.tid)?;
        let (number, pid, uid) = (task.tid, task.pid, task.credentials.uid);
        let own = self.own(call.tid)?;
        if own.has(TRACE_EXEC) {
            let message = u64::from(number.cast_unsigned());
            return self.stop_of_event(call, EVENT_EXEC, message, Phase::Exit);
        }
        own.phase = Phase::Exit;
        if own.tracer.is_some() && !own.is_seized {
            let info = Info::from_sender(SIGTRAP, SI_USER, pid, uid);
            self.send_to_thread(call.tid, info);
        }
        Ok(None)
    }

    fn leave_call(&mut self, call: &Call) -> Result<Option<Next>> {
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
                own.signal = Some(Info::new(SIGTRAP, TRAP_BRKPT));
                own.phase = Phase::Fault;
                Ok(None)
            }
        }
    }

    /// What is to be done on a frame for signals: a stop that is due, or the next signal.
    fn next_signal(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        let process = self.process_of(tid)?;
        let (pid, stopped) = (
            process.pid,
            process.is_stopped.then_some(process.stop_signal),
        );
        let hold = process.continue_queue.clone();
        let own = self.own(tid)?;
        if own.tracer.is_some() {
            if std::mem::take(&mut own.stepped_in) {
                return self.stop_of(call, (Kind::Other, SIGTRAP), 0, Phase::Signals);
            }
            if std::mem::take(&mut own.wants_stop) && own.is_seized {
                own.passed_stop = stopped.is_some();
                let code = stopped.unwrap_or(SIGTRAP) | EVENT_STOP << 8;
                return self.stop_of(call, (Kind::Other, code), 0, Phase::Signals);
            }
            if let Some(signal) = stopped.filter(|_| !own.passed_stop) {
                own.passed_stop = true;
                if own.is_seized {
                    let code = signal | EVENT_STOP << 8;
                    return self.stop_of(call, (Kind::Other, code), 0, Phase::Signals);
                }
                let stop = Stop {
                    kind: Kind::Other,
                    code: signal,
                    info: None,
                    is_reported: false,
                };
                return self.stop_for(call, stop, Phase::Signals);
            }
        } else if stopped.is_some() {
            return Ok(Some(Next::HoldOn(hold)));
        }
        if let Some(info) = own.chosen.take() {
            own.signal = Some(info);
            own.phase = Phase::Chosen;
            return Ok(None);
        }
        let process = self.processes.get_mut(&pid).ok_or(Errno::ESRCH)?;
        let task = self.tasks.get_mut(&tid).ok_or(Errno::ESRCH)?;
        let ready = task.deliverable(&process.pending);
        if ready.0 == 0 {
            return self.without_signal(call);
        }
        let Some(mut info) = task.take_signal(&mut process.pending, ready) else {
            return Ok(None);
        };
        self.signal_taken(pid, &mut info);
        self.own(tid)?.signal = Some(info.clone());
        let stop = Stop {
            kind: Kind::Signal,
            code: info.signal,
            info: Some(info),
            is_reported: false,
        };
        self.stop_for(call, stop, Phase::Chosen)
    }

    /// No handler runs on the frame.
    fn without_signal(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        self.make_again(call, None)?;
        if let Some(mask) = self.task_mut(tid)?.saved_mask.take() {
            self.task_mut(tid)?.mask = mask;
        }
        self.own(tid)?.phase = Phase::Finish;
        Ok(None)
    }

    /// The signal that the tracer lets pass takes effect.
    fn deliver_chosen(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        let own = self.own(tid)?;
        own.phase = Phase::Signals;
        let Some(info) = own.signal.take() else {
            return Ok(None);
        };
        let signal = info.signal;
        let pid = self.task(tid)?.pid;
        if signal == SIGKILL {
            self.terminate(pid, SIGKILL);
            return Ok(Some(Next::Gone));
        }
        let is_blocked = self.task(tid)?.mask.has(signal);
        if is_blocked {
            // Linux: ptrace_signal(): put back.
            self.task_mut(tid)?.pending.add(info);
            return Ok(None);
        }
        let action = self.process(pid)?.actions.lock().get(signal);
        match action.handler {
            SIG_IGN => Ok(None),
            SIG_DFL => {
                match default_action(signal) {
                    Default_::Ignore | Default_::Continue => {}
                    _ if pid == 1 => {}
                    Default_::Stop => self.stop(pid, signal),
                    Default_::Terminate => return self.die(call, signal),
                    Default_::Core => return self.die(call, signal | CORE_DUMPED),
                }
                Ok(None)
            }
            _ => self.enter_traced(call, info, action),
        }
    }

    fn die(&mut self, call: &Call, status: i32) -> Result<Option<Next>> {
        let own = self.own(call.tid)?;
        let next = Phase::Dying(status);
        if own.has(TRACE_EXIT) {
            let message = u64::from(status.cast_unsigned());
            return self.stop_of_event(call, EVENT_EXIT, message, next);
        }
        own.phase = next;
        Ok(None)
    }

    /// A handler runs, on a frame that lies on the stack that it wants.
    fn enter_traced(&mut self, call: &Call, info: Info, action: Action) -> Result<Option<Next>> {
        let tid = call.tid;
        let native = call.args[0] as i32;
        let is_fault = native == info.signal;
        let wanted = if action.flags & SA_ONSTACK != 0 {
            KICK_ON_ALTERNATE_STACK
        } else {
            KICK
        };
        if !is_fault && native != wanted {
            let own = self.own(tid)?;
            own.chosen = Some(info);
            own.restarts = true;
            own.phase = Phase::Finish;
            return Ok(None);
        }
        if let Some(next) = self.sync_host(call)? {
            // And comes back.
            let own = self.own(tid)?;
            own.signal = Some(info);
            own.phase = if is_fault {
                Phase::FaultChosen
            } else {
                Phase::Chosen
            };
            return Ok(Some(next));
        }
        if !is_fault {
            self.make_again(call, Some(action))?;
            self.end_native_wait(call, action)?;
        }
        if action.flags & SA_RESTORER != 0 {
            // Through the program's own instructions, where its tracer sees the call.
            let at = call.args[2].wrapping_sub(8);
            Memory { tid }.write_u64(Address(at), action.restorer)?;
        }
        let own = self.own(tid)?;
        own.stepped_in = own.resume == Resume::Step;
        own.phase = Phase::Out;
        let next = self.enter_handler(call, &info, action)?;
        if self.own(tid)?.has_reason() {
            self.kick(tid);
        }
        Ok(Some(next))
    }

    fn tell_fault(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        if self.own(tid)?.signal.is_none() {
            let mut bytes = [0; 128];
            Memory { tid }.read(Address(call.args[1]), &mut bytes)?;
            self.own(tid)?.signal = Some(Info::from_bytes(&bytes));
        }
        let info = self.own(tid)?.signal.clone();
        let code = info.as_ref().map_or(SIGTRAP, |info| info.signal);
        let stop = Stop {
            kind: Kind::Signal,
            code,
            info,
            is_reported: false,
        };
        self.stop_for(call, stop, Phase::FaultChosen)
    }

    fn deliver_fault(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        let own = self.own(tid)?;
        own.phase = Phase::Finish;
        let Some(info) = own.signal.take() else {
            return Ok(None);
        };
        if info.signal != call.args[0] as i32 {
            // Another one: it is delivered as any other, told as it is.
            own.chosen = Some(info);
            return Ok(None);
        }
        let task = self.task(tid)?;
        let (pid, is_blocked) = (task.pid, task.mask.has(info.signal));
        let action = self.process(pid)?.actions.lock().get(info.signal);
        // Linux: force_sig_info(): a fault that is blocked or ignored kills.
        if is_blocked || action.handler == SIG_DFL || action.handler == SIG_IGN {
            let is_core = default_action(info.signal) == Default_::Core;
            return self.die(call, info.signal | if is_core { CORE_DUMPED } else { 0 });
        }
        self.enter_traced(call, info, action)
    }

    /// Makes an interrupted call again, if it should be: by what the registers say, which the tracer may have changed. Linux: handle_signal(), arch_do_signal_or_restart().
    fn make_again(&mut self, call: &Call, handler: Option<Action>) -> Result<()> {
        let tid = call.tid;
        let original = std::mem::replace(&mut self.own(tid)?.original, -1);
        let mut frame = Frame::read(tid, call.args[2])?;
        let code = frame.get(RAX).cast_signed();
        if original < 0
            || ![RESTARTSYS, RESTARTNOINTR, RESTARTNOHAND, RESTART_BLOCK].contains(&code)
        {
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

    /// What the stub has to do for the sentry before the frame is left; `None`: nothing.
    fn sync_host(&mut self, call: &Call) -> Result<Option<Next>> {
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
            if own.original >= 0
                && [RESTARTSYS, RESTARTNOINTR, RESTARTNOHAND, RESTART_BLOCK].contains(&code)
            {
                own.restarts = true;
            }
            if own.resume == Resume::Step && own.tracer.is_some() {
                own.steps = frame.get(FLAGS) & TRAP_FLAG == 0;
                frame.set(FLAGS, frame.get(FLAGS) | TRAP_FLAG)?;
            }
        }
        let own = self.own(tid)?;
        own.phase = Phase::Leaving;
        self.leave_mask(call)?;
        Ok(Some(Next::Answer(RETURN)))
    }
}
