//! A stopped thread's registers: in the frame that the host's kernel built for the stub, from where they are restored.

use casemate_platform::loader;

use crate::errno::{Errno, Result};
use crate::memory::{Address, Memory, half, word};

/// General registers in `struct ucontext`, from r8 on; arch/x86/include/uapi/asm/sigcontext.h.
const FIRST: u64 = 40;
const COUNT: usize = 32;

/// Which word of those.
pub const RDI: usize = 8;
pub const RAX: usize = 13;
pub const RCX: usize = 14;
pub const R11: usize = 3;
pub const RSP: usize = 15;
pub const RIP: usize = 16;
pub const FLAGS: usize = 17;
const SEGMENTS: usize = 18;
const FLOATING: usize = 23;
const FS_BASE: usize = (loader::BASES - FIRST) as usize / 8;
const GS_BASE: usize = FS_BASE + 1;

pub const TRAP_FLAG: u64 = 0x100;
/// What a debugger may set of the flags. Linux: FLAG_MASK of arch/x86/kernel/ptrace.c.
const DEBUGGERS_FLAGS: u64 = 0x1_0000 | 0x4_0000 | 0xDD5;
/// Addresses of programs end below. Linux: TASK_SIZE_MAX.
const HIGHEST: u64 = 0x7FFF_FFFF_F000;

/// `struct user_regs_struct`: which words of the frame it has, in its order. Those that no frame holds are `None`.
const ORDER: [Option<usize>; USER_REGISTERS] = [
    Some(7),
    Some(6),
    Some(5),
    Some(4),
    Some(10),
    Some(11),
    Some(R11),
    Some(2),
    Some(1),
    Some(0),
    Some(RAX),
    Some(RCX),
    Some(12),
    Some(9),
    Some(RDI),
    None,
    Some(RIP),
    None,
    Some(FLAGS),
    Some(RSP),
    None,
    Some(FS_BASE),
    Some(GS_BASE),
    None,
    None,
    None,
    None,
];
pub const USER_REGISTERS: usize = 27;
const ORIGINAL: usize = 15;
const CS: usize = 17;
const USER_FLAGS: usize = 18;
const SS: usize = 20;
const USER_FS_BASE: usize = 21;
const USER_GS_BASE: usize = 22;
const DS: usize = 23;
const FS: usize = 25;
const GS: usize = 26;

/// `struct _fpstate`, and the extended state behind it that the host says is there.
const LEGACY: usize = 512;
const HEADER: usize = 64;
const RESERVED_AT: usize = 464;
const MAGIC: u32 = 0x4650_5853;
const MOST_STATE: usize = 16 << 10;
const MXCSR_AT: usize = 24;
const MXCSR_BITS: u32 = 0xFFFF;
const LEGACY_FEATURES: u64 = 3;

#[derive(Debug)]
pub struct Frame {
    memory: Memory,
    context: Address,
    words: [u64; COUNT],
}

impl Frame {
    pub fn read(tid: i32, context: u64) -> Result<Self> {
        let memory = Memory { tid };
        let context = Address(context);
        let mut bytes = [0; COUNT * 8];
        memory.read(context.offset(FIRST), &mut bytes)?;
        let words = std::array::from_fn(|index| word(&bytes, 8 * index));
        Ok(Self {
            memory,
            context,
            words,
        })
    }

    #[must_use]
    pub fn get(&self, register: usize) -> u64 {
        self.words.get(register).copied().unwrap_or(0)
    }

    pub fn set(&mut self, register: usize, value: u64) -> Result<()> {
        if let Some(word) = self.words.get_mut(register) {
            *word = value;
        }
        let at = self.context.offset(FIRST + 8 * register as u64);
        self.memory.write_u64(at, value)
    }

    /// The arguments of a system call.
    #[must_use]
    pub fn arguments(&self) -> [u64; 6] {
        [RDI, 9, 12, 2, 0, 1].map(|register| self.get(register))
    }

    /// As PTRACE_GETREGS tells them; `original` is orig_rax.
    #[must_use]
    pub fn user_registers(&self, original: i64) -> [u64; USER_REGISTERS] {
        let segments = self.get(SEGMENTS);
        let mut registers = ORDER.map(|place| place.map_or(0, |register| self.get(register)));
        registers[ORIGINAL] = original.cast_unsigned();
        registers[CS] = segments & 0xFFFF;
        registers[GS] = segments >> 16 & 0xFFFF;
        registers[FS] = segments >> 32 & 0xFFFF;
        registers[SS] = segments >> 48;
        registers
    }

