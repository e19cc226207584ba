//! The programs' own seccomp filters: classic BPF over `struct seccomp_data`, checked as Linux checks it and evaluated before a call is dispatched.
//! Calls that the host answers itself (`casemate_platform::filter::NATIVE`) never come here and are not filtered. Linux: kernel/seccomp.c, net/core/filter.c.

use std::sync::Arc;

use crate::errno::{Errno, Result};

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// A filter and those installed before it.
#[derive(Debug, PartialEq, Eq)]
pub struct Chain {
    program: Vec<Instruction>,
    older: Option<Arc<Self>>,
    /// Instructions of the whole chain, and 4 for each filter but the newest.
    cost: usize,
}

/// Linux: BPF_MAXINSNS, MAX_INSNS_PER_PATH.
pub const MOST_INSTRUCTIONS: usize = 4096;
const MOST_IN_ALL: usize = (1 << 18) / 8;
/// Bytes of `struct seccomp_data`.
const DATA: usize = 64;
const MEMORY: usize = 16;

pub const KILL_PROCESS: u32 = 0x8000_0000;
pub const KILL_THREAD: u32 = 0;
pub const TRAP: u32 = 0x0003_0000;
pub const ERRNO: u32 = 0x0005_0000;
pub const USER_NOTIF: u32 = 0x7FC0_0000;
pub const TRACE: u32 = 0x7FF0_0000;
pub const LOG: u32 = 0x7FFC_0000;
pub const ALLOW: u32 = 0x7FFF_0000;
pub const ACTION: u32 = 0xFFFF_0000;

const CLASS: u16 = 0x07;
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const ABS: u16 = 0x20;
const IMM: u16 = 0x00;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const X: u16 = 0x08;

impl Chain {
    /// Puts a checked program before `older`. `EINVAL` as Linux's checkers say, `ENOMEM` if there are too many.
    pub fn new(program: Vec<Instruction>, older: Option<Arc<Self>>) -> Result<Self> {
        check(&program)?;
        let below = older.as_ref().map_or(0, |older| older.cost + 4);
        let cost = program.len() + below;
        if cost > MOST_IN_ALL {
            return Err(Errno::ENOMEM);
        }
        Ok(Self {
            program,
            older,
            cost,
        })
    }

    #[must_use]
    pub fn is_above(self: &Arc<Self>, other: Option<&Arc<Self>>) -> bool {
        let Some(other) = other else { return true };
        let mut here = Some(self);
        while let Some(chain) = here {
            if Arc::ptr_eq(chain, other) {
                return true;
            }
            here = chain.older.as_ref();
        }
        false
    }

    /// The answer of the strictest filter; of equally strict ones the newest.
    #[must_use]
    pub fn evaluate(&self, data: &[u8; DATA]) -> u32 {
        let rank = |answer: u32| (answer & ACTION).cast_signed();
        let mut answer = run(&self.program, data);
        let mut older = &self.older;
        while let Some(chain) = older {
            let other = run(&chain.program, data);
            if rank(other) < rank(answer) {
                answer = other;
            }
            older = &chain.older;
        }
        answer
    }
}

impl Drop for Chain {
    /// Without recursion, which a long chain would carry as deep as itself.
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(Ok(mut chain)) = next.map(Arc::try_unwrap) {
            next = chain.older.take();
        }
    }
}

/// `struct seccomp_data` of a call.
#[must_use]
pub fn data_of(nr: i32, ip: u64, args: &[u64; 6]) -> [u8; DATA] {
    const ARCH_X86_64: u32 = 0xC000_003E;
    let mut data = [0; DATA];
    data[..4].copy_from_slice(&nr.to_le_bytes());
    data[4..8].copy_from_slice(&ARCH_X86_64.to_le_bytes());
    data[8..16].copy_from_slice(&ip.to_le_bytes());
    for (index, value) in args.iter().enumerate() {
        data[16 + 8 * index..24 + 8 * index].copy_from_slice(&value.to_le_bytes());
    }
    data
}

