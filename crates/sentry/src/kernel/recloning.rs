//! Clones that the host must not make as they stand: CLONE_PIDFD of clone(2), whose descriptor would be the host's, a signal of the child's end other than
//! SIGCHLD, which the host would send itself, and clone3(2), whose flags lie in memory.
//! So the thread is brought to make a plain clone instead, at an instruction of the stub, with registers that the sentry puts into a signal's frame.
//! All that a program can do to the frame meanwhile is to change its own registers: the plain clone is checked as any other.
//!
//! Where each side has a stack to itself, what they return to is left there (`crates/platform/src/clone3.s`). Else, and where the creator is to get a
//! descriptor, both sides ask (`magic::CLONED`) for the registers that they had.

use std::sync::Arc;

use casemate_platform::loader;
use casemate_platform::notify::Call;

use super::Kernel;
use super::bind::{CLONE_PARENT, CLONE_THREAD, CLONE_VM};
use super::deliver::{RAX, RDI, RIP, RSI, SYSCALL_INSTRUCTION};
use crate::errno::{Errno, Result};
use crate::fast::space::{Clones, Space};
use crate::memory::{Address, Memory, word};
use crate::syscalls::clone::{CLONE_PIDFD, CSIGNAL};
use crate::syscalls::{Outcome, SysResult};
use crate::vfs::description::Description;
use crate::vfs::pidfd::{PidFd, THREAD};

/// Offsets in `struct ucontext`, as in `deliver`.
const R8: u64 = 40;
const R10: u64 = 56;
const RDX: u64 = 136;
const RSP: u64 = 160;
/// Of the general registers, from r8 to rip.
const REGISTERS_LEN: usize = (RIP + 8 - R8) as usize;
/// Traps after which a site of clone3 is patched. The first: it costs a frame in any case, and later there may be threads (`fast::patch`).
const OFTEN: u32 = 1;

/// Registers as a frame has them: offset and value.
type Registers = Vec<(u64, u64)>;

/// A clone on its way: what the program asked for, and the registers to return to.
#[derive(Debug, Clone)]
pub struct Recloning {
    /// As clone(2) takes them, without CLONE_PIDFD. The signal among them is the host's: SIGCHLD, which it ignores, or none for what is no process's child.
    pub flags: u64,
    pub exit_signal: u64,
    /// Where the child's stack begins; 0: its creator's.
    pub stack: u64,
    pub parent_tid: u64,
    pub child_tid: u64,
    pub tls: u64,
    /// Where the descriptor's number goes, if there is to be one.
    pub pidfd: Option<u64>,
    /// CLONE_CLEAR_SIGHAND.
    pub clears_handlers: bool,
    /// Empty until the thread has asked.
    pub saved: Registers,
    /// The plain clone: where the host says that it is made, and its arguments.
    pub plain: (u64, [u64; 5]),
}

/// What the child of a remade clone is to be.
#[derive(Debug)]
pub struct Remade {
    /// What it returns to, if it has to ask.
    pub returning: Option<Registers>,
    pub exit_signal: u64,
    pub clears_handlers: bool,
}

impl Kernel {
    /// First step: the thread is to ask. `may_patch`: the next time, its stub may do this.
    pub fn begin_recloning(
        &mut self,
        call: &Call,
        mut recloning: Recloning,
        may_patch: bool,
    ) -> SysResult {
        let (exit_signal, stack) = (recloning.exit_signal, recloning.stack);
        recloning.flags = self.note_clone(call.tid, recloning.flags, exit_signal, stack);
        if may_patch && self.fast.patches && self.stub_may_clone(call.tid) {
            let site = call.ip.wrapping_sub(SYSCALL_INSTRUCTION);
            let task = self.task(call.tid)?;
            let counts = !task.is_from_trampoline && task.space.lock().counts(site, OFTEN);
            if counts {
                self.begin_patch(call, site);
            }
        }
        self.task_mut(call.tid)?.recloning = Some(Box::new(recloning));
        self.kick(call.tid);
        Ok(Outcome::Value(0))
    }

