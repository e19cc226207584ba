//! `debug`: tasks with what they wait for, threads of the sentry's own, open files, mappings. Bounded, since a frame is.

use std::os::fd::OwnedFd;
use std::sync::{MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use casemate_platform::stacks;
use serde::{Deserialize, Serialize};

use super::{activity, processes};
use crate::host;
use crate::kernel::Kernel;
use crate::kernel::machine::read_below;
use crate::syscalls::table;
use crate::worker::SharedKernel;

/// Threads, files and mappings that are told each; how many more there are is told, too.
pub(super) const MOST: usize = 4096;
/// A kernel that is held for longer is told to be.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
/// A thread that has a processor says within this where it is. All together have `PATIENCE`.
const GLANCE: Duration = Duration::from_millis(1);

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Somebody held the kernel all the time: then only `threads` is told.
    pub is_stuck: bool,
    pub threads: Vec<ThreadRow>,
    pub tasks: Vec<TaskRow>,
    pub files: Vec<FileRow>,
    pub mappings: Vec<MappingRow>,
    /// Rows of each that were left out.
    pub left_out: usize,
}

/// A thread of the sentry's own.
#[derive(Debug, Serialize, Deserialize)]
pub struct ThreadRow {
    pub tid: i32,
    pub name: String,
    /// As in /proc/PID/stat.
    pub state: char,
    /// Where in the host's kernel it waits; empty: nowhere.
    pub channel: String,
    /// The program's call that it handles, and whose.
    pub handles: String,
    /// Addresses of the instructions that it is at, the innermost first.
    pub stack: Vec<u64>,
}

/// A thread of a program's.
#[derive(Debug, Serialize, Deserialize)]
pub struct TaskRow {
    pub pid: i32,
    pub tid: i32,
    pub ppid: i32,
    pub name: String,
    /// running, waiting, native (the host carries a call out), stopped, ended.
    pub state: String,
    pub call: String,
    pub channel: String,
    /// What is left of the call's time limit; -1: it has none.
    pub left_ms: i64,
    /// Of signals that wait for it or its process, and those that it blocks.
    pub pending: String,
    pub blocked: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct FileRow {
    pub pid: i32,
    pub fd: i32,
    pub flags: String,
    pub position: u64,
    pub name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct MappingRow {
    pub pid: i32,
    pub start: u64,
    pub end: u64,
    pub permissions: String,
    pub offset: u64,
    pub name: String,
}

/// Of one container's kernel.
#[must_use]
pub fn report(kernel: &SharedKernel) -> Report {
    let mut report = Report {
        threads: threads(),
        ..Report::default()
    };
    match lock_soon(kernel) {
        Some(kernel) => processes::add(&kernel, &mut report),
        None => report.is_stuck = true,
    }
    report
}

/// As `worker::lock`, but not for ever: who asks what is going on must be told so if it is that.
fn lock_soon(kernel: &SharedKernel) -> Option<MutexGuard<'_, Kernel>> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match kernel.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => {
                return Some(PoisonError::into_inner(poisoned));
            }
            Err(TryLockError::WouldBlock) => host::pause_for(PAUSE),
        }
    }
    None
}

fn threads() -> Vec<ThreadRow> {
    let handled = activity::now();
    let listed = host::list("/proc/self/task").unwrap_or_default();
    let numbers = listed.iter().filter_map(|(name, _)| name.parse().ok());
    let began = Instant::now();
    let wait = || {
        host::pause_for(GLANCE);
        began.elapsed() < PATIENCE
    };
    let mut rows: Vec<ThreadRow> = numbers
        .take(MOST)
        .map(|tid| thread(tid, &handled, wait))
        .collect();
    rows.sort_by_key(|row| row.tid);
    rows
}

fn thread(tid: i32, handled: &[(i32, i32, i32)], wait: impl Fn() -> bool) -> ThreadRow {
    let text =
        |file: &str| host::read_text(&format!("/proc/self/task/{tid}/{file}")).unwrap_or_default();
    let stat = text("stat");
    // The name before it may hold anything.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    let handles = handled.iter().find(|(own, ..)| *own == tid);
    ThreadRow {
        tid,
        name: text("comm").trim_end().to_owned(),
        state: state.unwrap_or('?'),
        channel: Some(text("wchan"))
            .filter(|at| at != "0")
            .unwrap_or_default(),
        handles: handles.map_or_else(String::new, |(_, caller, nr)| {
            format!("{} of thread {caller}", table::name(*nr))
        }),
        stack: stacks::of(tid, wait),
    }
}

pub(super) fn read_text(directory: &OwnedFd, path: &str) -> String {
    let bytes = read_below(directory, path, 4096).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The number in /proc/TID/syscall; `None`: it is in no call.
pub(super) fn host_call(text: &str) -> Option<i32> {
    text.split_whitespace()
        .next()?
        .parse()
        .ok()
        .filter(|nr| *nr >= 0)
}
