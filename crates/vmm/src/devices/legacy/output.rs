//! Where a serial port's bytes go. Nobody waits for its reader: a virtual CPU that did would stand still with the port's lock, and a pause,
//! and with it the API, would wait for it.
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::devices::limiter::{Limits, RateLimiter, Refill};
use crate::devices::lock;

/// What a slow reader is kept; what comes on top of it is lost, as on a line without flow control.
const MAX_BACKLOG: usize = 256 << 10;
/// A pipe that can be written at all takes so many bytes at once (PIPE_BUF).
const CHUNK: usize = 4096;

#[derive(Debug)]
struct Line {
    file: File,
    backlog: VecDeque<u8>,
    limiter: Option<RateLimiter>,
    nr_limited: u64,
    nr_lost: u64,
}

/// Clones are the same line.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    line: Arc<Mutex<Line>>,
    /// For waiting, without the lock.
    watched: Arc<OwnedFd>,
}

impl Output {
    /// Standard output. It is never put into non-blocking mode, which its other users would share.
    pub(crate) fn standard() -> io::Result<Output> {
        Output::limited(None)
    }

    /// Standard output, with a limit.
    pub(crate) fn limited(limit: Option<&Refill>) -> io::Result<Output> {
        Output::new(io::stdout().as_fd().try_clone_to_owned()?.into(), limit)
    }

    pub(crate) fn new(file: File, limit: Option<&Refill>) -> io::Result<Output> {
        let limits = limit.map(|limit| Limits {
            bandwidth: Some(limit.clone()),
            ops: None,
        });
        let limiter = limits.map(|limits| RateLimiter::new(Some(&limits)));
        Ok(Output {
            watched: Arc::new(file.as_fd().try_clone_to_owned()?),
            line: Arc::new(Mutex::new(Line {
                file,
                backlog: VecDeque::new(),
                limiter: limiter.transpose()?,
                nr_limited: 0,
                nr_lost: 0,
            })),
        })
    }

    /// Becomes writable when [`Output::drain`] has something to do.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }

    /// Hands over what waits.
    pub(crate) fn drain(&self) {
        lock(&self.line).drain();
    }

    /// Bytes over the limit, and bytes that no reader took, since the last call.
    pub(crate) fn take_lost(&self) -> (u64, u64) {
        let mut line = lock(&self.line);
        let counts = (line.nr_limited, line.nr_lost);
        (line.nr_limited, line.nr_lost) = (0, 0);
        counts
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.line).send(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Line {
    fn send(&mut self, bytes: &[u8]) {
        let is_over = |limiter: &mut RateLimiter| !limiter.take(bytes.len() as u64);
        if self.limiter.as_mut().is_some_and(is_over) {
            self.nr_limited += bytes.len() as u64;
            return;
        }
        let fits = bytes.len().min(MAX_BACKLOG - self.backlog.len());
        self.backlog.extend(bytes.get(..fits).unwrap_or_default());
        self.nr_lost += (bytes.len() - fits) as u64;
        self.drain();
    }

    fn drain(&mut self) {
        while !self.backlog.is_empty() && self.is_writable() {
            let (front, _) = self.backlog.as_slices();
            let chunk = front.get(..CHUNK.min(front.len())).unwrap_or_default();
            match self.file.write(chunk) {
                Ok(written) => drop(self.backlog.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The reader is gone, or the disk is full.
                Err(_) => {
                    self.nr_lost += self.backlog.len() as u64;
                    self.backlog.clear();
                }
            }
        }
    }

    fn is_writable(&self) -> bool {
        let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&none)).is_ok_and(|ready| ready > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pipe() -> (File, Output) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (reader.into(), Output::new(writer.into(), None).unwrap())
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up_and_gets_it_later() {
        let (mut reader, mut output) = pipe();
        let sent = vec![7; 200_000];
        output.write_all(&sent).unwrap();
        let mut received = vec![0; sent.len()];
        let mut done = 0;
        while done < received.len() {
            output.drain();
            done += reader.read(&mut received[done..]).unwrap();
        }
        assert_eq!(received, sent);
        assert_eq!(output.take_lost(), (0, 0));
    }

    #[test]
    fn what_is_too_much_is_lost_and_counted() {
        let (reader, mut output) = pipe();
        output.write_all(&vec![7; 1 << 20]).unwrap();
        let (_, lost) = output.take_lost();
        assert!(lost >= (1 << 20) - (MAX_BACKLOG as u64) - (64 << 10));
        drop(reader);
        output.drain();
        assert_eq!(output.take_lost().1 + lost, (1 << 20) - (64 << 10));
    }

    #[test]
    fn bytes_over_the_limit_are_dropped() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let limit = Refill {
            size: 3,
            one_time_burst: None,
            refill_time: 3_600_000,
        };
        let mut output = Output::new(writer.into(), Some(&limit)).unwrap();
        for byte in 0..5 {
            output.write_all(&[byte]).unwrap();
        }
        assert_eq!(output.take_lost(), (2, 0));
        let mut received = [0; 8];
        assert_eq!(File::from(reader).read(&mut received).unwrap(), 3);
    }
}
