//! What a thread was told of files, where its stub finds it again: a table behind the slots of its process's channel, searched by `answers.s`.
//! docs/decisions/2026-11-28-answers-in-shared-memory.md.
//!
//! Every entry has a stamp, higher than all before. It is true while that is above the slot's floor, which the sentry lifts when something changes: so all of
//! a thread's answers end by one store. The stub looks at both again when it has copied. Nothing here is ever read back: a program that writes to it lies to
//! itself, about what it was told itself.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::channel::{Channel, SLOT, SLOTS};

/// Entries of the table, and the bytes of one.
pub const ENTRIES: usize = 256;
pub const ENTRY: usize = 512;
/// Where the table begins, behind the slots.
pub const TABLE: usize = SLOTS * SLOT;
pub const SIZE: usize = ENTRIES * ENTRY;
/// Bytes of a path, with its NUL, and of what goes to the program's memory.
pub const PATH_LEN: usize = 192;
pub const DATA_LEN: usize = 256;

// Offsets in a slot, as answers.s has them.
const FLOOR: usize = 0xA0;
const WHERE: usize = 0xA8;
const OWNER: usize = 0xB0;
const ARGUMENTS: usize = 0x40;

// Offsets in an entry.
const STAMP: usize = 0x00;
const DEADLINE: usize = 0x08;
const KEY: usize = 0x10;
const FIRST: usize = 0x18;
const SECOND: usize = 0x20;
const LENGTHS: usize = 0x28;
const RESULT: usize = 0x30;
const OUT: usize = 0x38;
const PATH: usize = 0x40;
const DATA: usize = 0x100;
const _: () = assert!(PATH + PATH_LEN == DATA && DATA + DATA_LEN == ENTRY);

/// The multiplier of the stub's hash: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// A call that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub nr: i32,
    pub args: [u64; 6],
    /// Without its NUL; nothing where the call has none.
    pub path: &'a [u8],
    pub result: i64,
    pub data: &'a [u8],
    /// Until when it may be given, by the time stamp counter.
    pub deadline: u64,
}

/// What tells two calls of one number and path apart, as the stub puts it together; and which argument says where data goes.
fn question(nr: i32, args: &[u64; 6]) -> Option<(u64, u64, usize)> {
    let [first, second, third, fourth, ..] = *args;
    let low = |value: u64| value & 0xFFFF_FFFF;
    Some(match i64::from(nr) {
        libc::SYS_stat | libc::SYS_lstat => (0, 0, 1),
        libc::SYS_fstat => (low(first), 0, 1),
        libc::SYS_newfstatat => (low(first), low(fourth), 2),
        libc::SYS_statx => (low(first), low(third) | fourth << 32, 4),
        libc::SYS_access => (0, low(second), 1),
        libc::SYS_faccessat => (low(first), low(third), 1),
        libc::SYS_faccessat2 => (low(first), low(third) | fourth << 32, 1),
        libc::SYS_readlink => (0, third, 1),
        libc::SYS_readlinkat => (low(first), fourth, 2),
        _ => return None,
    })
}

/// Whether the stub looks such a call up.
#[must_use]
pub fn is_looked_up(nr: i32) -> bool {
    question(nr, &[0; 6]).is_some()
}

fn key(nr: i32, slot: usize) -> u64 {
    u64::from(nr.cast_unsigned()) | owner(slot)
}

fn owner(slot: usize) -> u64 {
    (slot as u64) << 32
}

/// The entry that a question belongs in, by its path's words.
fn entry(key: u64, first: u64, second: u64, path: &[u8]) -> usize {
    let mut hash = key;
    for word in [first, second]
        .into_iter()
        .chain(path.chunks_exact(8).map(|word| {
            let word: [u8; 8] = word.try_into().unwrap_or_default();
            u64::from_le_bytes(word)
        }))
    {
        hash = hash.wrapping_mul(MULTIPLIER) ^ word;
    }
    (hash.wrapping_mul(MULTIPLIER) >> 56) as usize
}

/// The time stamp counter.
#[must_use]
pub fn clock() -> u64 {
    // SAFETY: the instruction reads a register that every program may read.
    unsafe { std::arch::x86_64::_rdtsc() }
}

