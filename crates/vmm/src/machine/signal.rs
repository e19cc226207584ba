//! An event that threads of the monitor send each other.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Clones are the same event.
#[derive(Clone, Debug)]
pub(crate) struct Signal(Arc<OwnedFd>);

impl Signal {
    pub(crate) fn new() -> io::Result<Signal> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Signal(Arc::new(fd)))
    }

    pub(crate) fn send(&self) {
        // Fails only when 2^64 - 2 events wait; then the receiver has one already.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Forgets what was sent.
    pub(crate) fn clear(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.0, &mut count);
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
