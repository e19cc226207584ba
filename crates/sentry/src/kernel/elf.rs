//! ELF headers of programs, as hostile bytes. System V ABI chapters 4 and 5; Linux: fs/binfmt_elf.c.

use crate::errno::{Errno, Result};
use crate::memory::{half, word};

pub const PAGE: u64 = 4096;
const HEADER: usize = 64;
const ENTRY_SIZE: usize = 56;
/// Linux: a program header table is at most 64 KiB.
const MAX_ENTRIES: usize = (64 << 10) / ENTRY_SIZE;
const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;
const TABLE: u32 = 6;
const STACK: u32 = 0x6474_E551;
/// User space ends here.
const TOP: u64 = 0x7FFF_FFFF_F000;

/// A part of the file to map.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    pub offset: u64,
    pub address: u64,
    pub file_len: u64,
    pub memory_len: u64,
    /// PROT_*.
    pub protection: u64,
}

impl Segment {
    #[must_use]
    pub fn start(&self) -> u64 {
        self.address & !(PAGE - 1)
    }

    #[must_use]
    pub fn end(&self) -> u64 {
        round_up(self.address + self.memory_len)
    }
}

#[must_use]
pub fn round_up(value: u64) -> u64 {
    (value + PAGE - 1) & !(PAGE - 1)
}

#[derive(Debug, Clone)]
pub struct Elf {
    /// Where it may be put: anywhere (ET_DYN), or only where it says.
    pub is_movable: bool,
    pub entry: u64,
    pub segments: Vec<Segment>,
    /// Offset and length of the interpreter's name.
    pub interpreter: Option<(u64, u64)>,
    /// Address of the program header table, unmoved.
    pub table: u64,
    pub entries: u64,
    pub wants_executable_stack: bool,
}

impl Elf {
    /// Where the program header table lies: offset and length. `ENOEXEC`: not an ELF program of this machine.
    pub fn table_of(header: &[u8]) -> Result<(u64, usize)> {
        if header.len() < HEADER || header[..4] != *b"\x7fELF" || header[4] != 2 || header[5] != 1 {
            return Err(Errno::ENOEXEC);
        }
        let (kind, machine) = (half(header, 16) & 0xFFFF, half(header, 16) >> 16);
        let (size, count) = (half(header, 54) & 0xFFFF, half(header, 54) >> 16);
        let count = count as usize;
        if !(2..=3).contains(&kind)
            || machine != 62
            || size as usize != ENTRY_SIZE
            || count == 0
            || count > MAX_ENTRIES
        {
            return Err(Errno::ENOEXEC);
        }
        Ok((word(header, 32), count * ENTRY_SIZE))
    }

    /// Reads the header and the program header table, found by `table_of`. `ENOEXEC`, or `EINVAL` for what lies outside the address space.
    pub fn parse(header: &[u8], table: &[u8]) -> Result<Self> {
        let (offset, _) = Self::table_of(header)?;
        let mut elf = Self {
            is_movable: half(header, 16) & 0xFFFF == 3,
            entry: word(header, 24),
            segments: Vec::new(),
            interpreter: None,
            table: 0,
            entries: (table.len() / ENTRY_SIZE) as u64,
            wants_executable_stack: false,
        };
        for entry in table.chunks_exact(ENTRY_SIZE) {
            elf.add(entry, offset)?;
        }
        if elf.segments.is_empty() {
            return Err(Errno::ENOEXEC);
        }
        Ok(elf)
    }

    fn add(&mut self, entry: &[u8], table_offset: u64) -> Result<()> {
        let (kind, flags) = (half(entry, 0), half(entry, 4));
        let segment = Segment {
            offset: word(entry, 8),
            address: word(entry, 16),
            file_len: word(entry, 32),
            memory_len: word(entry, 40),
            protection: u64::from(flags >> 2 & 1 | flags & 2 | (flags & 1) << 2),
        };
        match kind {
            LOAD if segment.memory_len > 0 => {
                let end = segment
                    .address
                    .checked_add(segment.memory_len)
                    .filter(|end| *end <= TOP);
                let aligned = segment.address % PAGE == segment.offset % PAGE;
                if end.is_none()
                    || segment.file_len > segment.memory_len
                    || !aligned
                    || segment.offset > i64::MAX as u64 - segment.file_len
                {
                    return Err(Errno::EINVAL);
                }
                if (segment.offset..segment.offset + segment.file_len).contains(&table_offset)
                    && self.table == 0
                {
                    self.table = segment.address + (table_offset - segment.offset);
                }
                self.segments.push(segment);
            }
            INTERPRETER => self.interpreter = Some((segment.offset, segment.file_len)),
            TABLE => self.table = segment.address,
            STACK => self.wants_executable_stack = flags & 1 == 1,
            _ => {}
        }
        Ok(())
    }

    /// The first page and the end of all segments, unmoved.
    #[must_use]
    pub fn span(&self) -> (u64, u64) {
        let start = self.segments.iter().map(Segment::start).min().unwrap_or(0);
        let end = self.segments.iter().map(Segment::end).max().unwrap_or(0);
        (start, end)
    }
}
