//! A traced thread's system call, made at an instruction of the stub; and what becomes of its children.

use casemate_platform::loader;

use super::frame::{FLAGS, Frame, RAX, RCX, RDI, RIP, TRAP_FLAG};
use super::{
    EVENT_CLONE, EVENT_FORK, EVENT_STOP, EVENT_VFORK, TRACE_CLONE, TRACE_FORK, TRACE_VFORK, Traced,
};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::bind::CLONE_VM;
use crate::kernel::signals::{Info, SIGSTOP};
use crate::syscalls::clone::{CLONE_VFORK, CSIGNAL};

const CLONE_PTRACE: u64 = 0x2000;
const CLONE_UNTRACED: u64 = 0x80_0000;
const SIGCHLD: u64 = libc::SIGCHLD as u64;

/// A call on its way, and what the registers are to be when it is over.
#[derive(Debug, Clone, Default)]
pub struct InCall {
    pub nr: i64,
    /// The instruction behind the program's.
    pub after: u64,
    /// The first argument, where the call is made with another.
    first: Option<u64>,
    /// clone(2)'s, as the program asked for them; 0: it makes no child.
    clone_flags: u64,
    /// It executed a program, which begins at `after`.
    pub has_executed: bool,
    /// A signal's frame was left: registers are what that said.
    pub has_returned: bool,
    /// This is the child's side.
    pub is_child: bool,
}

impl InCall {
    /// Of a program that is about to begin.
    #[must_use]
    pub fn executed(entry: u64) -> Self {
        Self {
            nr: libc::SYS_execve,
            after: entry,
            has_executed: true,
            ..Self::default()
        }
    }

    /// Has the frame make call `nr`. A parent that the host held up for its vfork(2)ed child could not stop before that: the sentry holds it, and a child without a
    /// stack of its own gets a copy of the memory in place of it, since its frames would lie where its parent's do.
    pub fn begin(frame: &mut Frame, nr: i64) -> Result<Self> {
        let mut own = Self {
            nr,
            after: frame.get(RIP),
            ..Self::default()
        };
        let mut made = nr;
        match nr {
            libc::SYS_fork => own.clone_flags = SIGCHLD,
            libc::SYS_vfork => {
                own.clone_flags = CLONE_VFORK | CLONE_VM | SIGCHLD;
                made = libc::SYS_fork;
            }
            libc::SYS_clone => {
                let [flags, stack, ..] = frame.arguments();
                own.clone_flags = flags & 0xFFFF_FFFF;
                let plain = without_vfork(own.clone_flags, stack);
                if plain != flags {
                    own.first = Some(flags);
                    frame.set(RDI, plain)?;
                }
            }
            _ => {}
        }
        frame.set(RAX, made.cast_unsigned())?;
        frame.set(RIP, loader::traced_call())?;
        frame.set(FLAGS, frame.get(FLAGS) & !TRAP_FLAG)?;
        Ok(own)
    }

    /// The call is over: the registers are what its own instruction would have left.
    pub fn end(&self, frame: &mut Frame) -> Result<()> {
        frame.set(RIP, self.after)?;
        if self.has_executed {
            return frame.set(RAX, 0);
        }
        if let Some(first) = self.first {
            frame.set(RDI, first)?;
        }
        frame.set(RCX, self.after)?;
        frame.set(super::frame::R11, frame.get(FLAGS))
    }

    #[must_use]
    pub fn makes_child(&self) -> bool {
        self.clone_flags != 0
    }

    #[must_use]
    pub fn waits_for_child(&self) -> bool {
        self.clone_flags & CLONE_VFORK != 0
    }

    /// Which event the child is, and the option that asks for it. Linux: kernel_clone().
    #[must_use]
    pub fn event(&self) -> (i32, u32) {
        if self.clone_flags & CLONE_VFORK != 0 {
            (EVENT_VFORK, TRACE_VFORK)
        } else if self.clone_flags & CSIGNAL != SIGCHLD {
            (EVENT_CLONE, TRACE_CLONE)
        } else {
            (EVENT_FORK, TRACE_FORK)
        }
    }
}

/// The flags by which the host does not hold up the creator.
fn without_vfork(flags: u64, stack: u64) -> u64 {
    if flags & CLONE_VFORK == 0 {
        flags
    } else if stack == 0 {
        flags & !(CLONE_VFORK | CLONE_VM)
    } else {
        flags & !CLONE_VFORK
    }
}

impl Kernel {
    /// A traced thread makes a clone whose flags lie in memory: notes them. Those that the host is to get.
    pub fn note_clone(&mut self, tid: i32, flags: u64, exit_signal: u64, stack: u64) -> u64 {
        let Some(own) = self
            .traced_mut(tid)
            .and_then(|traced| traced.in_call.as_mut())
        else {
            return flags;
        };
        if own.nr == libc::SYS_clone3 {
            own.clone_flags = flags & !CSIGNAL | exit_signal;
        }
        without_vfork(flags, stack)
    }

    /// What is kept of a child that a traced thread makes, whether or not its tracer is to have it too. Linux: ptrace_init_task().
    #[must_use]
    pub fn traced_child(&self, creator: i32) -> Option<Box<Traced>> {
        let traced = self.traced(creator)?;
        let own = traced.in_call.as_ref().filter(|own| own.makes_child())?;
        let (_, option) = own.event();
        let is_followed = own.clone_flags & CLONE_UNTRACED == 0
            && (traced.has(option) || own.clone_flags & CLONE_PTRACE != 0);
        let mut child = Traced {
            original: -1,
            in_call: Some(InCall {
                is_child: true,
                ..own.clone()
            }),
            ..Traced::default()
        };
        if is_followed {
            child.tracer = traced.tracer;
            child.options = traced.options;
            child.is_seized = traced.is_seized;
            child.sees_all = traced.sees_all;
            child.wants_stop = traced.is_seized;
        }
        Some(Box::new(child))
    }

    /// A child that is on the books now: its tracer is to have it from its first instruction on.
    pub fn begin_child(&mut self, tid: i32) {
        let Some(traced) = self.traced(tid).filter(|traced| traced.tracer.is_some()) else {
            return;
        };
        let is_seized = traced.is_seized;
        self.tracees.push(tid);
        if !is_seized && let Ok(task) = self.task_mut(tid) {
            task.pending.add(Info::new(SIGSTOP, 0));
        }
    }

    /// Whether a vfork(2)ed child lives in what is its creator's still.
    #[must_use]
    pub fn holds_creator(&self, child: i32) -> bool {
        self.process(child)
            .is_ok_and(|process| !process.is_zombie() && !process.has_executed)
    }

    /// It executed a program, or ended.
    pub fn let_creators_go(&self) {
        if !self.tracees.is_empty() {
            self.vfork_queue.wake();
        }
    }
}

/// What a stop's siginfo says, of a stop that no signal caused. Linux: ptrace_notify(), ptrace_do_notify().
#[must_use]
pub fn stop_info(code: i32, (tid, uid): (i32, u32)) -> Info {
    let signal = if code >> 8 == EVENT_STOP {
        code & 0x7F
    } else {
        libc::SIGTRAP
    };
    Info::from_sender(signal, code, tid, uid)
}
