//! Signals as a file. signalfd(2): what it shows are the signals of whoever reads it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::description::Description;
use super::file::{File, POLLIN};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::signals::{Info, SI_KERNEL, SI_SIGIO, SI_TIMER, SI_USER, SIGCHLD, Set};
use crate::kernel::wake::WaitQueue;
use crate::memory::Buffer;
use crate::syscalls::Cx;

/// `struct signalfd_siginfo`.
const SIZE: usize = 128;

#[derive(Debug)]
pub struct SignalFd {
    mask: AtomicU64,
    /// Woken when the mask changes; signals wake their process's `signal_queue`.
    queue: WaitQueue,
}

impl SignalFd {
    #[must_use]
    pub fn new(mask: Set) -> Self {
        Self {
            mask: AtomicU64::new(mask.as_mask().0),
            queue: WaitQueue::default(),
        }
    }

    pub fn set_mask(&self, mask: Set) {
        self.mask.store(mask.as_mask().0, Ordering::Relaxed);
        self.queue.wake();
    }

    fn mask(&self) -> Set {
        Set(self.mask.load(Ordering::Relaxed))
    }
}

impl File for SignalFd {
    fn read_for(
        &self,
        cx: &mut Cx<'_>,
        _description: &Description,
        to: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        if to.remaining() < SIZE {
            return Err(Errno::EINVAL);
        }
        let (tid, mask) = (cx.tid(), self.mask());
        let mut done = 0;
        while to.remaining() >= SIZE {
            let Some(info) = cx.kernel.take_signal(tid, mask)? else {
                break;
            };
            match to.put(&layout(&info)) {
                Ok(count) => done += count,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if done == 0 {
            Err(Errno::EAGAIN)
        } else {
            Ok(done)
        }
    }

    fn poll(&self) -> u32 {
        0
    }

    fn poll_for(&self, kernel: &Kernel, tid: i32) -> u32 {
        let Ok(task) = kernel.task(tid) else { return 0 };
        let shared = kernel
            .process(task.pid)
            .map(|process| process.pending.set)
            .unwrap_or_default();
        let pending = task.pending.set.union(shared).0 & self.mask().0;
        if pending == 0 { 0 } else { POLLIN }
    }

    fn follows_signals(&self) -> bool {
        true
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn anonymous(&self) -> Option<&'static str> {
        Some("[signalfd]")
    }
}

/// Linux: signalfd_copyinfo(), by siginfo_layout().
fn layout(info: &Info) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let fields = &info.fields;
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &info.signal.to_le_bytes());
    put(8, &info.code.to_le_bytes());
    let is_own_kind = info.code > SI_USER && info.code < SI_KERNEL;
    let (sender, sigval) = (&fields[..8], &fields[8..16]);
    match (info.code, info.signal) {
        (_, SIGCHLD) if is_own_kind => {
            put(12, sender);
            put(40, &fields[8..12]);
            put(56, &fields[16..32]);
        }
        (_, libc::SIGPOLL) if is_own_kind => poll_fields(&mut put, fields),
        (SI_SIGIO, _) => poll_fields(&mut put, fields),
        (_, libc::SIGILL | libc::SIGFPE | libc::SIGSEGV | libc::SIGBUS | libc::SIGTRAP)
            if is_own_kind =>
        {
            put(72, &fields[..8]);
        }
        (SI_TIMER, _) => {
            put(24, &fields[..4]);
            put(32, &fields[4..8]);
            put(44, &sigval[..4]);
            put(48, sigval);
        }
        (code, _) => {
            put(12, sender);
            if code < SI_USER {
                put(44, &sigval[..4]);
                put(48, sigval);
            }
        }
    }
    bytes
}

fn poll_fields(put: &mut impl FnMut(usize, &[u8]), fields: &[u8; 32]) {
    put(28, &fields[..4]);
    put(20, &fields[8..12]);
}
