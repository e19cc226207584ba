//! The agent: process 1 of a long-lived sandbox (docs/design/agent.md). Starts programs, reaps, opens files, for whoever connects from outside.
#![forbid(unsafe_code)]

mod connection;
mod files;
mod frames;
mod messages;
mod programs;
mod server;
mod spawn;
mod users;
mod watch;

use std::io;
use std::os::fd::OwnedFd;

/// Serves `listen` until a `shutdown` or the deadline, then returns; what still runs dies with this process, which is the namespace's first.
///
/// # Errors
/// What makes serving impossible: no epoll, no signalfd.
pub fn serve(listen: OwnedFd) -> io::Result<()> {
    server::Server::new(listen)?.run()
}

/// A refused request: errno and a text for people.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(errno: i32, message: impl Into<String>) -> Self {
        Self {
            errno,
            message: message.into(),
        }
    }

    /// From a system call's error, with its subject.
    pub(crate) fn io(subject: &str, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let text = io::Error::from_raw_os_error(errno).to_string();
        let reason = text.split(" (os error").next().unwrap_or_default();
        Self::new(errno, format!("{subject}: {reason}"))
    }
}

pub(crate) type Answer<T> = Result<T, Refusal>;

/// Adds the subject to a system call's error.
pub(crate) trait About<T> {
    fn about(self, subject: &str) -> Answer<T>;
}

impl<T> About<T> for io::Result<T> {
    fn about(self, subject: &str) -> Answer<T> {
        self.map_err(|error| Refusal::io(subject, &error))
    }
}

impl<T> About<T> for rustix::io::Result<T> {
    fn about(self, subject: &str) -> Answer<T> {
        self.map_err(|error| Refusal::io(subject, &error.into()))
    }
}
