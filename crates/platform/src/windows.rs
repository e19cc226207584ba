//! Files that a thread was lent, where its stub finds them (`windows.s`): the position of an open file, and a file's own bytes, mapped into its process.
//! docs/decisions/2026-11-29-files-that-are-lent.md.
//!
//! Four entries for each slot, by a descriptor's last two bits. An entry counts while its stamp is above the slot's floor, as an answer does (`answers`): that
//! says whose the descriptor is. How many bytes there are, and until when they may be written to, is taken back by itself when the file changes. A position is
//! taken back by a swap. Of all this only that is ever read back, and any position is one that the program could have asked for.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::channel::{Channel, SLOTS};

/// Of each slot.
pub const ENTRIES: usize = 4;
const ENTRY: usize = 64;
/// Where they begin, behind the table of answers.
pub const TABLE: usize = crate::answers::TABLE + crate::answers::SIZE;
pub const SIZE: usize = SLOTS * ENTRIES * ENTRY;
/// Bytes of a window at most; and where those of a process lie: one below the other, below the channel, none where another was.
pub const LONGEST: u64 = 256 << 20;
pub const MOST: u64 = 4096;
pub const LOWEST: u64 = crate::channel::ADDRESS - MOST * LONGEST;

/// In a slot, as windows.s has it.
const WHERE: usize = 0xB8;

// Offsets in an entry.
const STAMP: usize = 0x00;
const WRITABLE: usize = 0x08;
const DESCRIPTOR: usize = 0x10;
const BYTES: usize = 0x18;
const LEN: usize = 0x20;
const POSITION: usize = 0x28;
const READABLE: usize = 0x30;
const NOT_LENT: u64 = 1 << 63;

/// The entry that a descriptor belongs in.
#[must_use]
pub fn entry_of(fd: i32) -> usize {
    fd.cast_unsigned() as usize % ENTRIES
}

/// A file's bytes, from its first one on.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub address: u64,
    pub len: u64,
    /// Until when they may be read, and written, by the time stamp counter.
    pub readable: u64,
    pub writable: u64,
}

impl Channel {
    fn entry(&self, slot: usize, entry: usize, offset: usize) -> &AtomicU64 {
        self.behind(TABLE + (slot % SLOTS * ENTRIES + entry % ENTRIES) * ENTRY + offset)
    }

    /// Of a slot that was given to a thread just now: it was lent nothing.
    pub fn open_windows(&self, slot: usize) {
        for entry in 0..ENTRIES {
            self.clear_entry(slot, entry);
        }
        let table = Self::address_of(0) + (TABLE + slot % SLOTS * ENTRIES * ENTRY) as u64;
        self.long(slot, WHERE).store(table, Ordering::Release);
    }

    /// The entry is to be another file's.
    pub fn clear_entry(&self, slot: usize, entry: usize) {
        self.entry(slot, entry, STAMP).store(0, Ordering::Relaxed);
        self.end_window(slot, entry);
        let position = self.entry(slot, entry, POSITION);
        position.store(NOT_LENT, Ordering::Release);
    }

    /// The descriptor means the same file as when something of it was lent. `stamp` is higher than any before.
    pub fn stamp_entry(&self, slot: usize, fd: i32, stamp: u64) {
        let entry = entry_of(fd);
        self.entry(slot, entry, DESCRIPTOR)
            .store(u64::from(fd.cast_unsigned()), Ordering::Relaxed);
        self.entry(slot, entry, STAMP)
            .store(stamp, Ordering::Release);
    }

    pub fn lend_window(&self, slot: usize, entry: usize, window: &Window) {
        for (offset, value) in [
            (BYTES, window.address),
            (READABLE, window.readable),
            (WRITABLE, window.writable),
            (LEN, window.len),
        ] {
            self.entry(slot, entry, offset)
                .store(value, Ordering::Release);
        }
    }

    /// The file has another length, or nobody knows. What a stub is writing there it writes again, by asking.
    pub fn end_window(&self, slot: usize, entry: usize) {
        self.entry(slot, entry, LEN).store(0, Ordering::SeqCst);
        self.end_writing(slot, entry);
    }

    /// As `end_window`, but it may be read.
    pub fn end_writing(&self, slot: usize, entry: usize) {
        self.entry(slot, entry, WRITABLE).store(0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub fn lend_position(&self, slot: usize, entry: usize, position: u64) {
        self.entry(slot, entry, POSITION)
            .store(position, Ordering::Release);
    }

    /// The position as the program left it. `None`: it cannot be one.
    pub fn take_position(&self, slot: usize, entry: usize) -> Option<u64> {
        let position = self.entry(slot, entry, POSITION);
        let found = position.swap(NOT_LENT, Ordering::AcqRel);
        (found & NOT_LENT == 0).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_once_and_is_none_that_no_file_has() {
        let channel = Channel::new().expect("memfd");
        channel.open_windows(3);
        assert_eq!(channel.take_position(3, 1), None);
        channel.lend_position(3, 1, 42);
        assert_eq!(channel.take_position(3, 1), Some(42));
        assert_eq!(channel.take_position(3, 1), None);
        channel.lend_position(3, 1, u64::MAX);
        assert_eq!(channel.take_position(3, 1), None);
    }

    #[test]
    fn slots_have_entries_of_their_own_within_the_channel() {
        let channel = Channel::new().expect("memfd");
        channel.stamp_entry(SLOTS - 1, 7, 9);
        let last = TABLE + SIZE - ENTRY;
        assert_eq!(channel.behind(last + STAMP).load(Ordering::Relaxed), 9);
        assert_eq!(channel.behind(last + DESCRIPTOR).load(Ordering::Relaxed), 7);
        assert_eq!(last + ENTRY, crate::channel::SIZE);
    }
}
