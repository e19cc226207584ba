//! Delivering signals: the host's kernel has built a frame for a kick or a fault; this decides what runs on it. signal(7), sigreturn(2).

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use casemate_platform::fast::SYSCALL;
use casemate_platform::loader::{
    self, COMMANDS, EXECUTE, KICK, KICK_ON_ALTERNATE_STACK, LET_CALLS, LOADER_FD, Nested, RETURN,
};
use casemate_platform::notify::Call;

use super::Kernel;
use super::signals::{
    Action, Default_, Info, SA_NODEFER, SA_RESETHAND, SA_RESTART, SIG_DFL, SIG_IGN, Set,
    default_action,
};
use super::task::{Owed, Restart};
use super::wake::WaitQueue;
use crate::errno::{Errno, Result};
use crate::fast::patch::Step;
use crate::memory::{Address, Memory};

/// Offsets in `struct ucontext` of x86-64. arch/x86/include/uapi/asm/sigcontext.h.
pub(super) const RDI: u64 = 104;
pub(super) const RSI: u64 = 112;
pub(super) const RAX: u64 = 144;
pub(super) const RIP: u64 = 168;
const MASK: u64 = 296;
pub(super) const SYSCALL_INSTRUCTION: u64 = 2;
/// Looks at a thread that is about to sleep: far more than it needs.
const MOST_LOOKS: u32 = 100_000;

/// What the asking thread does next.
#[derive(Debug)]
pub enum Next {
    Answer(i64),
    /// It is held until its process continues, or there is something to look at.
    Hold,
    HoldOn(Arc<WaitQueue>),
    /// Its process has ended.
    Gone,
}

/// Whether a call is the rt_sigreturn(2) of a frame that no handler ran on, of which the program knows nothing.
#[must_use]
pub fn leaves_frame(call: &Call) -> bool {
    i64::from(call.nr) == libc::SYS_rt_sigreturn && call.ip == loader::frame_left()
}

impl Kernel {
    /// A thread's stub asks (`magic::DELIVER`): the native signal, its siginfo and ucontext are in the arguments.
    pub fn stub_asks(&mut self, call: &Call) -> Result<Next> {
        if self.task(call.tid)?.traced.is_some() {
            return self.traced_asks(call);
        }
        let native = call.args[0] as i32;
        let is_fault = native != KICK && native != KICK_ON_ALTERNATE_STACK;
        if is_fault {
            if native == libc::SIGTRAP && self.steps_in_stub(call)? {
                return self.leave_frame(call);
            }
            return if self.settle_frame(call, true)? {
                self.leave_frame(call)
            } else {
                self.fault(call)
            };
        }
        let tid = call.tid;
        let task = self.task_mut(tid)?;
        task.is_kicked = false;
        if task.image.is_some() {
            return self.execute_loader(call);
        }
        if self.is_within_frame(call)? {
            return Ok(Next::Answer(RETURN));
        }
        self.settle_frame(call, false)?;
        let step = self.next_of_plan(call)?;
        if step == Some(Step::Commands) {
            return Ok(Next::Answer(COMMANDS));
        }
        if self.put_registers(call)? {
            self.look_again(tid);
            return self.leave_frame(call);
        }
        if step.is_some() {
            // A signal that came meanwhile gets a frame of its own: on the stack that its handler wants.
            if self.process_of(tid)?.is_stopped {
                self.kick(tid);
            }
            self.look_again(tid);
            return self.leave_frame(call);
        }
        loop {
            if self.process_of(tid)?.is_stopped {
                return Ok(Next::Hold);
            }
            let pid = self.task(tid)?.pid;
            let process = self.processes.get_mut(&pid).ok_or(Errno::ESRCH)?;
            let task = self.tasks.get_mut(&tid).ok_or(Errno::ESRCH)?;
            let ready = task.deliverable(&process.pending);
            let Some(mut info) = task.take_signal(&mut process.pending, ready) else {
                self.restart(call, None)?;
                if let Some(mask) = self.task_mut(tid)?.saved_mask.take() {
                    self.task_mut(tid)?.mask = mask;
                    // A signal that only the call's own mask held back.
                    self.look_again(tid);
                }
                return self.leave_frame(call);
            };
            let action = process.actions.lock().get(info.signal);
            self.signal_taken(pid, &mut info);
            match action.handler {
                SIG_IGN => {}
                SIG_DFL => match default_action(info.signal) {
                    Default_::Ignore | Default_::Continue => {}
                    _ if pid == 1 => {}
                    Default_::Stop => self.stop(pid, info.signal),
                    Default_::Terminate => {
                        self.terminate(pid, info.signal);
                        return Ok(Next::Gone);
                    }
                    Default_::Core => {
                        self.terminate(pid, info.signal | 0x80);
                        return Ok(Next::Gone);
                    }
                },
                _ => {
                    self.restart(call, Some(action))?;
                    self.end_native_wait(call, action)?;
                    return self.enter_handler(call, &info, action);
                }
            }
        }
    }

