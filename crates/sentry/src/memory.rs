//! A program's memory as system calls see it: typed reads and writes, strings, vectors. What the program made up is EFAULT, never more.

use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::BorrowedFd;

use crate::fast::window as memory;

use crate::errno::{Errno, Result};

/// Longest path, with its NUL. limits.h PATH_MAX.
pub const PATH_MAX: usize = 4096;
/// Most entries of a vector. limits.h IOV_MAX.
const IOV_MAX: u64 = 1024;
const PAGE: u64 = 4096;

/// An address in a program, whatever it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Address(pub u64);

impl Address {
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// One stretch of a program's memory.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    pub address: Address,
    pub len: usize,
}

/// The memory of one thread's process.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub tid: i32,
}

impl Memory {
    /// All of `into`, or EFAULT.
    pub fn read(self, from: Address, into: &mut [u8]) -> Result<()> {
        match memory::read(self.tid, from.0, into) {
            Ok(count) if count == into.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    /// All of `from`, or EFAULT (with a part of it written, as the host's kernel does).
    pub fn write(self, to: Address, from: &[u8]) -> Result<()> {
        match memory::write(self.tid, to.0, from) {
            Ok(count) if count == from.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    pub fn read_vec(self, from: Address, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read(from, &mut bytes)?;
        Ok(bytes)
    }

    pub fn read_u32(self, from: Address) -> Result<u32> {
        let mut bytes = [0; 4];
        self.read(from, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub fn read_u64(self, from: Address) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(from, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn write_u32(self, to: Address, value: u32) -> Result<()> {
        self.write(to, &value.to_le_bytes())
    }

    pub fn write_i32(self, to: Address, value: i32) -> Result<()> {
        self.write(to, &value.to_le_bytes())
    }

    pub fn write_u64(self, to: Address, value: u64) -> Result<()> {
        self.write(to, &value.to_le_bytes())
    }

    /// A string up to its NUL, which is left out; `too_long` if there is none within `limit` bytes.
    pub fn read_string(self, from: Address, limit: usize, too_long: Errno) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < limit {
            let at = from.offset(text.len() as u64);
            // Never beyond a page's end in one go: the next page may not be there, and need not be.
            let room = (PAGE - at.0 % PAGE) as usize;
            let mut piece = [0; 256];
            let len = room.min(piece.len()).min(limit - text.len());
            let count =
                memory::read(self.tid, at.0, &mut piece[..len]).map_err(|_| Errno::EFAULT)?;
            if let Some(end) = piece[..count].iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return Ok(text);
            }
            text.extend_from_slice(&piece[..count]);
            if count < len {
                return Err(Errno::EFAULT);
            }
        }
        Err(too_long)
    }

    /// A path. `ENAMETOOLONG`, `EFAULT`; an empty one is returned as it is.
    pub fn read_path(self, from: Address) -> Result<Vec<u8>> {
        self.read_string(from, PATH_MAX, Errno::ENAMETOOLONG)
    }

    /// A vector of strings ended by a null pointer, as execve(2)'s. A null vector is empty.
    pub fn read_strings(self, vector: Address, limit_bytes: usize) -> Result<Vec<Vec<u8>>> {
        let mut strings = Vec::new();
        let mut total = 0;
        if vector.is_null() {
            return Ok(strings);
        }
        // Pointers and strings lie together on few pages mostly: a copy of each, and not one call for each of them.
        let (mut pointers, mut texts) = (Pages::new(self), Pages::new(self));
        loop {
            let pointer = pointers.read_u64(vector.offset(8 * strings.len() as u64))?;
            if pointer == 0 {
                return Ok(strings);
            }
            let text = texts.read_string(Address(pointer), 32 * PAGE as usize)?;
            total += text.len() + 9;
            if total > limit_bytes {
                return Err(Errno::E2BIG);
            }
            strings.push(text);
        }
    }

    /// A `struct iovec` array. `EINVAL` too many, or more than fits a positive length.
    pub fn read_iovec(self, vector: Address, count: u64) -> Result<Vec<Stretch>> {
        if count > IOV_MAX {
            return Err(Errno::EINVAL);
        }
        let bytes = self.read_vec(vector, 16 * count as usize)?;
        let mut stretches = Vec::with_capacity(count as usize);
        for entry in bytes.chunks_exact(16) {
            let (address, len) = (word(entry, 0), word(entry, 8));
            let len = usize::try_from(len)
                .ok()
                .filter(|len| *len <= isize::MAX as usize);
            stretches.push(Stretch {
                address: Address(address),
                len: len.ok_or(Errno::EINVAL)?,
            });
        }
        Ok(stretches)
    }
}

/// The page of a program's memory that was last looked at, copied.
struct Pages {
    memory: Memory,
    at: u64,
    copy: Vec<u8>,
}

impl Pages {
    fn new(memory: Memory) -> Self {
        Self {
            memory,
            at: u64::MAX,
            copy: Vec::new(),
        }
    }

    /// What there is from an address on, to its page's end at most.
    fn from(&mut self, address: Address) -> Result<&[u8]> {
        let at = address.0 & !(PAGE - 1);
        if self.at != at {
            self.copy.resize(PAGE as usize, 0);
            self.at = u64::MAX;
            // A page is there as a whole or not at all.
            self.memory.read(Address(at), &mut self.copy)?;
            self.at = at;
        }
        Ok(&self.copy[(address.0 - at) as usize..])
    }

    fn read_u64(&mut self, address: Address) -> Result<u64> {
        let here = self.from(address)?;
        if here.len() >= 8 {
            return Ok(word(here, 0));
        }
        self.memory.read_u64(address)
    }

    /// A string up to its NUL. `E2BIG` if there is none within `limit` bytes.
    fn read_string(&mut self, from: Address, limit: usize) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < limit {
            let here = self.from(from.offset(text.len() as u64))?;
            if let Some(end) = here.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&here[..end]);
                return if text.len() < limit {
                    Ok(text)
                } else {
                    Err(Errno::E2BIG)
                };
            }
            text.extend_from_slice(here);
        }
        Err(Errno::E2BIG)
    }
}

/// The 64-bit word at `offset`; 0 beyond the end, for callers that have checked the length.
#[must_use]
pub fn word(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..offset + 8)
        .and_then(|slice| slice.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// As `word`, 32-bit.
#[must_use]
pub fn half(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..offset + 4)
        .and_then(|slice| slice.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

/// Where a call's data comes from or goes to: the program's stretches, used up from the front. At most 0x7ffff000 bytes in all (read(2)).
#[derive(Debug, Clone)]
pub struct Buffer {
    memory: Memory,
    stretches: std::collections::VecDeque<Stretch>,
    remaining: usize,
    /// What there was to come or to go at first.
    whole: usize,
    /// Bytes of the sentry's own, in place of the program's memory: what sendfile(2) and splice(2) move between two files.
    local: Option<std::collections::VecDeque<u8>>,
}

const MAX_RW_COUNT: usize = 0x7FFF_F000;

impl Buffer {
    #[must_use]
    pub fn new(memory: Memory, stretches: Vec<Stretch>) -> Self {
        let total = stretches
            .iter()
            .fold(0_usize, |sum, stretch| sum.saturating_add(stretch.len))
            .min(MAX_RW_COUNT);
        Self {
            memory,
            stretches: stretches.into(),
            remaining: total,
            whole: total,
            local: None,
        }
    }

    /// Holds `bytes` to be taken.
    #[must_use]
    pub fn source(bytes: Vec<u8>) -> Self {
        let mut buffer = Self::new(Memory { tid: 0 }, Vec::new());
        buffer.remaining = bytes.len();
        buffer.whole = buffer.remaining;
        buffer.local = Some(bytes.into());
        buffer
    }

    /// Has room for bytes to be put, which `into_bytes` then returns.
    #[must_use]
    pub fn sink(room: usize) -> Self {
        let mut buffer = Self::new(Memory { tid: 0 }, Vec::new());
        buffer.remaining = room;
        buffer.whole = room;
        buffer.local = Some(std::collections::VecDeque::new());
        buffer
    }

    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.local.unwrap_or_default().into()
    }

    /// As `take_vec`, without using anything up.
    pub fn peek_vec(&self, limit: usize) -> Result<Vec<u8>> {
        self.clone().take_vec(limit)
    }

    /// Bytes still to come or to go.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Leaves out what lies beyond the next `bytes`.
    pub fn cut(&mut self, bytes: usize) {
        let beyond = self.remaining.saturating_sub(bytes);
        self.remaining -= beyond;
        self.whole -= beyond;
    }

    /// Whether nothing has come or gone yet.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.remaining == self.whole
    }

    /// Passes over what an earlier part of the call has transferred.
    pub fn skip(&mut self, mut bytes: usize) {
        if let Some(local) = &mut self.local {
            let count = bytes.min(local.len());
            local.drain(..count);
            self.remaining -= count.min(self.remaining);
            return;
        }
        while bytes > 0 {
            let Some((_, len)) = self.front(bytes) else {
                return;
            };
            self.advance(len);
            bytes -= len;
        }
    }

    /// Copies to the program; returns how many bytes, 0 if there is no room. `EFAULT` if not a single one could be.
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        if let Some(local) = &mut self.local {
            let count = bytes.len().min(self.remaining);
            local.extend(&bytes[..count]);
            self.remaining -= count;
            return Ok(count);
        }
        let tid = self.memory.tid;
        self.transfer(bytes.len(), |at, part| {
            memory::write(tid, at.0, &bytes[part])
        })
    }

    /// pread(2) of all that there is room for, without a copy between, where the call came by the channel. `None`: it did not, or has more than one stretch.
    pub fn read_file(&mut self, file: BorrowedFd<'_>, at: u64) -> Option<Result<usize>> {
        let (address, len) = self.whole()?;
        let count = memory::read_file(self.memory.tid, address.0, len, (file, at))?;
        Some(self.used(count))
    }

    /// pwrite(2) of all that is to be taken, likewise.
    pub fn write_file(&mut self, file: BorrowedFd<'_>, at: u64) -> Option<Result<usize>> {
        let (address, len) = self.whole()?;
        let count = memory::write_file(self.memory.tid, address.0, len, (file, at))?;
        Some(self.used(count))
    }

    /// All of the program's memory that is left to use, if it is one stretch.
    fn whole(&mut self) -> Option<(Address, usize)> {
        let front = self.front(self.remaining)?;
        (self.local.is_none() && front.1 == self.remaining).then_some(front)
    }

    fn used(&mut self, count: io::Result<usize>) -> Result<usize> {
        let count = count?;
        self.advance(count);
        Ok(count)
    }

    /// Copies from the program, at most `into.len()` bytes; returns how many. `EFAULT` if not a single one could be.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize> {
        if let Some(local) = &mut self.local {
            let mut count = 0;
            // One of its two halves at a time.
            while let Ok(taken @ 1..) = local.read(&mut into[count..]) {
                count += taken;
            }
            self.remaining -= count;
            return Ok(count);
        }
        let tid = self.memory.tid;
        self.transfer(into.len(), |at, part| {
            memory::read(tid, at.0, &mut into[part])
        })
    }