impl Channel {
    /// Of a slot that was given to a thread just now, or whose thread is another one to its files: it knows nothing that is older than `stamp`.
    pub fn open_answers(&self, slot: usize, stamp: u64) {
        self.set_floor(slot, stamp);
        self.long(slot, OWNER).store(owner(slot), Ordering::Relaxed);
        let table = Self::address_of(0) + TABLE as u64;
        self.long(slot, WHERE).store(table, Ordering::Release);
    }

    /// What the slot's thread was told up to this stamp is true no more.
    pub fn set_floor(&self, slot: usize, stamp: u64) {
        self.long(slot, FLOOR).store(stamp, Ordering::Release);
    }

    /// Leaves an answer with a slot's thread. `stamp` is higher than any before. False: it has no room there.
    pub fn put_answer(&self, slot: usize, stamp: u64, answer: &Answer<'_>) -> bool {
        let Some((first, second, out)) = question(answer.nr, &answer.args) else {
            return false;
        };
        let has_path = i64::from(answer.nr) != libc::SYS_fstat;
        let len = answer.path.len() + usize::from(has_path);
        if len > PATH_LEN || answer.data.len() > DATA_LEN {
            return false;
        }
        let mut path = [0; PATH_LEN];
        path[..answer.path.len()].copy_from_slice(answer.path);
        let path = &path[..len.next_multiple_of(8)];
        let key = key(answer.nr, slot);
        let entry = TABLE + ENTRY * entry(key, first, second, path);
        let word = |offset: usize| -> &AtomicU64 { self.behind(entry + offset) };
        word(STAMP).store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        let lengths = len as u64 | (answer.data.len() as u64) << 32;
        for (offset, value) in [
            (DEADLINE, answer.deadline),
            (KEY, key),
            (FIRST, first),
            (SECOND, second),
            (LENGTHS, lengths),
            (RESULT, answer.result.cast_unsigned()),
            (OUT, (ARGUMENTS + 8 * out) as u64),
        ] {
            word(offset).store(value, Ordering::Relaxed);
        }
        for (start, bytes) in [(PATH, path), (DATA, answer.data)] {
            for (at, part) in (start..).step_by(8).zip(bytes.chunks(8)) {
                let mut value = [0; 8];
                value[..part.len()].copy_from_slice(part);
                word(at).store(u64::from_le_bytes(value), Ordering::Relaxed);
            }
        }
        word(STAMP).store(stamp, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer<'a>(path: &'a [u8], data: &'a [u8]) -> Answer<'a> {
        Answer {
            nr: libc::SYS_stat as i32,
            args: [0; 6],
            path,
            result: 0,
            data,
            deadline: u64::MAX,
        }
    }

    #[test]
    fn an_answer_lies_where_its_question_says() {
        let channel = Channel::new().expect("memfd");
        assert!(channel.put_answer(3, 7, &answer(b"/etc/hosts", &[9; 144])));
        let path = b"/etc/hosts\0\0\0\0\0\0";
        let at = TABLE + ENTRY * entry(key(4, 3), 0, 0, path);
        let word = |offset: usize| channel.behind(at + offset).load(Ordering::Relaxed);
        assert_eq!((word(STAMP), word(KEY)), (7, 4 | 3 << 32));
        assert_eq!(word(LENGTHS), 11 | 144 << 32);
        assert_eq!(word(PATH), u64::from_le_bytes(*b"/etc/hos"));
        assert_eq!(word(DATA + 136), u64::from_le_bytes([9; 8]));
    }

    #[test]
    fn what_is_too_long_is_not_left() {
        let channel = Channel::new().expect("memfd");
        assert!(channel.put_answer(0, 1, &answer(&[b'a'; PATH_LEN - 1], b"")));
        assert!(!channel.put_answer(0, 1, &answer(&[b'a'; PATH_LEN], b"")));
        assert!(!channel.put_answer(0, 1, &answer(b"/", &[0; DATA_LEN + 1])));
    }

    #[test]
    fn only_questions_without_a_trace_are_looked_up() {
        for nr in [libc::SYS_open, libc::SYS_read, libc::SYS_lseek] {
            assert!(!is_looked_up(nr as i32));
        }
        assert!(is_looked_up(libc::SYS_statx as i32));
    }
}
