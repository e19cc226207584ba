//! What every kind of open file offers. The defaults are Linux's own: what a file's operations lack.

use std::any::Any;
use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::attributes::Attributes;
use super::cache::Trail;
use super::description::Description;
use super::fasync;
use super::place::Place;
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::wake::WaitQueue;
use crate::memory::{Address, Buffer};
use crate::syscalls::{Cx, SysResult};

pub const POLLIN: u32 = 0x1;
pub const POLLPRI: u32 = 0x2;
pub const POLLOUT: u32 = 0x4;
pub const POLLERR: u32 = 0x8;
pub const POLLHUP: u32 = 0x10;
pub const POLLRDNORM: u32 = 0x40;
pub const POLLWRNORM: u32 = 0x100;
pub const POLLRDHUP: u32 = 0x2000;
pub const READABLE: u32 = POLLIN | POLLRDNORM;
pub const WRITABLE: u32 = POLLOUT | POLLWRNORM;

pub const FIONREAD: u32 = 0x541B;

/// One directory entry, as getdents64(2) tells it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub ino: u64,
    /// Where a later read continues behind it.
    pub next: i64,
    pub kind: u8,
    pub name: Vec<u8>,
}

impl dyn File {
    pub fn is<Kind: File>(&self) -> bool {
        (self as &dyn Any).is::<Kind>()
    }

    pub fn downcast_ref<Kind: File>(&self) -> Option<&Kind> {
        (self as &dyn Any).downcast_ref()
    }
}

