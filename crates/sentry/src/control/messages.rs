//! What clients ask and what they are told: MessagePack maps in frames of a 4-byte little-endian length. docs/design/sentry.md, "Control".

use serde::{Deserialize, Serialize};

use crate::boot::Config;
use crate::member::Joining;
use crate::trace::counts::CallRow;
use crate::trace::report::Report;

/// A program's arguments and environment are at most 2 MiB (execve(2)); nothing else comes near.
pub const MAX_FRAME: usize = 4 << 20;
/// Linux: SCM_MAX_FD.
pub const MAX_DESCRIPTORS: usize = 253;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Runs a program, whose descriptors come with the frame: `descriptors` are their numbers in there. With `terminal` (columns, rows), 0 to 2 are a new
    /// terminal of the sandbox's instead, whose master is sent back. One program per connection; it is killed when the connection closes before its end.
    Exec {
        program: Box<Config>,
        #[serde(default)]
        terminal: Option<(u16, u16)>,
        descriptors: Vec<i32>,
    },
    /// Starts a further container in the sandbox, whose descriptors come with the frame. It ends when the connection closes.
    Join(Box<Joining>),
    /// Signals the connection's program, or process `pid`; 0: every process.
    Signal {
        signal: i32,
        #[serde(default)]
        pid: Option<i32>,
        /// Why it came to the process that passes it on (siginfo's si_code).
        #[serde(default)]
        code: i32,
    },
    /// Asks for all processes.
    Ps {},
    /// Asks how often each call was made; their time is measured from then on.
    Syscalls {},
    /// Asks what is going on.
    Debug {},
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The terminal's master is with the frame.
    Console,
    Started {
        pid: i32,
    },
    /// wait(2)'s status.
    Exited {
        status: i32,
    },
    Error {
        errno: i32,
        message: String,
    },
    Done,
    Ps {
        processes: Vec<ProcessRow>,
    },
    Syscalls {
        calls: Vec<CallRow>,
        /// Calls that never come here, at least with some arguments: the host answers them.
        unseen: Vec<String>,
    },
    Debug(Box<Report>),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ProcessRow {
    pub pid: i32,
    pub ppid: i32,
    pub pgid: i32,
    pub sid: i32,
    pub uid: u32,
    pub threads: usize,
    /// As ps(1): R, S (all threads wait), T, Z.
    pub state: char,
    pub started_ms: u64,
    pub cpu_ms: u64,
    pub command: String,
}