    /// Sets one of them. What a debugger has no business with is refused (`EIO`), as Linux's putreg() does; the code segment above all, which would lead to
    /// another mode. `original`: where orig_rax goes. True: a base register is to be loaded.
    pub fn set_user_register(
        &mut self,
        index: usize,
        value: u64,
        original: &mut i64,
    ) -> Result<bool> {
        let now = self.user_registers(*original);
        match index {
            ORIGINAL => *original = i64::from(value as i32),
            CS | SS | DS..=GS if value & 0xFFFF == now[index] => {}
            CS | SS | DS..=GS => return Err(Errno::EIO),
            USER_FLAGS => {
                let kept = self.get(FLAGS) & !DEBUGGERS_FLAGS;
                self.set(FLAGS, kept | value & DEBUGGERS_FLAGS)?;
            }
            USER_FS_BASE | USER_GS_BASE => {
                if value >= HIGHEST {
                    return Err(Errno::EIO);
                }
                let register = ORDER[index].unwrap_or(FS_BASE);
                self.set(register, value)?;
                return Ok(true);
            }
            _ => {
                let register = ORDER.get(index).copied().flatten().ok_or(Errno::EIO)?;
                self.set(register, value)?;
            }
        }
        Ok(false)
    }

    /// The floating-point and vector registers, in the format of xsave that signals' frames have; as long as the host says, within bounds.
    pub fn state(&self) -> Result<Vec<u8>> {
        let at = self.get(FLOATING);
        let mut bytes = vec![0; LEGACY];
        if at == 0 {
            return Ok(bytes);
        }
        self.memory.read(Address(at), &mut bytes)?;
        let size = half(&bytes, RESERVED_AT + 16) as usize;
        if half(&bytes, RESERVED_AT) == MAGIC && (LEGACY + HEADER..=MOST_STATE).contains(&size) {
            bytes.resize(size, 0);
            self.memory.read(Address(at), &mut bytes)?;
        }
        Ok(bytes)
    }

    /// As a debugger sees it: where the frame has words of the host's own, the mask of all features.
    pub fn user_state(&self) -> Result<Vec<u8>> {
        let mut bytes = self.state()?;
        let features = word(&bytes, RESERVED_AT + 8);
        bytes[RESERVED_AT..LEGACY].fill(0);
        if bytes.len() > LEGACY {
            bytes[RESERVED_AT..RESERVED_AT + 8].copy_from_slice(&features.to_le_bytes());
        }
        Ok(bytes)
    }

    /// Puts new values there: all of them, or the first 512 bytes. What the host would not load is refused.
    pub fn set_state(&self, new: &[u8]) -> Result<()> {
        let old = self.state()?;
        let at = Address(self.get(FLOATING));
        if at.is_null() || new.len() < LEGACY || new.len() > old.len() {
            return Err(Errno::EINVAL);
        }
        if half(new, MXCSR_AT) & !MXCSR_BITS != 0 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = old.clone();
        bytes[..RESERVED_AT].copy_from_slice(&new[..RESERVED_AT]);
        if old.len() > LEGACY {
            let features = word(&old, RESERVED_AT + 8);
            let mut used = word(&old, LEGACY) | LEGACY_FEATURES;
            if new.len() > LEGACY {
                bytes[LEGACY..new.len()].copy_from_slice(&new[LEGACY..]);
                used = word(new, LEGACY);
                if used & !features != 0
                    || new[LEGACY + 8..LEGACY + HEADER]
                        .iter()
                        .any(|byte| *byte != 0)
                {
                    return Err(Errno::EINVAL);
                }
            }
            bytes[LEGACY..LEGACY + 8].copy_from_slice(&used.to_le_bytes());
        }
        self.memory.write(at, &bytes)
    }
}

/// Where in `struct user_regs_struct` a register's bytes lie. `None`: none begins there.
#[must_use]
pub fn register_at(offset: u64) -> Option<usize> {
    let index = usize::try_from(offset / 8).ok()?;
    (offset.is_multiple_of(8) && index < USER_REGISTERS).then_some(index)
}
