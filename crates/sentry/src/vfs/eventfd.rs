//! Counters to wait for. eventfd(2).

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::description::Description;
use super::file::{File, POLLERR, POLLIN, POLLOUT};
use crate::errno::{Errno, Result};
use crate::kernel::wake::WaitQueue;
use crate::memory::Buffer;

#[derive(Debug)]
pub struct EventFd {
    count: Mutex<u64>,
    is_semaphore: bool,
    queue: WaitQueue,
}

impl EventFd {
    #[must_use]
    pub fn new(initial: u32, is_semaphore: bool) -> Self {
        Self {
            count: Mutex::new(initial.into()),
            is_semaphore,
            queue: WaitQueue::default(),
        }
    }

    /// `EINVAL` for any other file.
    pub fn of(description: &Description) -> Result<&Self> {
        let file = description.file.downcast_ref::<Self>();
        file.ok_or(Errno::EINVAL)
    }

    /// Adds one. A full counter stays as it is. Linux: eventfd_signal().
    pub fn signal(&self) {
        let mut count = self.lock();
        *count = count.saturating_add(1);
        drop(count);
        self.queue.wake_for(POLLIN);
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File for EventFd {
    fn read(&self, _description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut count = self.lock();
        if *count == 0 {
            return Err(Errno::EAGAIN);
        }
        let taken = if self.is_semaphore { 1 } else { *count };
        *count -= taken;
        drop(count);
        self.queue.wake_for(POLLOUT);
        to.put(&taken.to_le_bytes())
    }

    fn write(
        &self,
        _description: &Description,
        from: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        if from.remaining() != 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        // Not used up before it is known that there is room.
        let mut look = from.clone();
        if look.take(&mut bytes)? < bytes.len() {
            return Err(Errno::EFAULT);
        }
        let added = u64::from_le_bytes(bytes);
        if added == u64::MAX {
            return Err(Errno::EINVAL);
        }
        let mut count = self.lock();
        if u64::MAX - *count <= added {
            return Err(Errno::EAGAIN);
        }
        *count += added;
        drop(count);
        from.skip(bytes.len());
        self.queue.wake_for(POLLIN);
        Ok(bytes.len())
    }

    fn poll(&self) -> u32 {
        let count = *self.lock();
        let mut events = 0;
        if count > 0 {
            events |= POLLIN;
        }
        if count == u64::MAX {
            events |= POLLERR;
        }
        if u64::MAX - 1 > count {
            events |= POLLOUT;
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn anonymous(&self) -> Option<&'static str> {
        Some("[eventfd]")
    }
}
