//! Files of the host that only tell events: timers and inotify. The host keeps their state; one of its descriptors stands behind each.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::attributes::Attributes;
use super::description::Description;
use super::file::{File, POLLIN, READABLE};
use crate::errno::{Errno, Result};
use crate::kernel::wake::WaitQueue;
use crate::memory::{Address, Buffer};
use crate::syscalls::Cx;
use crate::watcher::{Handle, HasQueue};

/// What one read moves at most: inotify's events are 16 to 272 bytes long.
const CHUNK: usize = 64 << 10;
const FIONREAD: u32 = 0x541B;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Timer,
    Inotify,
}

#[derive(Debug)]
pub struct HostEvents {
    fd: OwnedFd,
    kind: Kind,
    queue: WaitQueue,
}

impl HostEvents {
    /// Takes a non-blocking descriptor. `ENOMEM` the host cannot watch it.
    pub fn new(fd: OwnedFd, kind: Kind, watcher: &Handle) -> Result<Arc<Self>> {
        let file = Arc::new(Self {
            fd,
            kind,
            queue: WaitQueue::default(),
        });
        let queue: Weak<dyn HasQueue> = Arc::<Self>::downgrade(&file);
        if watcher.watch_file(&file.fd, queue) {
            Ok(file)
        } else {
            Err(Errno::ENOMEM)
        }
    }

    /// The host's descriptor of a file of that kind. `EINVAL` for any other file.
    pub fn of(description: &Description, kind: Kind) -> Result<BorrowedFd<'_>> {
        description
            .file
            .as_any()
            .downcast_ref::<Self>()
            .filter(|file| file.kind == kind)
            .map(|file| file.fd.as_fd())
            .ok_or(Errno::EINVAL)
    }
}

impl HasQueue for HostEvents {
    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }
}

impl File for HostEvents {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        let mut bytes = vec![0; to.remaining().min(CHUNK)];
        let count = rustix::io::read(&self.fd, &mut bytes)?;
        to.put(&bytes[..count])
    }

    fn poll(&self) -> u32 {
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let ready = rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0);
        match (ready, self.kind) {
            (false, _) => 0,
            (true, Kind::Timer) => POLLIN,
            (true, Kind::Inotify) => READABLE,
        }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(super::anonymous::attributes())
    }

    fn ioctl(
        &self,
        cx: &mut Cx<'_>,
        _description: &Description,
        request: u32,
        argument: Address,
    ) -> Result<i64> {
        // TFD_IOC_SET_TICKS is for whoever restores a snapshot of the machine's, not of programs'.
        if self.kind != Kind::Inotify || request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let waiting = rustix::io::ioctl_fionread(&self.fd)?;
        cx.memory()
            .write_i32(argument, i32::try_from(waiting).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    /// There are no positions, and no error either. Linux: noop_llseek().
    fn seek(&self, _description: &Description, _offset: i64, _whence: i32) -> Result<u64> {
        Ok(0)
    }

    fn name(&self) -> Vec<u8> {
        match self.kind {
            Kind::Timer => b"anon_inode:[timerfd]".to_vec(),
            Kind::Inotify => b"anon_inode:inotify".to_vec(),
        }
    }
}
