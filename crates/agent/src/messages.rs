//! Requests and answers, as docs/design/agent.md lists them.

use casemate_plan::op::binary;
use serde::{Deserialize, Serialize};

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Size {
    pub(crate) columns: u16,
    pub(crate) rows: u16,
}

/// A program to start. `user`: "name", "uid" or "uid:gid"; None is root of the sandbox.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) pty: Option<Size>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    Ping {},
    Exec(Program),
    Wait {
        pid: i32,
    },
    Signal {
        pid: i32,
        signal: i32,
        group: bool,
    },
    Processes {},
    Resize {
        pid: i32,
        columns: u16,
        rows: u16,
    },
    Open {
        path: String,
        flags: u32,
        mode: u32,
        parents: bool,
        #[serde(default)]
        keep: bool,
    },
    /// Of the file that the connection keeps.
    Read {
        count: u32,
    },
    Write {
        #[serde(with = "binary")]
        bytes: Vec<u8>,
    },
    Stat {
        path: String,
        follow: bool,
    },
    List {
        path: String,
        depth: u32,
        limit: u32,
    },
    MakeDir {
        path: String,
        mode: u32,
        parents: bool,
    },
    Rename {
        source: String,
        destination: String,
    },
    Remove {
        path: String,
        recursive: bool,
    },
    Watch {
        path: String,
        recursive: bool,
        #[serde(default)]
        keep: bool,
    },
    /// Of the watch that the connection keeps: what happened, as inotify(7) has it, or a further directory.
    Changes {},
    WatchMore {
        path: String,
    },
    Deadline {
        ms: u64,
    },
    Shutdown {
        signal: i32,
        grace_ms: u64,
    },
}

/// What an answer carries besides `ok`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Reply {
    Done {
        ok: bool,
    },
    Version {
        ok: bool,
        version: &'static str,
    },
    Started {
        ok: bool,
        pid: i32,
    },
    Processes {
        ok: bool,
        processes: Vec<Process>,
    },
    Status {
        ok: bool,
        status: Status,
    },
    Entries {
        ok: bool,
        entries: Vec<Entry>,
        truncated: bool,
    },
    Made {
        ok: bool,
        created: bool,
    },
    Watching {
        ok: bool,
        directories: Vec<(i32, String)>,
    },
    Bytes {
        ok: bool,
        #[serde(with = "binary")]
        bytes: Vec<u8>,
    },
    Count {
        ok: bool,
        count: usize,
    },
    Refused {
        ok: bool,
        errno: i32,
        message: String,
    },
}

#[derive(Debug, Serialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) args: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) terminal: bool,
}

/// A file's attributes. `kind`: file, dir, symlink, fifo, socket, char or block.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_ns: i64,
    pub(crate) target: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) path: String,
    #[serde(flatten)]
    pub(crate) status: Status,
}

/// The watch that a connection keeps has something new: said once, until `changes` is asked.
#[derive(Debug, Serialize)]
pub(crate) struct Changed {
    pub(crate) event: &'static str,
}

/// A program's end, on each connection that waits for it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Exited {
    pub(crate) event: &'static str,
    pub(crate) pid: i32,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) user_us: i64,
    pub(crate) system_us: i64,
    pub(crate) max_rss_kib: i64,
}
