//! ptrace(2): what the sentry keeps of a traced thread, and whom it tells. How a thread is stopped with all its registers: `steps`.
//!
//! docs/decisions/2026-11-29-ptrace.md.

mod begin;
mod calls;
pub mod children;
mod delivery;
pub mod ends;
pub mod frame;
mod restart;
pub mod sites;
mod steps;

use std::sync::Arc;

use casemate_platform::notify::Call;
use casemate_platform::{fast, loader};
use rustix::fs::{Mode, OFlags};

use super::Kernel;
use super::credentials::{CAP_SYS_PTRACE, Credentials};
use super::signals::{Info, SA_NOCLDSTOP, SIG_IGN, SIGCHLD};
use super::wake::WaitQueue;
use crate::errno::{Errno, Result};
use crate::fast::Space;
use crate::kernel::task::Shared;
use children::InCall;
use steps::Phase;

/// PTRACE_O_*, by bits.
pub const TRACE_SYSGOOD: u32 = 1;
pub const TRACE_FORK: u32 = 2;
pub const TRACE_VFORK: u32 = 4;
pub const TRACE_CLONE: u32 = 8;
pub const TRACE_EXEC: u32 = 0x10;
pub const TRACE_VFORK_DONE: u32 = 0x20;
pub const TRACE_EXIT: u32 = 0x40;
pub const EXIT_KILL: u32 = 0x10_0000;
/// Not PTRACE_O_TRACESECCOMP (0x80): filters inside answer SECCOMP_RET_TRACE with ENOSYS, as if nobody traced.
pub const OPTIONS: u32 = 0x7F | EXIT_KILL;

/// PTRACE_EVENT_*.
pub const EVENT_FORK: i32 = 1;
pub const EVENT_VFORK: i32 = 2;
pub const EVENT_CLONE: i32 = 3;
pub const EVENT_EXEC: i32 = 4;
pub const EVENT_VFORK_DONE: i32 = 5;
pub const EVENT_EXIT: i32 = 6;
pub const EVENT_STOP: i32 = 128;

const CLD_TRAPPED: i32 = 4;
const CLD_STOPPED: i32 = 5;

/// How a tracee was last let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    #[default]
    Continue,
    /// To the next system call, or its end.
    Call,
    Step,
}

/// What kind of stop: it decides what the tracer's signal means, and what PTRACE_GET_SYSCALL_INFO tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Entry,
    Exit,
    /// Of the signal that is about to be delivered.
    Signal,
    Other,
}

/// A stop that the tracer has not ended yet.
#[derive(Debug, Clone)]
pub struct Stop {
    pub kind: Kind,
    /// As wait(2) has it above 0x7F: a signal, and an event above that.
    pub code: i32,
    /// A group stop of a tracee that was not seized has none.
    pub info: Option<Info>,
    pub is_reported: bool,
}

impl Stop {
    fn new(kind: Kind, code: i32, info: Option<Info>) -> Self {
        Self {
            kind,
            code,
            info,
            is_reported: false,
        }
    }

    /// PTRACE_EVENT_STOP's, or a group stop's of a tracee that was not seized.
    #[must_use]
    pub fn is_of_group(&self) -> bool {
        self.code >> 8 == EVENT_STOP || self.info.is_none()
    }
}

/// Of a thread that is traced, or was: then until all is put away again.
#[derive(Debug, Default)]
pub struct Traced {
    /// The native thread that traces it.
    pub tracer: Option<i32>,
    pub options: u32,
    pub is_seized: bool,
    /// Who began it might trace anybody then. What its tracer may now is no matter: a tracer that executes a set-user-ID program gives no tracee more.
    /// Linux: ptracer_cred.
    pub sees_all: bool,
    pub resume: Resume,
    pub stop: Option<Stop>,
    pub message: u64,
    /// It stays in its group's stop, but is to tell when that ends (PTRACE_LISTEN).
    pub is_listening: bool,
    /// It is to stop soon: PTRACE_INTERRUPT, or its group's stop began or ended.
    pub wants_stop: bool,
    /// Its group's stop was told already, and the tracer let it go all the same.
    pub passed_stop: bool,
    /// What the tracer has of orig_rax, which no frame holds: the call's number, or -1.
    pub original: i64,
    /// The signal of a signal-delivery-stop, as the tracer leaves it.
    pub signal: Option<Info>,
    /// One that was told already, and that waits for a frame on the stack of its handler.
    chosen: Option<Info>,
    /// The first instruction of a handler is to be told: it was stepped into.
    stepped_in: bool,
    /// The thread's base registers are to be loaded from the frame.
    pub new_bases: bool,
    phase: Phase,
    /// Where the frame's `struct ucontext` lies, and whether the stub left the bases there.
    context: u64,
    is_told: bool,
    /// The trap flag in the frame is the tracer's.
    steps: bool,
    /// The next frame is to make the call again that `original` tells, and the call that is made by restart_syscall(2).
    restarts: bool,
    restarted: Option<i64>,
    /// The host traps its calls: what was asked for, and whether the stub is about to ask the host.
    traps: bool,
    asks_host: bool,
    pub in_call: Option<InCall>,
    /// Woken when it is to look again.
    pub queue: Arc<WaitQueue>,
}

