//! Signals and faults on a frame of a traced thread: told to its tracer first, then delivered as that leaves them.

use casemate_platform::loader::{KICK, KICK_ON_ALTERNATE_STACK};
use casemate_platform::notify::Call;

use super::steps::Phase;
use super::{EVENT_EXIT, EVENT_STOP, Kind, Resume, Stop, TRACE_EXIT};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::deliver::Next;
use crate::kernel::signals::{
    Action, Default_, Info, SA_ONSTACK, SIG_DFL, SIG_IGN, SIGKILL, default_action,
};
use crate::memory::{Address, Memory};

const CORE_DUMPED: i32 = 0x80;
const SA_RESTORER: u64 = 0x0400_0000;

impl Kernel {
    /// What is to be done on a frame for signals: a stop that is due, or the next signal.
    pub(super) fn next_signal(&mut self, call: &Call) -> Result<Option<Next>> {
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
                return self.stop_of(call, (Kind::Other, libc::SIGTRAP), 0, Phase::Signals);
            }
            if std::mem::take(&mut own.wants_stop) && own.is_seized {
                own.passed_stop = stopped.is_some();
                let code = stopped.unwrap_or(libc::SIGTRAP) | EVENT_STOP << 8;
                return self.stop_of(call, (Kind::Other, code), 0, Phase::Signals);
            }
            if let Some(signal) = stopped.filter(|_| !own.passed_stop) {
                own.passed_stop = true;
                if own.is_seized {
                    let code = signal | EVENT_STOP << 8;
                    return self.stop_of(call, (Kind::Other, code), 0, Phase::Signals);
                }
                let stop = Stop::new(Kind::Other, signal, None);
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
        let stop = Stop::new(Kind::Signal, info.signal, Some(info));
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
    pub(super) fn deliver_chosen(&mut self, call: &Call) -> Result<Option<Next>> {
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

    pub(super) fn tell_fault(&mut self, call: &Call) -> Result<Option<Next>> {
        let tid = call.tid;
        if self.own(tid)?.signal.is_none() {
            let mut bytes = [0; 128];
            Memory { tid }.read(Address(call.args[1]), &mut bytes)?;
            self.own(tid)?.signal = Some(Info::from_bytes(&bytes));
        }
        let info = self.own(tid)?.signal.clone();
        let code = info.as_ref().map_or(libc::SIGTRAP, |info| info.signal);
        let stop = Stop::new(Kind::Signal, code, info);
        self.stop_for(call, stop, Phase::FaultChosen)
    }

    pub(super) fn deliver_fault(&mut self, call: &Call) -> Result<Option<Next>> {
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
}
