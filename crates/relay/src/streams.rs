//! The host's end of a process's streams. Reading is by poll(2); writing by a thread each, since a descriptor that came from elsewhere must not be made
//! non-blocking (its flags are shared with whoever else holds it), and one that nobody reads must not stop the others.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use casemate_guest_protocol::{Allowance, Receipt};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A writer has written so many bytes, of this process's stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) process: u32,
    pub(crate) stream: u8,
    pub(crate) bytes: usize,
    /// Nobody reads there any more.
    pub(crate) has_failed: bool,
}

/// Where writers tell what they have done.
#[derive(Debug, Clone)]
pub(crate) struct Notices {
    sender: Sender<Written>,
    wake: Arc<OwnedFd>,
}

impl Notices {
    pub(crate) fn new(wake: OwnedFd) -> (Self, Receiver<Written>) {
        let (sender, receiver) = channel();
        let wake = Arc::new(wake);
        (Self { sender, wake }, receiver)
    }

    fn tell(&self, written: Written) {
        // The loop outlives its writers; a full event counter is readable already.
        let _ = self.sender.send(written);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// A stream from the guest to a descriptor of the host's.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) receipt: Receipt,
    /// Bytes that are not written yet.
    pub(crate) pending: usize,
    queue: Option<Sender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(process: u32, stream: u8, fd: OwnedFd, notices: Notices) -> Self {
        let (queue, parts) = channel::<Vec<u8>>();
        let thread = std::thread::spawn(move || {
            let mut has_failed = false;
            for part in parts {
                has_failed = has_failed || write_all(&fd, &part).is_err();
                notices.tell(Written {
                    process,
                    stream,
                    bytes: part.len(),
                    has_failed,
                });
            }
        });
        Self {
            receipt: Receipt::default(),
            pending: 0,
            queue: Some(queue),
            thread: Some(thread),
        }
    }

    /// Queues bytes; how many there can be is bounded by the receipt.
    pub(crate) fn write(&mut self, bytes: Vec<u8>) {
        if let Some(queue) = &self.queue {
            self.pending += bytes.len();
            // A thread that ended has told so.
            let _ = queue.send(bytes);
        }
    }

    /// No more comes: the descriptor closes when all is written.
    pub(crate) fn end(&mut self) {
        self.queue = None;
    }

    pub(crate) fn has_finished(&self) -> bool {
        self.queue.is_none() && self.pending == 0
    }

    /// Waits until all is written.
    pub(crate) fn finish(mut self) {
        self.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(fd, PollFlags::OUT)], None)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A stream from a descriptor of the host's to the guest.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) fd: OwnedFd,
    pub(crate) allowance: Allowance,
}

impl Reader {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            allowance: Allowance::default(),
        }
    }

    /// What is there, once; `None`: the stream has ended.
    pub(crate) fn read(&mut self, most: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; most.min(self.allowance.left())];
        match rustix::io::read(&self.fd, &mut bytes) {
            Ok(0) => None,
            Ok(count) => {
                bytes.truncate(count);
                self.allowance.spend(count);
                Some(bytes)
            }
            Err(Errno::AGAIN | Errno::INTR) => Some(Vec::new()),
            Err(_) => None,
        }
    }
}