impl Traced {
    #[must_use]
    pub fn by(tracer: i32, asker: &Credentials, options: u32, is_seized: bool) -> Self {
        Self {
            tracer: Some(tracer),
            sees_all: asker.has(CAP_SYS_PTRACE),
            options,
            is_seized,
            original: -1,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn has(&self, option: u32) -> bool {
        self.tracer.is_some() && self.options & option != 0
    }

    /// Where the program's own call is that the stub makes at `ip`, both behind the instruction.
    #[must_use]
    pub fn called_from(&self, ip: u64) -> Option<u64> {
        let own = self.in_call.as_ref()?;
        (ip == loader::traced_trap()).then_some(own.after)
    }

    /// Whether it waits for its tracer, which may look at it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.is_some() && !self.is_listening
    }

    /// Where the frame of its stop is.
    #[must_use]
    pub fn frame(&self) -> u64 {
        self.context
    }

    /// Whether it stands in a frame of its stub that the sentry is not done with: a kick would only find that.
    #[must_use]
    pub fn is_in_frame(&self) -> bool {
        self.phase != Phase::Out
    }

    /// A frame is left by rt_sigreturn(2): the stub's own, or (`is_stubs`: no) a handler's.
    pub fn leave_handler(&mut self, is_stubs: bool) {
        if is_stubs && matches!(self.phase, Phase::Leaving | Phase::Loading) {
            self.phase = Phase::Out;
        }
        // The program's own call: its end is told on the next frame.
        let own = self
            .in_call
            .as_mut()
            .filter(|own| own.nr == libc::SYS_rt_sigreturn);
        if let Some(own) = own.filter(|_| !is_stubs) {
            own.has_returned = true;
        }
    }

    /// Whether a frame is wanted.
    #[must_use]
    pub fn has_reason(&self) -> bool {
        let returned = self.in_call.as_ref().is_some_and(|own| own.has_returned);
        self.wants_stop
            || self.stepped_in
            || self.restarts
            || self.chosen.is_some()
            || returned
            || self.in_call.is_none() && self.traps != self.tracer.is_some()
    }

    /// The handler that the next frame's stack is to suit.
    #[must_use]
    pub fn next_signal(&self) -> Option<i32> {
        self.chosen.as_ref().map(|info| info.signal)
    }

    /// The host forgot with the old memory what it was to do; the new program begins at `entry`.
    fn begin_program(&mut self, entry: u64) {
        self.in_call = Some(InCall::executed(entry));
        self.phase = Phase::Loading;
        self.traps = false;
        self.asks_host = false;
        self.steps = false;
        self.restarts = false;
        self.restarted = None;
        self.chosen = None;
    }

    fn is_over(&self) -> bool {
        self.tracer.is_none()
            && self.in_call.is_none()
            && self.phase == Phase::Out
            && !self.traps
            && !self.has_reason()
    }
}

impl Kernel {
    pub fn traced(&self, tid: i32) -> Option<&Traced> {
        self.tasks.get(&tid)?.traced.as_deref()
    }

    pub fn traced_mut(&mut self, tid: i32) -> Option<&mut Traced> {
        self.tasks.get_mut(&tid)?.traced.as_deref_mut()
    }

    fn own(&mut self, tid: i32) -> Result<&mut Traced> {
        self.traced_mut(tid).ok_or(Errno::ESRCH)
    }

    /// Begins to trace a thread. What of an earlier tracer is not put away yet, is kept.
    pub fn begin_trace(&mut self, tid: i32, new: Traced) -> Result<()> {
        let task = self.task_mut(tid)?;
        let old = task.traced.take();
        task.traced = Some(Box::new(match old {
            Some(old) => Traced {
                tracer: new.tracer,
                options: new.options,
                is_seized: new.is_seized,
                sees_all: new.sees_all,
                resume: Resume::Continue,
                ..*old
            },
            None => new,
        }));
        self.tracees.push(tid);
        let task = self.task_mut(tid)?;
        if task.image.is_some()
            && let Some(traced) = task.traced.as_mut()
        {
            // What loads its program is not to be disturbed.
            traced.phase = Phase::Loading;
        }
        let process = self.process_of(tid)?;
        process.continue_queue.wake();
        if process.is_stopped {
            // Not in a call that waits, but where it can be looked at.
            self.interrupt(tid);
        } else {
            // Its calls are to trap from the next one on.
            self.kick(tid);
        }
        Ok(())
    }

    /// Has a thread make its stop known, and lets it look whether it still is to be.
    fn wake_tracee(&mut self, tid: i32) {
        if let Some(traced) = self.traced(tid) {
            traced.queue.clone().wake();
        }
    }

