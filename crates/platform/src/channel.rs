//! Memory that the sentry shares with one process: slots in which its threads put calls, and find results. Everything in it is the program's to change at
//! any time: each word is read once, into a value that is checked like a register of a notification, and no reference into it is ever made.

use std::arch::asm;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::loader::BASE;
use crate::{check, transfer};

/// Where a process has it: below the loader, far from everything else.
pub const ADDRESS: u64 = BASE - 0x10_0000;
pub const SLOTS: usize = 16;
pub(crate) const SLOT: usize = 0x2000;
/// Slots, the table of answers (`answers`), and what is lent (`windows`). Pages that nobody touched take no memory.
pub const SIZE: usize = SLOTS * SLOT + crate::answers::SIZE + crate::windows::SIZE;
const LEN: libc::off_t = 0x4_1000;
const _: () = assert!(SIZE == 0x4_1000);
/// Bytes of data and of a path (with its NUL) that a slot holds.
pub const DATA_LEN: usize = 0x1000;
pub const PATH_LEN: usize = 0x100;

/// States of a slot. The stub goes from FREE to REQUEST and back, the sentry from REQUEST by TAKEN to DONE or DECLINED, the stub back to FREE. Or, where nobody
/// serves it, the stub goes from FREE or DECLINED to CARRIED, the sentry from there to DONE if the stub is to copy data.
pub const FREE: u32 = 0;
pub const REQUEST: u32 = 1;
pub const TAKEN: u32 = 2;
pub const DONE: u32 = 3;
/// To be made as an ordinary call.
pub const DECLINED: u32 = 4;
/// Made as an ordinary call, whose data lies here.
pub const CARRIED: u32 = 5;

// Offsets in a slot, as fast.s has them.
const STATE: usize = 0x00;
const LISTENING: usize = 0x04;
const RETURN: usize = 0x08;
const NUMBER: usize = 0x10;
const OUT_LEN: usize = 0x18;
const PATH_USED: usize = 0x1C;
const DATA_USED: usize = 0x20;
const OUT: usize = 0x28;
const RESULT: usize = 0x30;
const PROCESSOR: usize = 0x38;
const GAVE_UP: usize = 0x3C;
const ARGUMENTS: usize = 0x40;
const KEPT: usize = 0x98;
const PATH: usize = 0x100;
const DATA: usize = 0x1000;

/// One process's shared memory.
#[derive(Debug)]
pub struct Channel {
    memory: NonNull<u8>,
    fd: OwnedFd,
    pub(crate) lines: [crate::line::Own; SLOTS],
}

// SAFETY: all access goes through atomics and copies of bytes; the mapping lives as long as the value.
unsafe impl Send for Channel {}
// SAFETY: as above.
unsafe impl Sync for Channel {}

/// A call as it stands in a slot: hostile numbers.
#[derive(Debug, Clone, Copy)]
pub struct Offered {
    pub nr: i32,
    pub args: [u64; 6],
    /// The trampoline's system call.
    pub slow: u64,
    /// Bytes of the path, with its NUL; 0: none was copied.
    pub path: usize,
    /// Bytes of data that were copied, or may be.
    pub data: usize,
}

