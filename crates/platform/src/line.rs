//! Lines: the way of one message from a thread's write to another thread's read, without the sentry. docs/decisions/2026-11-28-lines.md.
//!
//! Each slot has a box for the messages to its thread. Opening a line, the sentry leaves the descriptor in the reader's slot, descriptor and box in the
//! writer's, and in each of them the box's word as it is then: a generation that is never used again, and GRANTED. The stubs change the word by
//! compare-and-swap only, so a line that was cut meanwhile, or made way for another one, is not mistaken for theirs.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use crate::channel::{Channel, SLOTS};

/// The reader's and the writer's halves in their slots, as fast.s has them: descriptor and word each, then the box's address.
const IN: usize = 0x80;
const OUT: usize = 0x88;
const OUT_BOX: usize = 0x90;
const BOX: usize = 0x200;
const LEN: usize = BOX + 0x04;
/// The processor that the writer last ran on, and for how many looks it is worth waiting for it actively; 0: none, until so many sleeps have passed.
const WRITER_CPU: usize = BOX + 0x08;
const PATIENCE: usize = BOX + 0x0C;
const SLEEPS: usize = BOX + 0x10;
const BYTES: usize = BOX + 0x40;
/// The longest message.
pub const MOST: usize = 0x1000 - BYTES;
const _: () = assert!(MOST == 0xDC0);

pub(crate) const NOBODY: u32 = u32::MAX;
/// The word's flags; above them is the generation.
const GRANTED: u32 = 1;
/// Its thread waits in a read; by futex(2).
const READER: u32 = 2;
const ASLEEP: u32 = 4;
/// A message is being put in; is in.
const FILLING: u32 = 8;
const FULL: u32 = 16;
const FLAGS: u32 = 0xFF;
/// Some 100 us of looking: more than a wake-up across processors takes, so that the other side's costs only the first message.
const PATIENT: u32 = 4096;
const MANY_SLEEPS: u32 = 64;

/// The sentry's own part of a box.
#[derive(Debug, Default)]
pub(crate) struct Own {
    generation: AtomicU32,
    /// Its last line was cut while a writer put something in, and may still be at it.
    is_torn: AtomicBool,
}

/// A line between two slots of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    pub reader: usize,
    pub writer: usize,
    word: u32,
}

/// What a line that was cut leaves.
#[derive(Debug, Default)]
pub struct Rest {
    /// What was written and not read.
    pub message: Option<Vec<u8>>,
    /// Its reader stands in a call, which it makes in the ordinary way now.
    pub has_reader: bool,
}

/// What a signal interrupts: a read that waits, or nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Waiting,
    Before,
}

