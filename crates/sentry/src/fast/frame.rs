//! A signal found its thread in a trampoline or in the stub: its frame is made to say what a system call at the site would have left, so that handlers,
//! unwinders and longjmp(3) know nothing of the fast path. A call there has either not begun, or is over: nothing stays in a slot.

use casemate_platform::channel::{Channel, DONE, FREE, TAKEN};
use casemate_platform::fast::{self, Stage};
use casemate_platform::line;
use casemate_platform::notify::Call;

use super::slots::Slot;
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::signals::Set;
use crate::kernel::task::Restart;
use crate::memory::{Address, Memory, word};

/// General registers in `struct ucontext`, from r8 on.
const REGISTERS: u64 = 40;
const R8: u64 = 40;
const R9: u64 = 48;
const R10: u64 = 56;
const R11: u64 = 64;
const RDI: u64 = 104;
const RSI: u64 = 112;
const RBX: u64 = 128;
const RDX: u64 = 136;
const RAX: u64 = 144;
const RCX: u64 = 152;
const RIP: u64 = 168;

const YIELD: u64 = libc::SYS_sched_yield as u64;

/// What the frame is to say.
enum Found {
    /// The call has not begun: number and the trampoline's own system call.
    Before(u64, u64),
    /// It waits: the same.
    Waiting(u64, u64),
    /// It is over: the result, and that address.
    After(i64, u64),
}

struct Frame {
    memory: Memory,
    context: Address,
    registers: [u8; 136],
}

impl Frame {
    fn read(call: &Call) -> Result<Self> {
        let memory = Memory { tid: call.tid };
        let context = Address(call.args[2]);
        let mut registers = [0; 136];
        memory.read(context.offset(REGISTERS), &mut registers)?;
        Ok(Self {
            memory,
            context,
            registers,
        })
    }

    fn get(&self, register: u64) -> u64 {
        word(&self.registers, (register - REGISTERS) as usize)
    }

    fn set(&self, register: u64, value: u64) -> Result<()> {
        self.memory.write_u64(self.context.offset(register), value)
    }
}

impl Kernel {
    /// Whether the trap flag stopped its thread behind an instruction of ours. To such a program a call is one instruction: the trap comes behind it. Told
    /// of ours, its frame set back to the site each time, it would never come to an end of the call.
    pub fn steps_in_stub(&self, call: &Call) -> Result<bool> {
        let space = self.task(call.tid)?.space.lock();
        if !space.has_sites() {
            return Ok(false);
        }
        let ip = Frame::read(call)?.get(RIP);
        Ok(space.trampoline_at(ip).is_some() || fast::stage(ip).is_some())
    }

    /// Before anything else is decided on a frame. `is_fault`: an instruction there faulted; true if that was the stub's, and is settled.
    pub fn settle_frame(&mut self, call: &Call, is_fault: bool) -> Result<bool> {
        let task = self.task(call.tid)?;
        let space = task.space.lock();
        if !space.has_sites() {
            return Ok(false);
        }
        let frame = Frame::read(call)?;
        let ip = frame.get(RIP);
        if let Some((slow, site)) = space.trampoline_at(ip) {
            // Behind its own system call, that is over; before, nothing is.
            let is_over = ip > slow;
            frame.set(RIP, if is_over { site + fast::AFTER } else { site })?;
            return Ok(false);
        }
        let Some(stage) = fast::stage(ip) else {
            return Ok(false);
        };
        let pending = &self.process(task.pid)?.pending;
        let has_signal = task.deliverable(pending) != Set::default();
        let found = found(&frame, stage, task.slot.as_ref(), is_fault)?;
        // A read that waited is interrupted as any other, where it is by a signal: whether it is made again, that decides (`deliver`).
        let (found, interrupted) = match found {
            Found::Waiting(nr, slow) if has_signal && !is_fault => {
                let result = -i64::from(libc::EINTR);
                (Found::After(result, slow), Some(nr as i32))
            }
            Found::Waiting(nr, slow) => (Found::Before(nr, slow), None),
            other => (other, None),
        };
        let slow = match found {
            Found::Before(_, slow) | Found::Waiting(_, slow) | Found::After(_, slow) => slow,
        };
        let site = space.site_of(slow).ok_or(Errno::EFAULT)?;
        match found {
            // A fault at the program's own pointer: the host's call tells what that means.
            Found::Before(nr, slow) if is_fault => {
                frame.set(RAX, nr)?;
                frame.set(RIP, slow)?;
            }
            Found::Before(nr, _) | Found::Waiting(nr, _) => {
                frame.set(RAX, nr)?;
                frame.set(RIP, site)?;
            }
            Found::After(result, _) => {
                frame.set(RAX, result.cast_unsigned())?;
                frame.set(RIP, site + fast::AFTER)?;
            }
        }
        drop(space);
        if let Some(nr) = interrupted {
            self.task_mut(call.tid)?.interrupted = Some((nr, Restart::IfAsked));
        }
        Ok(is_fault)
    }
}