    /// Has `copy` move up to `total` bytes, stretch by stretch: to or from an address, the part of them that is its turn.
    fn transfer(
        &mut self,
        total: usize,
        mut copy: impl FnMut(Address, Range<usize>) -> io::Result<usize>,
    ) -> Result<usize> {
        let mut done = 0;
        while let Some((at, len)) = self.front(total - done) {
            match copy(at, done..done + len) {
                Ok(count) => {
                    self.advance(count);
                    done += count;
                    if count < len {
                        break;
                    }
                }
                Err(_) if done == 0 => return Err(Errno::EFAULT),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// The next `limit` bytes or fewer, from the program.
    pub fn take_vec(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.remaining.min(limit)];
        let count = self.take(&mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn front(&mut self, wanted: usize) -> Option<(Address, usize)> {
        while self
            .stretches
            .front()
            .is_some_and(|stretch| stretch.len == 0)
        {
            self.stretches.pop_front();
        }
        let len = wanted.min(self.remaining);
        let stretch = self.stretches.front()?;
        (len > 0).then_some((stretch.address, len.min(stretch.len)))
    }

    fn advance(&mut self, count: usize) {
        self.remaining -= count;
        if let Some(stretch) = self.stretches.front_mut() {
            stretch.address = stretch.address.offset(count as u64);
            stretch.len -= count;
        }
    }
}
