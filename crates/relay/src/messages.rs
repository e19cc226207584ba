//! What the runtime asks over the control socket, and what it and the starter are told: frames as everywhere (docs/design/plan.md, "Frames").

use casemate_guest_protocol::network::Network;
use casemate_guest_protocol::{Bytes, ProcessRow, Stats};
use serde::{Deserialize, Serialize};

/// A plan's bound (docs/design/plan.md) is 16 MiB; one with a seccomp profile and 2 MiB of arguments is far below this.
pub(crate) const MAX_FRAME: usize = 8 << 20;
/// A listening socket and three streams.
pub(crate) const MAX_DESCRIPTORS: usize = 4;

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Said {
    Request(Request),
    Command { command: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Runs a program by a plan for the guest. With the frame come three descriptors, its streams, or one: the slave of the terminal on the host.
    /// It is killed when the connection closes before its end.
    Exec {
        plan: Bytes,
        terminal: bool,
    },
    /// Creates a further container, whose files are in the machine's share already. With the frame come its control socket, which listens, then its streams as
    /// for `Exec`. `shared`: CLONE_NEW* of the namespaces that are those of the machine's first container.
    Join {
        container: String,
        plan: Bytes,
        terminal: bool,
        memory: u64,
        pids: u64,
        shared: u64,
    },
    /// Signals the connection's program; with `pid` 0 every process.
    Signal {
        signal: i32,
        #[serde(default)]
        pid: Option<i32>,
    },
    Resize {
        columns: u16,
        rows: u16,
    },
    Ps {},
    /// Freezes or thaws the container.
    Freeze {
        frozen: bool,
    },
    /// Sets the container's limits; 0: none.
    Limits {
        memory: u64,
        pids: u64,
    },
    /// What the container uses.
    Stats {},
    /// The taps that wait for the interfaces of the first container's network.
    Taps {},
    /// What those interfaces are.
    Network {
        network: Network,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    Ready,
    Console,
    Started {
        pid: i32,
    },
    /// wait(2)'s status.
    Exited {
        status: i32,
    },
    Error {
        op: String,
        index: i64,
        errno: i32,
        message: String,
    },
    Done,
    Ps {
        processes: Vec<ProcessRow>,
    },
    Stats {
        stats: Stats,
    },
    Taps {
        names: Vec<String>,
    },
}