    /// Tells the stub that it may make clones of its own, unless a thread of the process has filters: they are to see what the program calls.
    fn stub_may_clone(&self, tid: i32) -> bool {
        let Ok(task) = self.task(tid) else {
            return false;
        };
        let mut space = task.space.lock();
        if space.clones != Clones::NotTold || space.host.is_some() {
            return space.clones == Clones::Told;
        }
        let threads = self.process(task.pid).map(|process| &process.threads);
        let is_free = threads.is_ok_and(|threads| {
            let mut tasks = threads.iter().filter_map(|tid| self.tasks.get(tid));
            tasks.all(|task| task.credentials.filters.is_none())
        });
        if is_free
            && (Memory { tid })
                .write_u32(Address(loader::CLONES), 1)
                .is_ok()
        {
            space.clones = Clones::Told;
        }
        is_free
    }

    /// A filter is to see each clone3: in this memory, for good.
    pub fn stub_may_not_clone(&mut self, tid: i32) {
        fn forbid(space: &mut Space) {
            space.clones = Clones::Never;
            if let Some(host) = &space.host {
                forbid(&mut host.lock());
            }
        }
        if let Ok(task) = self.task(tid) {
            forbid(&mut task.space.lock());
            // A process that is ending has no memory left to be wrong.
            let _ = Memory { tid }.write_u32(Address(loader::CLONES), 0);
        }
    }

    /// Second: on the frame of that, the registers of the plain clone. False: there is nothing of the kind under way.
    pub fn put_registers(&mut self, call: &Call) -> Result<bool> {
        let memory = Memory { tid: call.tid };
        let context = Address(call.args[2]);
        let task = self.task_mut(call.tid)?;
        if let Some(registers) = task.returning.take() {
            put(memory, context, &registers)?;
            return Ok(true);
        }
        let Some(recloning) = task.recloning.as_mut().filter(|it| it.saved.is_empty()) else {
            return Ok(false);
        };
        let mut frame = [0; REGISTERS_LEN];
        memory.read(context.offset(R8), &mut frame)?;
        let saved = [RDI, RSI, RDX, R10, R8, RSP, RIP];
        let saved = saved.map(|offset| (offset, word(&frame, (offset - R8) as usize)));
        recloning.saved = saved.to_vec();
        let stack = saved[5].1;
        let plainly = recloning.leave_registers(memory, stack);
        let (rip, reported, rsp, rsi) = if plainly {
            let child = recloning.stack.saturating_sub(loader::BELOW);
            let (rip, reported) = (loader::clone_plainly(), loader::cloned_plainly());
            (rip, reported, stack.wrapping_sub(loader::BELOW), child)
        } else {
            let rip = loader::clone_again();
            (rip, rip + SYSCALL_INSTRUCTION, stack, recloning.stack)
        };
        let args = [
            recloning.flags,
            rsi,
            recloning.parent_tid,
            recloning.child_tid,
            recloning.tls,
        ];
        recloning.plain = (reported, args);
        let [rdi, rsi, rdx, r10, r8] = args;
        let registers = [
            (RAX, libc::SYS_clone.cast_unsigned()),
            (RDI, rdi),
            (RSI, rsi),
            (RDX, rdx),
            (R10, r10),
            (R8, r8),
            (RSP, rsp),
            (RIP, rip),
        ];
        put(memory, context, &registers)?;
        Ok(true)
    }

    /// Third: whether this call is the plain clone of one that was judged and checked already, and what its child is to be.
    #[must_use]
    pub fn remade(&self, call: &Call) -> Option<Remade> {
        let recloning = self.tasks.get(&call.tid)?.recloning.as_ref()?;
        let (reported, args) = recloning.plain;
        if recloning.saved.is_empty() || call.ip != reported || call.args[..5] != args {
            return None;
        }
        let asks = reported == loader::clone_again() + SYSCALL_INSTRUCTION;
        Some(Remade {
            returning: asks.then(|| recloning.child_registers()),
            exit_signal: recloning.exit_signal,
            clears_handlers: recloning.clears_handlers,
        })
    }