    /// The thread's stub is to execute the loader. From here on no signal is sent to its process, until the loader has handlers for them (`loader_asks`).
    pub(super) fn execute_loader(&mut self, call: &Call) -> Result<Next> {
        let loader = self.loader.clone();
        self.listener
            .give_fd(call.id, loader.as_fd(), LOADER_FD, false)?;
        self.leave_mask(call)?;
        self.process_of_mut(call.tid)?.is_loading = true;
        Ok(Next::Answer(EXECUTE))
    }

    /// Whether a kick found its thread in the stub's handler of another frame, of which the program is to know nothing, and whose call it would make anew: a
    /// fault and a kick that come at once give two frames. Nothing is done on this one; the kick is made again when the other is dealt with.
    pub(super) fn is_within_frame(&mut self, call: &Call) -> Result<bool> {
        let memory = Memory { tid: call.tid };
        let context = Address(call.args[2]);
        match loader::nested(memory.read_u64(context.offset(RIP))?) {
            None => return Ok(false),
            Some(Nested::Answered) => {
                let answer = memory.read_u64(context.offset(RAX))?;
                if answer.cast_signed() > LET_CALLS {
                    // About to enter a handler: it is there already.
                    let siginfo = Address(memory.read_u64(context.offset(RSI))?);
                    memory.write_u64(context.offset(RDI), memory.read_u32(siginfo)?.into())?;
                    memory.write_u64(context.offset(RIP), answer)?;
                    return Ok(false);
                }
            }
            Some(Nested::Within) => {}
        }
        self.put_off(call)?;
        Ok(true)
    }

    /// Nothing is done on a kick's frame, nor is what it was for forgotten.
    pub(super) fn put_off(&mut self, call: &Call) -> Result<()> {
        self.task_mut(call.tid)?.owed = Owed::Behind;
        self.leave_mask(call)
    }

    /// Nothing more is done on the frame.
    pub(super) fn leave_frame(&self, call: &Call) -> Result<Next> {
        self.leave_mask(call)?;
        Ok(Next::Answer(RETURN))
    }

    /// No handler runs on the frame: the mask to return to is the one that is.
    fn leave_mask(&self, call: &Call) -> Result<()> {
        let context = Address(call.args[2]);
        let mask = self.task(call.tid)?.mask.0;
        Memory { tid: call.tid }.write_u64(context.offset(MASK), mask)
    }

