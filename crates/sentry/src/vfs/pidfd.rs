//! Descriptors of processes and of threads. pidfd_open(2).

use std::sync::Arc;

use super::file::{File, POLLHUP, READABLE};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::exit::End;
use crate::kernel::wake::WaitQueue;

/// PIDFD_THREAD: O_EXCL by another name.
pub const THREAD: i32 = libc::O_EXCL;

#[derive(Debug)]
pub struct PidFd {
    number: i32,
    /// Of the thread with that number alone.
    is_thread: bool,
    end: Arc<End>,
}

/// Whom a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Process(i32),
    /// By its native number.
    Thread(i32),
}

impl PidFd {
    #[must_use]
    pub fn of_process(pid: i32, end: Arc<End>) -> Self {
        Self {
            number: pid,
            is_thread: false,
            end,
        }
    }

    /// `ESRCH` there is no such thread. The end of a process's first is its process's: it is there until the others have ended.
    pub fn of_thread(kernel: &mut Kernel, tid: i32) -> Result<Self> {
        let thread = kernel.find_thread(tid).ok_or(Errno::ESRCH)?;
        let end = match kernel.process(tid) {
            Ok(process) => process.end.clone(),
            Err(_) => {
                let task = kernel.task_mut(thread)?;
                task.end.get_or_insert_default().clone()
            }
        };
        Ok(Self {
            number: tid,
            is_thread: true,
            end,
        })
    }

    /// Of a thread that is gone already.
    #[must_use]
    pub fn of_ended_thread(tid: i32) -> Self {
        Self {
            number: tid,
            is_thread: true,
            end: Arc::new(End::come()),
        }
    }

    /// None once the process has been waited for, or the thread has ended, even if that number has been given again.
    #[must_use]
    pub fn target(&self, kernel: &Kernel) -> Option<Target> {
        let thread = kernel.find_thread(self.number);
        let end = match kernel.process(self.number) {
            Ok(process) => &process.end,
            Err(_) => kernel.task(thread?).ok()?.end.as_ref()?,
        };
        if !Arc::ptr_eq(end, &self.end) {
            return None;
        }
        if self.is_thread {
            return thread.map(Target::Thread);
        }
        Some(Target::Process(self.number))
    }

    /// A process is there until it has been waited for, with its first thread; other threads leave nothing. Linux: release_task().
    fn is_gone(&self, kernel: &Kernel) -> bool {
        let process = kernel.process(self.number);
        !process.is_ok_and(|process| Arc::ptr_eq(&process.end, &self.end))
    }
}

impl File for PidFd {
    fn poll(&self) -> u32 {
        if self.end.has_come() { READABLE } else { 0 }
    }

    /// What has been waited for hangs up. Linux: pidfd_poll().
    fn poll_for(&self, kernel: &Kernel, _tid: i32) -> u32 {
        match self.poll() {
            0 => 0,
            events if self.is_gone(kernel) => events | POLLHUP,
            events => events,
        }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.end.queue)
    }

    fn name(&self) -> Vec<u8> {
        b"anon_inode:[pidfd]".to_vec()
    }
}
