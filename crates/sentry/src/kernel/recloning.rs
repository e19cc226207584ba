//! CLONE_PIDFD of clone(2). The host must not make it: its descriptor would be the host's. So the thread is brought to make a plain clone instead, at
//! `casemate_stub_clone`, with registers that the sentry puts into a signal's frame; both sides then ask (`magic::CLONED`) for the registers that they had.
//! All that a program can do to the frame meanwhile is to change its own registers: the plain clone is checked as any other.

use std::sync::Arc;

use casemate_platform::loader;
use casemate_platform::notify::Call;

use super::Kernel;
use super::deliver::{RAX, RIP};
use crate::errno::{Errno, Result};
use crate::memory::{Address, Memory};
use crate::syscalls::{Outcome, SysResult};
use crate::vfs::description::Description;
use crate::vfs::pidfd::PidFd;

/// Offsets in `struct ucontext`, as in `deliver`.
const R8: u64 = 40;
const R10: u64 = 56;
const RDI: u64 = 104;
const RSI: u64 = 112;
const RDX: u64 = 136;
const RSP: u64 = 160;
const CLONE_PIDFD: u64 = 0x1000;

/// Registers as a frame has them: offset and value.
type Registers = Vec<(u64, u64)>;

/// A clone on its way: what the program asked for, and the registers to return to.
#[derive(Debug, Clone)]
pub struct Recloning {
    pub flags: u64,
    pub stack: u64,
    pub child_tid: u64,
    pub tls: u64,
    /// Where the descriptor's number goes.
    pub pidfd: u64,
    pub saved: Registers,
}

impl Kernel {
    /// First step: the thread is to ask.
    pub fn begin_recloning(&mut self, tid: i32, recloning: Recloning) -> SysResult {
        self.task_mut(tid)?.recloning = Some(Box::new(recloning));
        self.kick(tid);
        Ok(Outcome::Value(0))
    }

    /// Second: on the frame of that, the registers of the plain clone. False: there is nothing of the kind under way.
    pub fn put_registers(&mut self, call: &Call) -> Result<bool> {
        let memory = Memory { tid: call.tid };
        let context = Address(call.args[2]);
        let task = self.task_mut(call.tid)?;
        let put = |registers: &[(u64, u64)]| -> Result<()> {
            registers
                .iter()
                .try_for_each(|(offset, value)| memory.write_u64(context.offset(*offset), *value))
        };
        if let Some(registers) = task.returning.take() {
            put(&registers)?;
            return Ok(true);
        }
        let Some(recloning) = task.recloning.as_mut().filter(|it| it.saved.is_empty()) else {
            return Ok(false);
        };
        for offset in [RDI, RSI, RDX, R10, R8, RSP, RIP] {
            let value = memory.read_u64(context.offset(offset))?;
            recloning.saved.push((offset, value));
        }
        put(&[
            (RAX, libc::SYS_clone.cast_unsigned()),
            (RDI, recloning.flags & !CLONE_PIDFD),
            (RSI, recloning.stack),
            (RDX, 0),
            (R10, recloning.child_tid),
            (R8, recloning.tls),
            (RIP, loader::clone_again()),
        ])?;
        Ok(true)
    }

    /// Third: what the child of this very clone returns to. `None`: it is one of the program's own.
    pub fn child_returns_to(&self, call: &Call) -> Option<Registers> {
        const SYSCALL_INSTRUCTION: u64 = 2;
        let recloning = self.tasks.get(&call.tid)?.recloning.as_ref()?;
        let is_ours = call.ip == loader::clone_again() + SYSCALL_INSTRUCTION;
        if !is_ours || recloning.saved.is_empty() {
            return None;
        }
        let mut registers = recloning.saved.clone();
        registers.push((RAX, 0));
        if recloning.stack != 0 {
            registers.retain(|(offset, _)| *offset != RSP);
            registers.push((RSP, recloning.stack));
        }
        Some(registers)
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
            if let Ok(child) = i32::try_from(result) {
                self.bind_child_of(tid);
                // Where it goes was writable when the call began.
                let _ = self.give_pidfd(tid, child, recloning.pidfd);
            }
            self.task_mut(tid)?.returning = Some(registers);
        } else if self.task(tid)?.returning.is_none() {
            return Err(Errno::ENOSYS);
        }
        self.kick(tid);
        Ok(Outcome::Value(0))
    }

    fn give_pidfd(&mut self, tid: i32, child: i32, at: u64) -> Result<()> {
        let end = match self.process(child) {
            Ok(process) => process.end.clone(),
            // It has ended, and nobody was to wait for it.
            Err(_) => Arc::new(super::exit::End::come()),
        };
        let limit = self.process_of(tid)?.limits.0[libc::RLIMIT_NOFILE as usize].0;
        let file = Arc::new(PidFd::new(child, end));
        let description = Description::new(file, libc::O_RDWR.cast_unsigned());
        let files = self.task(tid)?.files.clone();
        let number = files.lock().add(description, true, 0, limit).unwrap_or(-1);
        Memory { tid }.write_i32(Address(at), number)
    }
}
