//! Open file descriptions: what several descriptors, and processes, can share. open(2), "Open file descriptions".

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::File;

#[derive(Debug)]
pub struct Description {
    pub file: Arc<dyn File>,
    flags: AtomicU32,
    position: Mutex<u64>,
    /// F_SETOWN's process (positive) or group (negative), and F_SETSIG's signal.
    pub owner: Mutex<(i32, i32)>,
    /// It has taken locks (kernel::locks), which end with it.
    has_locks: AtomicBool,
}

/// Of the flags of an open, those that say what for. (libc's has O_PATH in it as well, where it is musl's.)
pub const O_ACCMODE: i32 = 3;

/// The status flags that F_SETFL may change.
const CHANGEABLE: u32 =
    (libc::O_APPEND | libc::O_NONBLOCK | libc::O_ASYNC | libc::O_DIRECT | libc::O_NOATIME)
        .cast_unsigned();

impl Description {
    #[must_use]
    pub fn new(file: Arc<dyn File>, flags: u32) -> Arc<Self> {
        Arc::new(Self {
            file,
            flags: AtomicU32::new(flags),
            position: Mutex::new(0),
            owner: Mutex::new((0, 0)),
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
        // A line knows no flags.
        for writes in [false, true] {
            if let Some(file) = self.file.lined(writes) {
                file.cut();
            }
        }
    }

    pub fn position(&self) -> MutexGuard<'_, u64> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
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
        if self.has_locks.load(Ordering::Relaxed) {
            crate::kernel::locks::description_ended(std::ptr::from_ref(self).addr());
        }
    }
}
