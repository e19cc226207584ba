//! Descriptors of processes. pidfd_open(2).

use std::any::Any;
use std::sync::Arc;

use super::attributes::Attributes;
use super::file::{File, POLLHUP, READABLE};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::exit::End;
use crate::kernel::wake::WaitQueue;

#[derive(Debug)]
pub struct PidFd {
    pid: i32,
    end: Arc<End>,
}

impl PidFd {
    #[must_use]
    pub fn new(pid: i32, end: Arc<End>) -> Self {
        Self { pid, end }
    }

    /// The process's number; none once it has been waited for, even if that number has been given again.
    #[must_use]
    pub fn pid(&self, kernel: &Kernel) -> Option<i32> {
        let process = kernel.process(self.pid).ok()?;
        Arc::ptr_eq(&process.end, &self.end).then_some(self.pid)
    }
}

impl File for PidFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn poll(&self) -> u32 {
        if self.end.has_come() { READABLE } else { 0 }
    }

    /// A process that has been waited for hangs up. Linux: pidfd_poll().
    fn poll_for(&self, kernel: &Kernel, _tid: i32) -> u32 {
        match (self.end.has_come(), self.pid(kernel)) {
            (false, _) => 0,
            (true, Some(_)) => READABLE,
            (true, None) => READABLE | POLLHUP,
        }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.end.queue)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(super::anonymous::attributes())
    }

    fn name(&self) -> Vec<u8> {
        b"anon_inode:[pidfd]".to_vec()
    }
}
