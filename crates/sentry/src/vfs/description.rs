//! Open file descriptions: what several descriptors, and processes, can share. open(2), "Open file descriptions".

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use casemate_platform::channel::Channel;

use super::fasync::{self, Owner, SharedOwner};
use super::file::File;
use super::host::HostFile;

#[derive(Debug)]
pub struct Description {
    pub file: Arc<dyn File>,
    flags: AtomicU32,
    position: Mutex<Position>,
    owner: OnceLock<SharedOwner>,
    /// It has taken locks (kernel::locks), which end with it.
    has_locks: AtomicBool,
}

#[derive(Debug, Default)]
struct Position {
    byte: u64,
    /// Where a thread's stub has it meanwhile (`casemate_platform::windows`): a slot and its entry.
    lent: Option<(Arc<Channel>, usize, usize)>,
    /// Calls of lseek(2) with nothing else in between.
    seeks: u32,
}

/// The position, which nobody else changes meanwhile.
#[derive(Debug)]
pub struct Here<'a>(MutexGuard<'a, Position>);

impl Deref for Here<'_> {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.0.byte
    }
}

impl DerefMut for Here<'_> {
    fn deref_mut(&mut self) -> &mut u64 {
        &mut self.0.byte
    }
}

/// Calls of lseek(2) in a row after which the position is lent.
const SEEKS: u32 = 4;

/// Of the flags of an open, those that say what for. (libc's has O_PATH in it as well, where it is musl's.)
pub const O_ACCMODE: i32 = 3;

/// The status flags that F_SETFL changes. O_ASYNC is `set_async`'s. Linux: SETFL_MASK.
const CHANGEABLE: u32 =
    (libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME).cast_unsigned();
const ASYNC: u32 = libc::O_ASYNC.cast_unsigned();

impl Description {
    #[must_use]
    pub fn new(file: Arc<dyn File>, flags: u32) -> Arc<Self> {
        Arc::new(Self {
            file,
            flags: AtomicU32::new(flags),
            position: Mutex::default(),
            owner: OnceLock::new(),
            has_locks: AtomicBool::new(false),
        })
    }

    pub fn note_lock(&self) {
        self.has_locks.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    pub fn change_flags(&self, flags: u32) {
        let kept = self.flags() & !CHANGEABLE;
        self.flags
            .store(kept | (flags & CHANGEABLE), Ordering::SeqCst);
        // A window knows no flags.
        if let Some(file) = self.file.downcast_ref::<HostFile>() {
            file.end_windows();
        }
        self.cut_lines();
    }

    #[must_use]
    pub fn is_async(&self) -> bool {
        self.flags() & ASYNC != 0
    }

    /// Notes that the file signals its owner, or no longer.
    pub fn set_async(&self, on: bool) {
        if on {
            self.flags.fetch_or(ASYNC, Ordering::SeqCst);
        } else {
            self.flags.fetch_and(!ASYNC, Ordering::SeqCst);
        }
        self.cut_lines();
    }

    /// Whom it signals, to be changed.
    pub fn shared_owner(&self) -> &SharedOwner {
        self.owner.get_or_init(Arc::default)
    }

    #[must_use]
    pub fn owner(&self) -> Owner {
        let owner = self.owner.get().map(|owner| *fasync::lock(owner));
        owner.unwrap_or_default()
    }

    /// Nor does a line.
    fn cut_lines(&self) {
        for writes in [false, true] {
            if let Some(file) = self.file.lined(writes) {
                file.cut();
            }
        }
    }

    pub fn position(&self) -> Here<'_> {
        let mut here = self.position_to_seek();
        here.0.seeks = 0;
        here
    }

    /// As `position`, for lseek(2).
    pub fn position_to_seek(&self) -> Here<'_> {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((channel, slot, entry)) = position.lent.take()
            && let Some(byte) = channel.take_position(slot, entry)
        {
            position.byte = byte;
        }
        Here(position)
    }

    /// One more lseek(2) is over; whether its position is worth lending.
    pub fn is_sought_often(&self) -> bool {
        let mut here = self.position_to_seek();
        here.0.seeks = here.0.seeks.saturating_add(1);
        here.0.seeks >= SEEKS
    }

    /// Until somebody else asks for it. The entry is this description's.
    pub fn lend_position(&self, channel: &Arc<Channel>, slot: usize, entry: usize) {
        let mut here = self.position_to_seek();
        channel.lend_position(slot, entry, here.0.byte);
        here.0.lent = Some((channel.clone(), slot, entry));
    }

    /// Where the next read or write begins, whoever keeps that.
    #[must_use]
    pub fn next_byte(&self) -> u64 {
        if self.file.keeps_position() {
            return self.file.seek(self, 0, libc::SEEK_CUR).unwrap_or(0);
        }
        *self.position()
    }

    pub fn move_to(&self, byte: u64) {
        if self.file.keeps_position() {
            // A file that has a position takes any.
            let _ = self.file.seek(self, byte.cast_signed(), libc::SEEK_SET);
        } else {
            *self.position() = byte;
        }
    }

    #[must_use]
    pub fn is_nonblocking(&self) -> bool {
        self.flags() & libc::O_NONBLOCK.cast_unsigned() != 0
    }

    #[must_use]
    pub fn is_path(&self) -> bool {
        self.flags() & libc::O_PATH.cast_unsigned() != 0
    }

    #[must_use]
    pub fn is_readable(&self) -> bool {
        !self.is_path()
            && self.flags() & O_ACCMODE.cast_unsigned() != libc::O_WRONLY.cast_unsigned()
    }

    #[must_use]
    pub fn is_writable(&self) -> bool {
        !self.is_path()
            && self.flags() & O_ACCMODE.cast_unsigned() != libc::O_RDONLY.cast_unsigned()
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // It hears nothing of its own end. Linux: __fput().
        if let Some(owner) = self.owner.get().filter(|_| self.is_async()) {
            for list in self.file.fasync().into_iter().flatten() {
                list.remove(owner);
            }
        }
        if self.has_locks.load(Ordering::Relaxed) {
            crate::kernel::locks::description_ended(std::ptr::from_ref(self).addr());
        }
    }
}
