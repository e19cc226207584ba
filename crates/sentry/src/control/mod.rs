//! The control socket: how the runtime has further programs started, signals them and asks what runs. docs/design/sentry.md, "Control".
//!
//! The socket lies in the container's state directory, which only its owner may enter: whoever connects may do all of this. One thread serves it and
//! never waits for a client; how a program ends comes to it by `Reporter`, from whoever holds the kernel.

pub mod messages;

mod connection;
mod exec;
mod server;
mod terminal;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;

pub use server::{Closing, Server};
pub use terminal::terminal;

/// What becomes of a program that a client had started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Its process id in the sandbox.
    Started(i32),
    /// wait(2)'s status.
    Exited(i32),
    /// It was never started: the host's errno.
    Failed(i32),
    /// It was not started: an errno, or 0, and why.
    Refused(i32, String),
}

/// Tells the control thread about one client's program. Never waits.
#[derive(Debug, Clone)]
pub struct Reporter {
    client: u64,
    reports: Sender<(u64, Report)>,
    wake: Arc<OwnedFd>,
}

impl Reporter {
    /// `wake` is written to after each report.
    #[must_use]
    pub fn new(client: u64, reports: Sender<(u64, Report)>, wake: Arc<OwnedFd>) -> Self {
        Self {
            client,
            reports,
            wake,
        }
    }

    pub fn tell(&self, report: Report) {
        // A server that is gone has nobody to tell: the sandbox ends.
        if self.reports.send((self.client, report)).is_ok() {
            let _ = crate::host::write(&*self.wake, &1_u64.to_ne_bytes());
        }
    }
}