    /// A fault of the program's own: the frame tells all of it.
    fn fault(&mut self, call: &Call) -> Result<Next> {
        let memory = Memory { tid: call.tid };
        let mut bytes = [0; 128];
        memory.read(Address(call.args[1]), &mut bytes)?;
        let info = Info::from_bytes(&bytes);
        let task = self.task(call.tid)?;
        let (pid, is_blocked) = (task.pid, task.mask.has(info.signal));
        let action = self.process(pid)?.actions.lock().get(info.signal);
        // Linux: force_sig_info(): a fault that is blocked or ignored kills.
        if is_blocked || action.handler == SIG_DFL || action.handler == SIG_IGN {
            let core = if default_action(info.signal) == Default_::Core {
                0x80
            } else {
                0
            };
            self.terminate(pid, info.signal | core);
            return Ok(Next::Gone);
        }
        self.enter_handler(call, &info, action)
    }

    /// Makes the frame the program's: the mask to return to, the siginfo; and answers the handler's address.
    pub(super) fn enter_handler(
        &mut self,
        call: &Call,
        info: &Info,
        action: Action,
    ) -> Result<Next> {
        let memory = Memory { tid: call.tid };
        let (siginfo, context) = (Address(call.args[1]), Address(call.args[2]));
        let task = self.tasks.get_mut(&call.tid).ok_or(Errno::ESRCH)?;
        let pid = task.pid;
        self.trace.signal((pid, task.tid), info.signal);
        let return_to = task.saved_mask.take().unwrap_or(task.mask);
        let own = if action.flags & SA_NODEFER == 0 {
            Set::default().with(info.signal)
        } else {
            Set::default()
        };
        task.mask = task.mask.union(action.mask).union(own).as_mask();
        memory.write_u64(context.offset(MASK), return_to.0)?;
        let is_fault = call.args[0] as i32 == info.signal;
        if !is_fault {
            memory.write(siginfo, &info.to_bytes())?;
        }
        if action.flags & SA_RESETHAND != 0 {
            let reset = Action {
                handler: SIG_DFL,
                ..action
            };
            self.process_mut(pid)?
                .actions
                .lock()
                .set(info.signal, reset);
        }
        self.look_again(call.tid);
        Ok(Next::Answer(action.handler.cast_signed()))
    }

    /// The interrupted call is made again if it should be: the frame then returns to its instruction.
    fn restart(&mut self, call: &Call, handler: Option<Action>) -> Result<()> {
        let task = self.task_mut(call.tid)?;
        let Some((nr, restart)) = task.interrupted.take() else {
            return Ok(());
        };
        let again = match (restart, handler) {
            (Restart::Never, _) => false,
            (_, None) => true,
            (Restart::IfAsked, Some(action)) => action.flags & SA_RESTART != 0,
            (Restart::WithoutHandler | Restart::Uninterruptible, Some(_)) => false,
        };
        if !again || handler.is_some() {
            task.carried = None;
        }
        if !again {
            return Ok(());
        }
        let memory = Memory { tid: call.tid };
        let context = Address(call.args[2]);
        let ip = memory.read_u64(context.offset(RIP))?;
        memory.write_u64(context.offset(RIP), ip.wrapping_sub(SYSCALL_INSTRUCTION))?;
        memory.write_u64(context.offset(RAX), u64::from(nr.cast_unsigned()))
    }

    /// A futex(2) that waited natively is about to be made again, since kicks have SA_RESTART: not where the handler has none. sem_wait(3) counts on that.
    /// Of a wait that had only been about to begin this is no worse: EINTR may be spurious.
    pub(super) fn end_native_wait(&self, call: &Call, action: Action) -> Result<()> {
        /// Bits of the operation that are none: FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME.
        const FLAGS: u32 = 0x180;
        const WAITS: [u32; 2] = [0, 9];
        if action.flags & SA_RESTART != 0 {
            return Ok(());
        }
        let memory = Memory { tid: call.tid };
        let context = Address(call.args[2]);
        if i64::from(memory.read_u32(context.offset(RAX))?) != libc::SYS_futex
            || !WAITS.contains(&(memory.read_u32(context.offset(RSI))? & !FLAGS))
        {
            return Ok(());
        }
        let ip = memory.read_u64(context.offset(RIP))?;
        let mut bytes = [0; SYSCALL_INSTRUCTION as usize];
        let is_call = self.task(call.tid)?.space.lock().is_site(ip)
            || memory.read(Address(ip), &mut bytes).is_ok() && bytes == SYSCALL;
        if !is_call {
            return Ok(());
        }
        memory.write_u64(context.offset(RIP), ip.wrapping_add(SYSCALL_INSTRUCTION))?;
        memory.write_u64(
            context.offset(RAX),
            (-i64::from(libc::EINTR)).cast_unsigned(),
        )
    }

