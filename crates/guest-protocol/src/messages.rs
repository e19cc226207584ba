//! The messages. A process has a number of the relay's choice; what it says and hears goes by that number and the stream's.

use serde::{Deserialize, Serialize};

use crate::Bytes;
use crate::network::Network;

/// How the host's directories come into the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    Virtiofs,
    /// Over the link: the kernel's FUSE protocol, as `Files` of either direction.
    Protocol,
}

/// A root of the guest's own: an image that nobody writes, and what is written over it. Disks by `serial:NAME`, or by the name of their device; an image that is mapped as memory by `mapped:DEVICE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// EROFS.
    pub image: String,
    /// ext4 for what is written; else it is kept in the guest's memory.
    #[serde(default)]
    pub disk: Option<String>,
}

/// Limits of a container, which hold in the guest as the host's hold around it. 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    #[serde(default)]
    pub memory: u64,
    #[serde(default)]
    pub pids: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "to_guest", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToGuest {
    /// The first message, and again after a restore: the time, and entropy that no other guest has.
    Configure {
        time_ns: u64,
        entropy: Bytes,
        #[serde(default)]
        share: Option<Share>,
        #[serde(default)]
        root: Option<Root>,
        /// Whether this link loses what its reader is behind with, so that each lot is to be acknowledged.
        is_narrow: bool,
    },
    /// Nothing, which is answered by `Received`: for a line that hears what has come only when more comes, and for a sign of life.
    Nudge {},
    /// Starts a container's first process: `plan` for `init`, whose `await_start` is answered by `Start`.
    /// `default_action`: signals that the process has no handler for end it, though it is process 1 of a namespace.
    /// `shared`: CLONE_NEW* of the namespaces that are those of the machine's first container.
    Create {
        process: u32,
        container: String,
        plan: Bytes,
        terminal: bool,
        limits: Limits,
        default_action: bool,
        #[serde(default)]
        shared: u64,
    },
    /// Starts a further process of a container.
    Exec {
        process: u32,
        container: String,
        plan: Bytes,
        terminal: bool,
    },
    Start {
        process: u32,
    },
    Signal {
        process: u32,
        signal: i32,
    },
    /// Of every process of a container.
    SignalAll {
        container: String,
        signal: i32,
    },
    Data {
        process: u32,
        stream: u8,
        bytes: Bytes,
    },
    /// No more data on this stream.
    End {
        process: u32,
        stream: u8,
    },
    /// So many bytes of this stream were taken.
    Credit {
        process: u32,
        stream: u8,
        bytes: u32,
    },
    Resize {
        process: u32,
        columns: u16,
        rows: u16,
    },
    /// Asks for a container's processes.
    Processes {
        ticket: u32,
        container: String,
    },
    /// Freezes or thaws a container.
    Freeze {
        ticket: u32,
        container: String,
        frozen: bool,
    },
    /// Changes a container's limits.
    Limit {
        ticket: u32,
        container: String,
        limits: Limits,
    },
    /// Asks what a container uses.
    Stats {
        ticket: u32,
        container: String,
    },
    /// Connects to the agent that is the container's program (docs/design/agent.md). `streams`: the number of what a program gets that is started there.
    Connect {
        connection: u32,
        streams: u32,
        container: String,
    },
    /// Bytes of a connection. `with_streams`: a program's three streams go with the first of them.
    Packet {
        connection: u32,
        bytes: Bytes,
        with_streams: bool,
    },
    /// Bytes of the answers of the server of files.
    Files {
        bytes: Bytes,
    },
    /// The peer on the host is gone.
    Close {
        connection: u32,
    },
    /// The machine's cards become what the host has in the first container's network, in that one's namespace.
    Network {
        ticket: u32,
        network: Network,
    },
    /// Ends a container: kills what still runs of it.
    Remove {
        container: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "to_host", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToHost {
    /// The agent is ready.
    Hello {
        version: u32,
        release: String,
    },
    /// So many bytes of the link have come, for a link that loses them when too many do.
    Received {
        bytes: u32,
    },
    /// The process waits for `Start`.
    Ready {
        process: u32,
    },
    Started {
        process: u32,
        pid: i32,
    },
    /// `oom_kills` here and below: of a container's first process, how often the guest's kernel killed one of the container for its limit of memory.
    /// It will not run: the operation of its plan that failed, as `init` reported it.
    Failed {
        process: u32,
        op: String,
        index: i64,
        errno: i32,
        message: String,
        oom_kills: u64,
    },
    /// wait(2)'s status. All that it has said before is on its way already.
    Exited {
        process: u32,
        status: i32,
        oom_kills: u64,
    },
    Data {
        process: u32,
        stream: u8,
        bytes: Bytes,
    },
    End {
        process: u32,
        stream: u8,
    },
    Credit {
        process: u32,
        stream: u8,
        bytes: u32,
    },
    Processes {
        ticket: u32,
        rows: Vec<ProcessRow>,
    },
    /// What was asked is done; else why not.
    Answered {
        ticket: u32,
        errno: i32,
        message: String,
    },
    Stats {
        ticket: u32,
        stats: Stats,
    },
    /// Bytes of a connection, of one frame of it. `with_terminal`: a program's terminal goes with the first of them.
    /// `after_streams`: they come after all that the program has said so far.
    Packet {
        connection: u32,
        bytes: Bytes,
        with_terminal: bool,
        after_streams: bool,
    },
    /// Bytes of requests for files.
    Files {
        bytes: Bytes,
    },
    /// The container's agent is gone, or never was.
    Closed {
        connection: u32,
    },
}

/// What a container uses, as its cgroup in the guest says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    pub cpu_us: u64,
    pub user_us: u64,
    pub system_us: u64,
    pub memory: u64,
    pub memory_peak: u64,
    /// 0: none.
    pub memory_limit: u64,
    pub pids: u64,
    pub pids_limit: u64,
    pub oom_kills: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRow {
    pub pid: i32,
    pub ppid: i32,
    pub pgid: i32,
    pub sid: i32,
    pub uid: u32,
    pub threads: usize,
    pub state: char,
    pub started_ms: u64,
    pub cpu_ms: u64,
    pub command: String,
}