impl Channel {
    fn swap_if(&self, slot: usize, change: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        let word = self.word(slot, BOX);
        word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change)
            .ok()
    }

    /// Opens a line for reads of `reader`'s descriptor and writes of `writer`'s, both slots and numbers. `looks`: a reader may wait by looking. `None`: not now.
    #[must_use]
    pub fn open_line(
        &self,
        reader: (usize, i32),
        writer: (usize, i32),
        looks: bool,
    ) -> Option<Ends> {
        let own = self.lines.get(reader.0)?;
        if own.is_torn.load(Ordering::Relaxed) || writer.0 >= SLOTS || reader.0 == writer.0 {
            return None;
        }
        let generation = own
            .generation
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        // After 16 million lines a stale word could be taken for a new one: then no more.
        if generation >= u32::MAX >> 8 {
            own.generation.store(generation - 1, Ordering::Relaxed);
            return None;
        }
        let word = generation << 8 | GRANTED;
        for (at, value) in [
            (WRITER_CPU, NOBODY),
            (PATIENCE, if looks { PATIENT } else { 0 }),
            (SLEEPS, if looks { MANY_SLEEPS } else { u32::MAX }),
            (BOX, word),
        ] {
            self.word(reader.0, at).store(value, Ordering::SeqCst);
        }
        self.long(writer.0, OUT_BOX)
            .store(Self::address_of(reader.0) + BOX as u64, Ordering::SeqCst);
        for (slot, half, fd) in [(writer.0, OUT, writer.1), (reader.0, IN, reader.1)] {
            self.word(slot, half + 4).store(word, Ordering::SeqCst);
            self.word(slot, half)
                .store(fd.cast_unsigned(), Ordering::SeqCst);
        }
        Some(Ends {
            reader: reader.0,
            writer: writer.0,
            word,
        })
    }

    /// Ends a line: after this, both sides' calls come in the ordinary way.
    #[must_use]
    pub fn cut_line(&self, ends: Ends) -> Rest {
        for (slot, half) in [(ends.writer, OUT), (ends.reader, IN)] {
            self.word(slot, half).store(NOBODY, Ordering::SeqCst);
            self.word(slot, half + 4).store(0, Ordering::SeqCst);
        }
        let after = (ends.word & !FLAGS).wrapping_add(FLAGS + 1);
        let before = self.word(ends.reader, BOX).swap(after, Ordering::SeqCst);
        if let Some(own) = self.lines.get(ends.reader) {
            own.generation.fetch_max(after >> 8, Ordering::Relaxed);
            if before & FILLING != 0 {
                own.is_torn.store(true, Ordering::Relaxed);
            }
        }
        let message = (before & FULL != 0).then(|| {
            let len = self.word(ends.reader, LEN).load(Ordering::Relaxed) as usize;
            let mut bytes = vec![0; len.min(MOST)];
            fence(Ordering::SeqCst);
            self.read_at(ends.reader, BYTES, &mut bytes);
            bytes
        });
        self.wake_reader(ends.reader);
        Rest {
            message,
            has_reader: before & READER != 0,
        }
    }

    /// Wakes whoever sleeps at the box.
    pub fn wake_reader(&self, slot: usize) {
        crate::process::wake(self.word(slot, BOX));
    }

    /// The box that a slot's thread writes to: its slot. By what the program has there, so for what harms nobody else.
    #[must_use]
    pub fn box_of_writer(&self, slot: usize) -> Option<usize> {
        let at = self.long(slot, OUT_BOX).load(Ordering::Relaxed);
        (0..SLOTS).find(|slot| Self::address_of(*slot) + BOX as u64 == at)
    }

    /// A signal found the writer putting something in: it has not.
    pub fn take_back(&self, slot: usize) {
        let Some(target) = self.box_of_writer(slot) else {
            return;
        };
        let _ = self.swap_if(target, |word| {
            (word & FILLING != 0).then_some(word & !FILLING)
        });
        // It is not at it any more.
        if let Some(own) = self.lines.get(target) {
            own.is_torn.store(false, Ordering::Relaxed);
        }
    }

    /// A signal found the reader before the end of its read: it leaves it. What is coming, or has come, is for its next one.
    #[must_use]
    pub fn leave_read(&self, slot: usize) -> Found {
        let before = self.swap_if(slot, |word| Some(word & !(READER | ASLEEP)));
        match before {
            Some(word) if word & (GRANTED | READER | FILLING | FULL) == GRANTED | READER => {
                Found::Waiting
            }
            _ => Found::Before,
        }
    }

    /// What a finished call of a line left as its result, and the word that its reader last saw.
    #[must_use]
    pub fn line_seen(&self, slot: usize) -> u32 {
        self.word(slot, 0x18).load(Ordering::Relaxed)
    }

    /// Whether a message went in, by the word before it did.
    #[must_use]
    pub fn was_granted(word: u32) -> bool {
        word & GRANTED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(channel: &Channel, slot: usize) -> &AtomicU32 {
        channel.word(slot, BOX)
    }

    #[test]
    fn a_message_that_was_not_read_comes_back_with_the_cut() {
        let channel = Channel::new().expect("memfd");
        let ends = channel.open_line((1, 5), (2, 6), true).expect("free");
        assert_eq!(channel.box_of_writer(2), Some(1));
        channel.word(1, LEN).store(u32::MAX, Ordering::Relaxed);
        word(&channel, 1).fetch_or(FULL | READER, Ordering::Relaxed);
        let rest = channel.cut_line(ends);
        assert_eq!(rest.message.map(|bytes| bytes.len()), Some(MOST));
        assert!(rest.has_reader);
        let again = channel.open_line((1, 5), (2, 6), true).expect("free");
        assert_ne!(again.word, ends.word);
        assert!(channel.cut_line(again).message.is_none());
    }

    #[test]
    fn a_box_that_somebody_may_still_fill_has_no_other_line_until_that_is_over() {
        let channel = Channel::new().expect("memfd");
        let ends = channel.open_line((1, 5), (2, 6), true).expect("free");
        word(&channel, 1).fetch_or(FILLING, Ordering::Relaxed);
        assert!(channel.cut_line(ends).message.is_none());
        assert_eq!(channel.open_line((1, 5), (3, 6), true), None);
        channel.take_back(2);
        assert!(channel.open_line((1, 5), (3, 6), true).is_some());
    }

    #[test]
    fn a_signal_ends_a_read_that_waits_and_no_other() {
        let channel = Channel::new().expect("memfd");
        let _ = channel.open_line((1, 5), (2, 6), true).expect("free");
        assert_eq!(channel.leave_read(1), Found::Before);
        word(&channel, 1).fetch_or(READER | ASLEEP, Ordering::Relaxed);
        assert_eq!(channel.leave_read(1), Found::Waiting);
        word(&channel, 1).fetch_or(READER | FULL, Ordering::Relaxed);
        assert_eq!(channel.leave_read(1), Found::Before);
        assert_eq!(word(&channel, 1).load(Ordering::Relaxed) & READER, 0);
    }
}
