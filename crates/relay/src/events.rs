//! What the relay sleeps on, and small conversions of what the kernel says there.

use std::os::fd::{AsFd, OwnedFd};

/// Signals that have come to a signalfd.
pub(crate) fn read_signals(fd: &OwnedFd) -> Vec<i32> {
    let mut found = Vec::new();
    let mut info = [0; 128 * 16]; // struct signalfd_siginfo, whose first word is the number
    if let Ok(count) = rustix::io::read(fd.as_fd(), &mut info) {
        for entry in info[..count].chunks_exact(128) {
            found.push(i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]));
        }
    }
    found
}