pub trait File: Any + Send + Sync + Debug {
    /// Reads to the program; 0 is the end. `EAGAIN`: nothing there yet, wait on `queue`. `at`: a position of its own (pread), else the description's.
    fn read(
        &self,
        _description: &Description,
        _to: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// The whole of read(2), for a kind whose reads wait by rules of their own (a terminal's). `None`: `read` and `queue` say all.
    fn read_call(
        &self,
        _cx: &mut Cx<'_>,
        _description: &Arc<Description>,
        _to: &mut Buffer,
    ) -> Option<SysResult> {
        None
    }

    /// Asked before each run of a writing call: whether the caller may now (a terminal's background process may not).
    fn before_write(&self, _cx: &mut Cx<'_>) -> Result<()> {
        Ok(())
    }

    /// Writes from the program. `EAGAIN`: no room yet. `EPIPE` raises SIGPIPE in the caller.
    fn write(
        &self,
        _description: &Description,
        _from: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Called before `read` by read(2) and its kin: files whose content is the kernel's state (/proc) make it now.
    fn refresh(&self, _cx: &Cx<'_>, _description: &Description, _at: Option<u64>) {}

    /// Takes a write that changes the kernel's state (/proc/PID/comm); `None`: an ordinary file, `write` does it.
    fn store(
        &self,
        _cx: &mut Cx<'_>,
        _description: &Description,
        _from: &mut Buffer,
    ) -> Option<Result<usize>> {
        None
    }

    /// All of such a content, as it is now.
    fn content(&self, _cx: &Cx<'_>) -> Option<Result<Vec<u8>>> {
        None
    }

    /// Whether a read is over at once, or a write of so many bytes: with all of them, or an error. `may_wait`: the description's flags let it.
    fn is_at_once(&self, _writes: Option<usize>, _may_wait: bool) -> bool {
        self.queue().is_none() && self.socket().is_none()
    }

    /// What is possible now, in poll(2)'s bits.
    fn poll(&self) -> u32 {
        READABLE | WRITABLE
    }

    /// As `poll`, for a file that shows each thread something else (signalfd(2)), or that looks at others.
    fn poll_for(&self, _kernel: &Kernel, _tid: i32) -> u32 {
        self.poll()
    }

    /// As `read`, for such a file.
    fn read_for(
        &self,
        _cx: &mut Cx<'_>,
        description: &Description,
        to: &mut Buffer,
        at: Option<u64>,
    ) -> Result<usize> {
        self.read(description, to, at)
    }

    /// Whether it becomes ready with the caller's signals: then a waiter waits in its process's `signal_queue` as well.
    fn follows_signals(&self) -> bool {
        false
    }

    /// Woken when `poll` may have changed. `None`: never changes.
    fn queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Whom it signals with O_ASYNC on: who reads, and who writes where that is apart. Linux: its file_operations' fasync, if it has one.
    fn fasync(&self) -> [Option<&fasync::List>; 2] {
        [None, None]
    }

    /// What the host's kernel calls it, if it is an anonymous inode: such a file has no place, and positions that mean nothing.
    fn anonymous(&self) -> Option<&'static str> {
        None
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(super::anonymous::attributes())
    }

    /// As `attributes`, for an answer that its program keeps.
    fn attributes_told(&self, trail: &Trail) -> Result<Attributes> {
        trail.leave();
        self.attributes()
    }

    /// Device and inode.
    fn identity(&self) -> Result<(u64, u64)> {
        self.attributes().map(|attributes| attributes.id())
    }

    /// The mode's S_IFMT, which stays too.
    fn kind(&self) -> Result<u32> {
        self.attributes().map(|attributes| attributes.kind())
    }

    fn seek(&self, _description: &Description, _offset: i64, _whence: i32) -> Result<u64> {
        // Linux: noop_llseek().
        self.anonymous().map(|_| 0).ok_or(Errno::ESPIPE)
    }

    /// FIONREAD: how many bytes can be read now. `ENOTTY` it is not asked that.
    fn readable_bytes(&self) -> Result<usize> {
        Err(Errno::ENOTTY)
    }

    fn ioctl(
        &self,
        cx: &mut Cx<'_>,
        _description: &Description,
        request: u32,
        argument: Address,
    ) -> Result<i64> {
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let count = self.readable_bytes()?;
        cx.memory()
            .write_i32(argument, i32::try_from(count).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    /// The host's descriptor behind it, for what is done on that: mapping, truncating, syncing, attributes.
    fn host(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether its position is the host's, shared with whoever gave it, and not the description's.
    fn keeps_position(&self) -> bool {
        false
    }

    /// The place in the tree that it was opened at, if it has one.
    fn place(&self) -> Option<&Place> {
        None
    }

    /// Directory entries from the description's position on, as many as fit `room` bytes of getdents64's layout.
    fn entries(
        &self,
        _cx: &mut Cx<'_>,
        _description: &Description,
        _room: usize,
    ) -> Result<Vec<Entry>> {
        Err(Errno::ENOTDIR)
    }

    /// As `entries`, but at once in getdents64's own layout: for those whose host has it so already.
    fn packed_entries(&self, _description: &Description, _room: usize) -> Option<Result<Vec<u8>>> {
        None
    }

    /// How /proc/PID/fd names it, where it has no place.
    fn name(&self) -> Vec<u8> {
        format!("anon_inode:{}", self.anonymous().unwrap_or("[file]")).into_bytes()
    }

    /// Whether read and write at a position are refused (pipes, sockets, terminals).
    fn is_stream(&self) -> bool {
        true
    }

    /// Called when status flags change (O_NONBLOCK, O_APPEND), for files that keep them elsewhere too.
    fn set_flags(&self, _flags: u32) -> Result<()> {
        Ok(())
    }

    /// What only sockets do.
    fn socket(&self) -> Option<&dyn super::socket::Socket> {
        None
    }

    /// The direction of it that could have a line (`fast::lines`), of those who write or of those who read.
    fn lined(&self, _writes: bool) -> Option<Arc<dyn crate::fast::lines::Lined>> {
        None
    }

    /// A descriptor of the program for it was closed (close(2) of this one, not necessarily the last). `owner`: its process, as an owner of locks.
    fn flushed(&self, _owner: i32) {}
}
