//! What wait4(2) and waitid(2) find among the children.

use std::time::Duration;

use casemate_platform::process::{CpuClock, cpu_time};

use super::Kernel;
use super::task::{Process, StopReport, Usage};
use crate::errno::{Errno, Result};

/// Which children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Any,
    Pid(i32),
    Group(i32),
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    pub exited: bool,
    pub stopped: bool,
    pub continued: bool,
    /// Leave it waitable (WNOWAIT).
    pub keep: bool,
    /// Children that send another signal than SIGCHLD: only those (__WCLONE), or those too (__WALL).
    pub clones: bool,
    pub all: bool,
}

/// A child's change of state.
#[derive(Debug, Clone)]
pub struct Change {
    pub pid: i32,
    pub uid: u32,
    /// As wait4(2) tells it.
    pub status: i32,
    /// It is a tracee's stop.
    pub is_traced: bool,
    pub usage: Usage,
}

const CONTINUED: i32 = 0xFFFF;

impl Kernel {
    /// The next change of a child of process `parent`; `None` if there is none yet. `ECHILD` if there never will be.
    pub fn find_change(
        &mut self,
        parent: i32,
        which: Which,
        wanted: Wanted,
    ) -> Result<Option<Change>> {
        let mut any = false;
        if !self.tracees.is_empty() || !self.traced_ends.is_empty() {
            let found = self.find_traced_change(parent, which, wanted, &mut any);
            if found.is_some() {
                return Ok(found);
            }
        }
        let mut found = None;
        for child in self.processes.values() {
            let fits = match which {
                Which::Any => true,
                Which::Pid(pid) => child.pid == pid,
                Which::Group(group) => child.group == group,
            };
            let is_clone = child.exit_signal != super::signals::SIGCHLD;
            if child.parent != parent || !fits || (!wanted.all && is_clone != wanted.clones) {
                continue;
            }
            // One that has ended changes no more: who does not ask for ends would wait for ever.
            any |= wanted.exited || !child.is_zombie();
            let status = match (child.status, child.stop_report) {
                (Some(status), _) if wanted.exited && !child.is_held_for_tracer => status,
                (None, StopReport::Stopped(signal))
                    if wanted.stopped && !self.is_traced_by(child.pid, parent) =>
                {
                    signal << 8 | 0x7F
                }
                (None, StopReport::Continued) if wanted.continued => CONTINUED,
                _ => continue,
            };
            found = Some(Change {
                pid: child.pid,
                uid: child.uid,
                status,
                is_traced: false,
                usage: child.usage.clone(),
            });
            break;
        }
        if !any {
            return Err(Errno::ECHILD);
        }
        if let Some(change) = &found
            && !wanted.keep
        {
            self.collect(parent, change);
        }
        Ok(found)
    }

    fn collect(&mut self, parent: i32, change: &Change) {
        let Ok(child) = self.process_mut(change.pid) else {
            return;
        };
        if !child.is_zombie() {
            child.stop_report = StopReport::None;
            return;
        }
        let own = child.usage.clone();
        let mut below = child.children_usage.clone();
        if below.has_parents_memory {
            below.has_parents_memory = own.has_parents_memory;
            below.max_rss_kib = below.max_rss_kib.max(own.max_rss_kib);
        }
        let used = [own, below];
        self.processes.remove(&change.pid);
        if let Ok(parent) = self.process_mut(parent) {
            for usage in used {
                parent.children_usage.user_us += usage.user_us;
                parent.children_usage.system_us += usage.system_us;
                parent.children_usage.max_rss_kib =
                    parent.children_usage.max_rss_kib.max(usage.max_rss_kib);
                parent.children_usage.has_parents_memory |= usage.has_parents_memory;
            }
        }
    }
}

impl Usage {
    /// As it is told to the parent, which has that native process.
    #[must_use]
    pub fn seen_by(mut self, parent: i32) -> Self {
        if std::mem::take(&mut self.has_parents_memory) {
            self.max_rss_kib = self.max_rss_kib.max(host_usage(parent).max_rss_kib);
        }
        self
    }
}

/// What a process used that is about to end. One that did next to nothing since its fork is not looked up in /proc, which takes 10 us: within that time it can
/// have filled a few MiB at most. Its time is the user's, as the host has it where no tick met it. Linux: cputime_adjust().
#[must_use]
pub fn last_usage(process: &Process) -> Usage {
    const BRIEF: Duration = Duration::from_millis(1);
    let time = (!process.has_executed).then(|| cpu_time(process.host_pid, CpuClock::All));
    match time {
        Some(Ok(time)) if time < BRIEF => Usage {
            user_us: u64::from(time.subsec_micros()),
            has_parents_memory: true,
            ..Usage::default()
        },
        _ => host_usage(process.host_pid),
    }
}

/// Times and memory of a native process, from /proc/PID/stat; zero where it is gone.
#[must_use]
pub fn host_usage(host_pid: i32) -> Usage {
    const TICK_US: u64 = 10_000;
    let stat = crate::host::read_text(&format!("/proc/{host_pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Usage {
        user_us: number(11) * TICK_US,
        system_us: number(12) * TICK_US,
        max_rss_kib: number(21) * 4,
        has_parents_memory: false,
    }
}