    /// Tells the tracer of a stop. Linux: do_notify_parent_cldstop().
    fn tell_tracer(&mut self, tid: i32) {
        let Some(tracer) = self.traced(tid).and_then(|traced| traced.tracer) else {
            return;
        };
        let Ok(task) = self.task(tid) else { return };
        let stop = task.traced.as_ref().and_then(|own| own.stop.as_ref());
        let (code, status) = match (stop, self.process(task.pid)) {
            (Some(stop), Ok(process)) if stop.is_of_group() => {
                let stopped = process.is_stopped.then_some(process.stop_signal);
                (CLD_STOPPED, stopped.unwrap_or(0))
            }
            (Some(stop), _) => (CLD_TRAPPED, stop.code & 0x7F),
            (None, _) => return,
        };
        let info = Info::child(SIGCHLD, code, task.tid, task.credentials.uid, status);
        let Ok(process) = self.process_of(tracer) else {
            return;
        };
        let pid = process.pid;
        process.child_queue.wake();
        let action = process.actions.lock().get(SIGCHLD);
        if action.flags & SA_NOCLDSTOP == 0 && action.handler != SIG_IGN {
            self.send_to_process(pid, info);
        }
    }

    /// Lets a tracee go on.
    pub fn resume_tracee(&mut self, tid: i32, how: Resume, signal: i32) {
        let from = self
            .traced(tid)
            .and_then(|traced| self.tasks.get(&traced.tracer?))
            .map_or((0, 0), |task| (task.pid, task.credentials.uid));
        let Some(traced) = self.traced_mut(tid) else {
            return;
        };
        let Some(stop) = traced.stop.take() else {
            return;
        };
        traced.resume = how;
        traced.is_listening = false;
        let given = (signal != 0).then(|| match traced.signal.take() {
            Some(info) if info.signal == signal => info,
            _ => Info::from_sender(signal, super::signals::SI_USER, from.0, from.1),
        });
        traced.signal = None;
        match stop.kind {
            Kind::Signal => traced.signal = given,
            Kind::Entry | Kind::Exit => {
                if let Some(info) = given {
                    self.send_to_thread(tid, info);
                }
            }
            Kind::Other => {}
        }
        self.wake_tracee(tid);
    }

    /// Nobody traces the thread any more.
    pub fn end_trace(&mut self, tid: i32, signal: i32) {
        self.tracees.retain(|other| *other != tid);
        self.resume_tracee(tid, Resume::Continue, signal);
        let Some(traced) = self.traced_mut(tid) else {
            return;
        };
        traced.tracer = None;
        traced.options = 0;
        traced.resume = Resume::Continue;
        traced.wants_stop = false;
        traced.stepped_in = false;
        traced.passed_stop = false;
        // A call that is being made ends in a frame by itself.
        if traced.in_call.is_none() {
            self.kick(tid);
        }
        self.put_away(tid);
    }

    /// Forgets what is kept of a thread that is traced no more, once that is nothing.
    pub(super) fn put_away(&mut self, tid: i32) {
        if self.traced(tid).is_some_and(Traced::is_over)
            && let Ok(task) = self.task_mut(tid)
        {
            task.traced = None;
        }
    }

    /// Whether this is the prctl(2) by which a stub has the host trap its thread's calls, or no longer: it concerns the caller alone, and registers say all.
    #[must_use]
    pub fn switches_traps(&self, call: &Call) -> bool {
        const SET_USER_DISPATCH: u64 = 59;
        let Some(traced) = self.traced(call.tid).filter(|traced| traced.asks_host) else {
            return false;
        };
        let expected = if traced.traps {
            [SET_USER_DISPATCH, 1, loader::BASE, loader::PAGE, 0]
        } else {
            [SET_USER_DISPATCH, 0, 0, 0, 0]
        };
        i64::from(call.nr) == libc::SYS_prctl && call.args[..5] == expected
    }

    /// Has patched sites make their calls where the host traps them, or lets the stub answer them again: as long as a thread of that memory is traced.
    fn switch_stub(&mut self, tid: i32) {
        let Ok(task) = self.task(tid) else { return };
        let space = task.space.clone();
        let wanted = self.tracees.iter().any(|other| {
            let other = self.tasks.get(other);
            other.is_some_and(|task| task.space.is(&space))
        });
        let _ = self.write_switch(tid, &space, wanted);
    }

    fn write_switch(&self, tid: i32, space: &Shared<Space>, wanted: bool) -> Result<()> {
        let mut space = space.lock();
        if space.host.is_some() || space.turns_away == wanted {
            return Ok(());
        }
        let byte = if wanted {
            fast::TURNS_AWAY
        } else {
            fast::ANSWERS
        };
        crate::host::pwrite(&self.memory_file(tid)?, &[byte], fast::switch())?;
        space.turns_away = wanted;
        Ok(())
    }

    /// A thread's memory as a debugger sees it: whatever may be read or written by it.
    pub fn memory_file(&self, tid: i32) -> Result<std::os::fd::OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let path = format!("{tid}/mem");
        Ok(crate::host::openat(
            &self.host_proc,
            path,
            flags,
            Mode::empty(),
        )?)
    }
}