    /// Last, on either side: the thread asks once more, and returns to its program. The creator gets its descriptor.
    pub fn cloned(&mut self, call: &Call) -> SysResult {
        let tid = call.tid;
        if let Some(recloning) = self.task_mut(tid)?.recloning.take() {
            let result = call.args[0];
            let mut registers = recloning.saved.clone();
            if registers.is_empty() {
                return Err(Errno::ENOSYS);
            }
            registers.push((RAX, result));
            if let (Ok(child), Some(at)) = (i32::try_from(result), recloning.pidfd) {
                self.bind_child_of(tid);
                // Where it goes was writable when the call began.
                let _ = self.give_pidfd(tid, child, recloning.flags, at);
            }
            self.task_mut(tid)?.returning = Some(registers);
        } else if self.task(tid)?.returning.is_none() {
            return Err(Errno::ENOSYS);
        }
        self.kick(tid);
        Ok(Outcome::Value(0))
    }

    fn give_pidfd(&mut self, tid: i32, child: i32, flags: u64, at: u64) -> Result<()> {
        let limit = self.process_of(tid)?.limits.0[libc::RLIMIT_NOFILE as usize].0;
        let (file, kept) = if flags & CLONE_THREAD != 0 {
            let file = PidFd::of_thread(self, child);
            let file = file.unwrap_or_else(|_| PidFd::of_ended_thread(child));
            (file, libc::O_RDWR | THREAD)
        } else {
            let end = match self.process(child) {
                Ok(process) => process.end.clone(),
                // It has ended, and nobody was to wait for it.
                Err(_) => Arc::new(super::exit::End::come()),
            };
            (PidFd::of_process(child, end), libc::O_RDWR)
        };
        let description = Description::new(Arc::new(file), kept.cast_unsigned());
        let files = self.task(tid)?.files.clone();
        let number = files.lock().add(description, true, 0, limit).unwrap_or(-1);
        Memory { tid }.write_i32(Address(at), number)
    }
}

impl Recloning {
    /// Of clone(2)'s flags, CLONE_PIDFD among them perhaps.
    #[must_use]
    pub fn new(flags: u64, exit_signal: u64) -> Self {
        let is_child = flags & (CLONE_THREAD | CLONE_PARENT) == 0;
        let native = if is_child { libc::SIGCHLD as u64 } else { 0 };
        Self {
            flags: flags & !(CLONE_PIDFD | CSIGNAL) | native,
            exit_signal,
            stack: 0,
            parent_tid: 0,
            child_tid: 0,
            tls: 0,
            pidfd: None,
            clears_handlers: false,
            saved: Vec::new(),
            plain: (0, [0; 5]),
        }
    }

    /// Leaves what both sides return to below their stacks, if each has its own and nobody is to get a descriptor.
    fn leave_registers(&self, memory: Memory, stack: u64) -> bool {
        if self.pidfd.is_some() || self.stack == 0 && self.flags & CLONE_VM != 0 {
            return false;
        }
        let words = self.saved.iter().filter(|(offset, _)| *offset != RSP);
        let bytes: Vec<u8> = words
            .flat_map(|(offset, value)| {
                let back = if *offset == RIP {
                    SYSCALL_INSTRUCTION
                } else {
                    0
                };
                value.wrapping_sub(back).to_le_bytes()
            })
            .collect();
        let mut stacks = vec![stack];
        stacks.extend((self.stack != 0).then_some(self.stack));
        stacks.iter().all(|top| {
            let at = Address(top.wrapping_sub(loader::BELOW));
            memory.write(at, &bytes).is_ok()
        })
    }

    fn child_registers(&self) -> Registers {
        let mut registers = self.saved.clone();
        registers.push((RAX, 0));
        if self.stack != 0 {
            registers.retain(|(offset, _)| *offset != RSP);
            registers.push((RSP, self.stack));
        }
        registers
    }
}

fn put(memory: Memory, context: Address, registers: &[(u64, u64)]) -> Result<()> {
    registers
        .iter()
        .try_for_each(|(offset, value)| memory.write_u64(context.offset(*offset), *value))
}