fn found(frame: &Frame, stage: Stage, slot: Option<&Slot>, is_fault: bool) -> Result<Found> {
    let (rax, rcx) = (frame.get(RAX), frame.get(RCX));
    Ok(match stage {
        Stage::Untouched => Found::Before(rax, rcx),
        Stage::Futex => Found::Before(libc::SYS_futex.cast_unsigned(), rcx),
        Stage::Moved => Found::Before(rax, rcx.wrapping_sub(fast::AFTER)),
        Stage::Shifted => Found::Before(rax, rcx >> 16),
        Stage::Packed => Found::Before(rcx & 0xFFFF, rcx >> 16),
        Stage::Timed => {
            frame.set(RDX, frame.get(R11))?;
            Found::Before(YIELD, rcx)
        }
        Stage::Told => Found::Before(YIELD, rcx),
        Stage::Yield => Found::Before(YIELD, rcx >> 16),
        Stage::Finished => Found::After(rax.cast_signed(), rcx.wrapping_sub(fast::AFTER)),
        Stage::Saved => {
            let slot = slot.ok_or(Errno::EFAULT)?;
            let packed = slot.channel.packed(slot.index);
            Found::Before(packed & 0xFFFF, packed >> 16)
        }
        // Nothing happened but that memory, or a file, which the call is to fill, may hold some of it.
        Stage::Looking | Stage::Sought | Stage::Answered => {
            let slot = slot.ok_or(Errno::EFAULT)?;
            let is_over =
                stage == Stage::Answered || stage == Stage::Sought && rax == frame.get(R10);
            arguments_back(frame, slot)?;
            frame.set(R9, slot.channel.offered(slot.index).args[5])?;
            let packed = slot.channel.packed(slot.index);
            if is_over {
                Found::After(slot.channel.finished(slot.index).0, packed >> 16)
            } else {
                Found::Before(packed & 0xFFFF, packed >> 16)
            }
        }
        Stage::Kept | Stage::Copying => {
            let slot = slot.ok_or(Errno::EFAULT)?;
            kept(frame, stage, slot, is_fault)?
        }
        Stage::Calling | Stage::Called => {
            let slot = slot.ok_or(Errno::EFAULT)?;
            frame.set(RBX, slot.channel.kept(slot.index))?;
            // Without a result in the slot, it is the call's own.
            if stage == Stage::Called && slot.channel.state(slot.index) != DONE {
                slot.channel.finish(slot.index, rax.cast_signed(), 0);
                slot.channel.set_state(slot.index, DONE);
            }
            kept(frame, stage, slot, is_fault)?
        }
        Stage::LineKept
        | Stage::LineFilling
        | Stage::LineFilled
        | Stage::LineReading
        | Stage::LineSeen
        | Stage::LineOver => of_line(frame, stage, slot.ok_or(Errno::EFAULT)?)?,
    })
}

/// The first five arguments' registers, as the slot tells them.
fn arguments_back(frame: &Frame, slot: &Slot) -> Result<()> {
    let [rdi, rsi, rdx, r10, r8, _] = slot.channel.offered(slot.index).args;
    for (register, value) in [(RDI, rdi), (RSI, rsi), (RDX, rdx), (R10, r10), (R8, r8)] {
        frame.set(register, value)?;
    }
    Ok(())
}

/// A line's call: what its stage leaves undecided, the box's word tells, or the one that the stub had from there.
fn of_line(frame: &Frame, stage: Stage, slot: &Slot) -> Result<Found> {
    let (channel, index) = (&slot.channel, slot.index);
    arguments_back(frame, slot)?;
    let packed = channel.packed(index);
    let (nr, slow) = (packed & 0xFFFF, packed >> 16);
    let word = frame.get(RAX) as u32;
    let is_over = match stage {
        Stage::LineFilling => {
            channel.take_back(index);
            false
        }
        Stage::LineFilled => Channel::was_granted(word),
        Stage::LineReading if channel.leave_read(index) == line::Found::Waiting => {
            return Ok(Found::Waiting(nr, slow));
        }
        Stage::LineSeen => word == channel.line_seen(index),
        Stage::LineOver => true,
        _ => false,
    };
    if !is_over {
        return Ok(Found::Before(nr, slow));
    }
    // Whoever sleeps there may not have been woken yet.
    if let Some(target) = channel.box_of_writer(index) {
        channel.wake_reader(target);
    }
    Ok(Found::After(channel.finished(index).0, slow))
}

/// The slot tells how far the call is; registers that the stub used come back from there.
fn kept(frame: &Frame, stage: Stage, slot: &Slot, is_fault: bool) -> Result<Found> {
    let (channel, index) = (&slot.channel, slot.index);
    let state = channel.state(index);
    let offered = channel.offered(index);
    let packed = channel.packed(index);
    frame.set(RDI, offered.args[0])?;
    frame.set(RSI, offered.args[1])?;
    // TAKEN, with the kernel held: served, and its end left to this (`server`).
    if state != DONE && state != TAKEN {
        channel.set_state(index, FREE);
        return Ok(Found::Before(packed & 0xFFFF, packed >> 16));
    }
    let (mut result, out) = channel.finished(index);
    if is_fault && stage == Stage::Copying {
        result = -i64::from(libc::EFAULT);
    } else if out > 0 {
        let mut bytes = vec![0; out];
        channel.read_data(index, 0, &mut bytes);
        if frame
            .memory
            .write(Address(channel.out(index)), &bytes)
            .is_err()
        {
            result = -i64::from(libc::EFAULT);
        }
    }
    channel.set_state(index, FREE);
    Ok(Found::After(result, packed >> 16))
}