    /// Kicks the thread once more if there is something that it may take now.
    pub fn look_again(&mut self, tid: i32) {
        let Some(task) = self.tasks.get_mut(&tid) else {
            return;
        };
        let owes = task.owed == Owed::Now;
        if owes {
            task.owed = Owed::Nothing;
        }
        // A traced thread's reasons are all told below; another's may be more than a signal (a stop, a plan).
        if owes && task.traced.is_none() {
            return self.kick(tid);
        }
        let Ok(task) = self.task(tid) else { return };
        let Ok(process) = self.process(task.pid) else {
            return;
        };
        let is_wanted = task.traced.as_ref().is_some_and(|own| own.has_reason());
        if is_wanted || task.deliverable(&process.pending) != Set::default() {
            self.kick(tid);
        }
    }

    /// rt_sigreturn(2): takes the mask back from the frame, before the host's kernel restores the rest of it.
    pub fn return_from_frame(&mut self, call: &Call) -> Result<()> {
        let tid = call.tid;
        let memory = Memory { tid };
        let context = Address(self.stack_pointer(tid)?);
        let mask = memory.read_u64(context.offset(MASK))?;
        // The native mask stays empty, so that kicks always arrive.
        memory.write_u64(context.offset(MASK), 0)?;
        // Without a handler it is as it was, also for whoever jumps there to set a mask that its filters would not let it.
        let is_stubs = leaves_frame(call);
        let is_loading = self.process_of(tid)?.is_loading;
        if is_stubs && is_loading && self.task_mut(tid)?.image.take().is_some() {
            // The host refused to execute the loader: the frame says why.
            self.process_of_mut(tid)?.is_loading = false;
        }
        let task = self.task_mut(tid)?;
        if !is_stubs {
            task.mask = Set(mask).as_mask();
        } else if task.owed == Owed::Behind {
            task.owed = Owed::Now;
            return Ok(());
        }
        let owes = task.owed == Owed::Now;
        if let Some(traced) = self.traced_mut(tid) {
            traced.leave_handler(is_stubs);
            self.put_away(tid);
            self.look_again(tid);
        } else if owes || !self.begin_rest(tid) {
            self.look_again(tid);
        }
        Ok(())
    }

    /// The stack pointer of a thread that waits in a call: the last but one word of /proc/TID/syscall.
    pub fn stack_pointer(&mut self, tid: i32) -> Result<u64> {
        let file = match &self.task(tid)?.registers {
            Some(file) => file.clone(),
            None => {
                let file = Arc::new(crate::host::openat(
                    &self.host_proc,
                    format!("{tid}/syscall"),
                    OFlags::RDONLY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?);
                self.task_mut(tid)?.registers = Some(Arc::clone(&file));
                file
            }
        };
        // The thread has asked, but may not have left its processor yet: until then the host says "running".
        for _ in 0..MOST_LOOKS {
            let mut bytes = [0; 256];
            let count = crate::host::pread(&*file, &mut bytes, 0)?;
            if let Some(pointer) = last_but_one(&bytes[..count]) {
                return Ok(pointer);
            }
            crate::host::pause();
        }
        Err(Errno::EFAULT)
    }
}

/// The last but one word of the line, in hexadecimal.
fn last_but_one(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.split_whitespace().rev().nth(1)?.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok()
}
