//! Files of the host that only tell events: inotify. The host keeps their state; one of its descriptors stands behind each.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::event::PollFlags;

use super::description::Description;
use super::fasync::{self, Band};
use super::file::{File, READABLE};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::wake::WaitQueue;
use crate::memory::Buffer;
use crate::watcher::{Handle, HasQueue};

/// What one read moves at most: inotify's events are 16 to 272 bytes long.
const CHUNK: usize = 64 << 10;

#[derive(Debug)]
pub struct HostEvents {
    fd: OwnedFd,
    queue: WaitQueue,
    fasync: fasync::List,
}

impl HostEvents {
    /// Takes a non-blocking descriptor. `ENOMEM` the host cannot watch it.
    pub fn new(fd: OwnedFd, watcher: &Handle) -> Result<Arc<Self>> {
        let file = Arc::new(Self {
            fd,
            queue: WaitQueue::default(),
            fasync: fasync::List::default(),
        });
        let queue: Weak<dyn HasQueue> = Arc::<Self>::downgrade(&file);
        if watcher.watch_file(&file.fd, queue) {
            Ok(file)
        } else {
            Err(Errno::ENOMEM)
        }
    }

    /// The host's descriptor of a file of that kind. `EINVAL` for any other file.
    pub fn of(description: &Description) -> Result<BorrowedFd<'_>> {
        description
            .file
            .downcast_ref::<Self>()
            .map(|file| file.fd.as_fd())
            .ok_or(Errno::EINVAL)
    }
}

impl HasQueue for HostEvents {
    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn on_event(&self, _kernel: &mut Kernel) {
        self.fasync.tell(Band::In);
    }
}

impl File for HostEvents {
    fn read(&self, _description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        let mut bytes = vec![0; to.remaining().min(CHUNK)];
        let count = crate::host::read(&self.fd, &mut bytes)?;
        to.put(&bytes[..count])
    }

    fn poll(&self) -> u32 {
        if crate::host::ready(&self.fd, PollFlags::IN).is_empty() {
            0
        } else {
            READABLE
        }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn fasync(&self) -> [Option<&fasync::List>; 2] {
        [Some(&self.fasync), None]
    }

    fn readable_bytes(&self) -> Result<usize> {
        let waiting = rustix::io::ioctl_fionread(&self.fd)?;
        Ok(usize::try_from(waiting).unwrap_or(usize::MAX))
    }

    fn anonymous(&self) -> Option<&'static str> {
        Some("inotify")
    }
}