/// Linux: bpf_check_classic(), seccomp_check_filter(), check_load_and_stores().
fn check(program: &[Instruction]) -> Result<()> {
    if program.is_empty() || program.len() > MOST_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    for (at, instruction) in program.iter().enumerate() {
        let rest = program.len() - at - 1;
        if !is_legal(*instruction, rest) {
            return Err(Errno::EINVAL);
        }
    }
    let ends = program.last().is_some_and(|last| last.code & CLASS == RET);
    if !ends || !stores_before_loads(program) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn is_legal(instruction: Instruction, rest: usize) -> bool {
    let Instruction { code, jt, jf, k } = instruction;
    let in_memory = (k as usize) < MEMORY;
    match code & CLASS {
        LD if code == LD | ABS => k.is_multiple_of(4) && (k as usize) < DATA,
        LD if code == LD | MEM => in_memory,
        LD => code == LD | IMM || code == LD | LEN,
        LDX if code == LDX | MEM => in_memory,
        LDX => code == LDX | IMM || code == LDX | LEN,
        ST | STX => code & !CLASS == 0 && in_memory,
        ALU => match code & 0xF0 {
            // Not division by a constant zero, nor shifts by 32 and more; modulo is not for seccomp.
            0x30 => k != 0 || code & X != 0,
            0x60 | 0x70 => k < 32 || code & X != 0,
            0x80 => code == ALU | 0x80,
            operation => operation <= 0x50 || operation == 0xA0,
        },
        JMP => match code & 0xF0 {
            0x00 => code == JMP && (k as usize) < rest,
            0x10..=0x40 => usize::from(jt) < rest && usize::from(jf) < rest,
            _ => false,
        },
        RET => matches!(code, 0x06 | 0x16),
        // MISC: TAX, TXA.
        _ => matches!(code, 0x07 | 0x87),
    }
}

/// No cell of memory is read that some way there leaves unset.
fn stores_before_loads(program: &[Instruction]) -> bool {
    let mut masks = vec![u16::MAX; program.len()];
    let mut valid = 0_u16;
    for (at, instruction) in program.iter().enumerate() {
        let Some(mask) = masks.get(at) else {
            return false;
        };
        valid &= *mask;
        let mut reach = |distance: usize, valid: u16| {
            if let Some(mask) = masks.get_mut(at + 1 + distance) {
                *mask &= valid;
            }
        };
        match instruction.code {
            0x02 | 0x03 => valid |= 1 << instruction.k,
            0x60 | 0x61 if valid & 1 << instruction.k == 0 => return false,
            0x05 => {
                reach(instruction.k as usize, valid);
                valid = u16::MAX;
            }
            code if code & CLASS == JMP => {
                reach(usize::from(instruction.jt), valid);
                reach(usize::from(instruction.jf), valid);
                valid = u16::MAX;
            }
            _ => {}
        }
    }
    true
}

/// Runs a checked program: every jump goes forward and stays within, so it ends. What `check` excludes answers as the strictest action.
fn run(program: &[Instruction], data: &[u8; DATA]) -> u32 {
    let (mut a, mut x) = (0_u32, 0_u32);
    let mut memory = [0_u32; MEMORY];
    let mut at = 0;
    while let Some(Instruction { code, jt, jf, k }) = program.get(at).copied() {
        at += 1;
        let cell = k as usize % MEMORY;
        let operand = if code & X != 0 { x } else { k };
        match code & CLASS {
            LD => a = load(code, k, data, memory[cell]),
            LDX => x = load(code, k, data, memory[cell]),
            ST => memory[cell] = a,
            STX => memory[cell] = x,
            ALU => match calculate(code, a, operand) {
                Some(result) => a = result,
                // Division by zero ends the filter with 0.
                None => return KILL_THREAD,
            },
            JMP if code & 0xF0 == 0 => at += k as usize,
            JMP => {
                let holds = match code & 0xF0 {
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    _ => a & operand != 0,
                };
                at += usize::from(if holds { jt } else { jf });
            }
            RET => return if code & 0x10 != 0 { a } else { k },
            _ if code == 0x07 => x = a,
            _ => a = x,
        }
    }
    KILL_PROCESS
}

fn load(code: u16, k: u32, data: &[u8; DATA], cell: u32) -> u32 {
    match code & 0xE0 {
        IMM => k,
        MEM => cell,
        LEN => DATA as u32,
        _ => {
            let at = (k as usize).min(DATA - 4);
            crate::memory::half(data, at)
        }
    }
}

fn calculate(code: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match code & 0xF0 {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        0x30 => a.checked_div(operand)?,
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 => a.wrapping_shl(operand),
        0x70 => a.wrapping_shr(operand),
        0x80 => a.wrapping_neg(),
        _ => a ^ operand,
    })
}