impl Channel {
    /// # Errors
    /// As memfd_create(2), ftruncate(2), mmap(2).
    pub fn new() -> io::Result<Self> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a C string.
        let raw = unsafe { libc::memfd_create(c"casemate-calls".as_ptr(), flags) };
        check(raw.into())?;
        // SAFETY: memfd_create returned a new descriptor, ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // Its size is fixed: what the sentry touches is always there, and growing a mapping of it leads nowhere.
        let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        // SAFETY: no memory is passed; the mapping is new, and as large as the file.
        let memory = unsafe {
            check(libc::ftruncate(fd.as_raw_fd(), LEN).into())?;
            check(libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals).into())?;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let memory = libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            );
            if memory == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            NonNull::new_unchecked(memory.cast())
        };
        Ok(Self {
            memory,
            fd,
            lines: Default::default(),
        })
    }

    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Where the program has a slot.
    #[must_use]
    pub fn address_of(slot: usize) -> u64 {
        ADDRESS + (slot % SLOTS * SLOT) as u64
    }

    fn at(&self, slot: usize, offset: usize) -> *mut u8 {
        // SAFETY: both are below their bounds, so the sum is within the mapping.
        unsafe {
            self.memory
                .as_ptr()
                .add(slot % SLOTS * SLOT + offset % SLOT)
        }
    }

    pub(crate) fn word(&self, slot: usize, offset: usize) -> &AtomicU32 {
        // SAFETY: the place is mapped for as long as `self` lives, and aligned (offsets are multiples of 4); others only change it, too.
        unsafe { AtomicU32::from_ptr(self.at(slot, offset).cast()) }
    }

    pub(crate) fn long(&self, slot: usize, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `word`; offsets are multiples of 8.
        unsafe { AtomicU64::from_ptr(self.at(slot, offset).cast()) }
    }

    /// A word of what lies behind the slots, or of them; offsets are multiples of 8.
    pub(crate) fn behind(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `word`; the place is within the mapping, whose size is a multiple of 8.
        unsafe { AtomicU64::from_ptr(self.memory.as_ptr().add(offset % SIZE).cast()) }
    }

    #[must_use]
    pub fn state(&self, slot: usize) -> u32 {
        self.word(slot, STATE).load(Ordering::Acquire)
    }

    pub fn set_state(&self, slot: usize, state: u32) {
        self.word(slot, STATE).store(state, Ordering::Release);
    }

    /// Takes a request; false if it was withdrawn.
    #[must_use]
    pub fn take(&self, slot: usize) -> bool {
        self.word(slot, STATE)
            .compare_exchange(REQUEST, TAKEN, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    pub fn set_listening(&self, slot: usize, listening: bool) {
        self.word(slot, LISTENING)
            .store(listening.into(), Ordering::SeqCst);
    }

    #[must_use]
    pub fn offered(&self, slot: usize) -> Offered {
        let long = |offset| self.long(slot, offset).load(Ordering::Relaxed);
        let half = |offset| self.word(slot, offset).load(Ordering::Relaxed);
        let mut args = [0; 6];
        for (index, value) in args.iter_mut().enumerate() {
            *value = long(ARGUMENTS + 8 * index);
        }
        Offered {
            nr: half(NUMBER).cast_signed(),
            args,
            slow: long(RETURN) >> 16,
            path: (half(PATH_USED) as usize).min(PATH_LEN),
            data: (half(DATA_USED) as usize).min(DATA_LEN),
        }
    }

    /// The result, and how many bytes the stub is to copy from the slot's data.
    pub fn finish(&self, slot: usize, result: i64, out: usize) {
        self.long(slot, RESULT)
            .store(result.cast_unsigned(), Ordering::Relaxed);
        let out = out.min(DATA_LEN) as u32;
        self.word(slot, OUT_LEN).store(out, Ordering::Relaxed);
    }

    /// The trampoline's system call, shifted, and the number in the low 16 bits: as the stub left it first.
    #[must_use]
    pub fn packed(&self, slot: usize) -> u64 {
        self.long(slot, RETURN).load(Ordering::Relaxed)
    }

    /// What rbx is but while the stub makes an ordinary call.
    #[must_use]
    pub fn kept(&self, slot: usize) -> u64 {
        self.long(slot, KEPT).load(Ordering::Relaxed)
    }

    /// Where the stub copies data to.
    #[must_use]
    pub fn out(&self, slot: usize) -> u64 {
        self.long(slot, OUT).load(Ordering::Relaxed)
    }

    /// The processor that the stub last ran on when it found nobody.
    #[must_use]
    pub fn processor(&self, slot: usize) -> usize {
        (self.word(slot, PROCESSOR).load(Ordering::Relaxed) & 0xFFF) as usize
    }

    /// Whether the stub has waited for the server in vain since this was last asked.
    #[must_use]
    pub fn take_gave_up(&self, slot: usize) -> bool {
        self.word(slot, GAVE_UP).swap(0, Ordering::Relaxed) != 0
    }

    /// What `finish` left, for who completes the call in the stub's place.
    #[must_use]
    pub fn finished(&self, slot: usize) -> (i64, usize) {
        let result = self.long(slot, RESULT).load(Ordering::Relaxed);
        let out = self.word(slot, OUT_LEN).load(Ordering::Relaxed) as usize;
        (result.cast_signed(), out.min(DATA_LEN))
    }

    /// Copies from the slot's path.
    pub fn read_path(&self, slot: usize, from: usize, into: &mut [u8]) {
        let len = into.len().min(PATH_LEN.saturating_sub(from));
        // SAFETY: `from + len` is within the path.
        unsafe { copy(self.at(slot, PATH + from), into.as_mut_ptr(), len) };
    }

    /// Copies from anywhere in the slot's first page.
    pub(crate) fn read_at(&self, slot: usize, from: usize, into: &mut [u8]) {
        let len = into.len().min(DATA.saturating_sub(from));
        // SAFETY: `from + len` is within the slot.
        unsafe { copy(self.at(slot, from), into.as_mut_ptr(), len) };
    }

    /// Copies from the slot's data.
    pub fn read_data(&self, slot: usize, from: usize, into: &mut [u8]) {
        let len = into.len().min(DATA_LEN.saturating_sub(from));
        // SAFETY: `from + len` is within the data.
        unsafe { copy(self.at(slot, DATA + from), into.as_mut_ptr(), len) };
    }

    /// preadv2(2) straight to the slot's data, at most `len` bytes.
    ///
    /// # Errors
    /// As preadv2(2).
    pub fn read_file(
        &self,
        slot: usize,
        to: usize,
        len: usize,
        file: (BorrowedFd<'_>, u64),
    ) -> io::Result<usize> {
        let len = len.min(DATA_LEN.saturating_sub(to));
        let at = i64::try_from(file.1).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let part = libc::iovec {
            iov_base: self.at(slot, DATA + to).cast(),
            iov_len: len,
        };
        // SAFETY: `to + len` is within the data; the host's kernel writes there, as the program may at any time.
        let count = check(unsafe { transfer(libc::SYS_preadv2, file.0.as_raw_fd(), &part, at) })?;
        usize::try_from(count).map_err(io::Error::other)
    }

    /// pwritev2(2) straight from the slot's data, at most `len` bytes; what the program changes there meanwhile it could have written to begin with.
    ///
    /// # Errors
    /// As pwritev2(2).
    pub fn write_file(
        &self,
        slot: usize,
        from: usize,
        len: usize,
        file: (BorrowedFd<'_>, u64),
    ) -> io::Result<usize> {
        let len = len.min(DATA_LEN.saturating_sub(from));
        let at = i64::try_from(file.1).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let part = libc::iovec {
            iov_base: self.at(slot, DATA + from).cast(),
            iov_len: len,
        };
        // SAFETY: `from + len` is within the data, which stays mapped; the host's kernel only reads there.
        let count = check(unsafe { transfer(libc::SYS_pwritev2, file.0.as_raw_fd(), &part, at) })?;
        usize::try_from(count).map_err(io::Error::other)
    }

    /// Copies to the slot's data.
    pub fn write_data(&self, slot: usize, to: usize, from: &[u8]) {
        let len = from.len().min(DATA_LEN.saturating_sub(to));
        // SAFETY: `to + len` is within the data.
        unsafe { copy(from.as_ptr(), self.at(slot, DATA + to), len) };
    }
}

/// Copies between our own memory and what a program may change meanwhile: by an instruction of which the compiler assumes nothing.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear (System V ABI).
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_once() {
        let channel = Channel::new().expect("memfd");
        assert!(!channel.take(3));
        channel.set_state(3, REQUEST);
        assert!(channel.take(3));
        assert!(!channel.take(3));
        assert_eq!(channel.state(3), TAKEN);
    }

    #[test]
    fn whatever_lengths_say_nothing_leaves_the_slot() {
        let channel = Channel::new().expect("memfd");
        channel
            .word(1, PATH_USED)
            .store(u32::MAX, Ordering::Relaxed);
        channel
            .word(1, DATA_USED)
            .store(u32::MAX, Ordering::Relaxed);
        let offered = channel.offered(1);
        assert_eq!((offered.path, offered.data), (PATH_LEN, DATA_LEN));
        channel.write_data(1, DATA_LEN - 2, &[7; 64]);
        let mut bytes = [0; 8];
        channel.read_data(1, DATA_LEN - 4, &mut bytes);
        assert_eq!(bytes, [0, 0, 7, 7, 0, 0, 0, 0]);
        channel.read_data(2, 0, &mut bytes);
        assert_eq!(bytes, [0; 8]);
    }
}
