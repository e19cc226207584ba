//! Ends of traced threads and of tracers, and what wait(2) tells of tracees.

use super::{EXIT_KILL, Kind, Stop, Traced};
use crate::kernel::Kernel;
use crate::kernel::exit::end_info;
use crate::kernel::signals::{Info, SIGCHLD, SIGKILL};
use crate::kernel::task::Usage;
use crate::kernel::wait::{Change, Wanted, Which};

/// The end of a tracee that is not known to its tracer as a child's.
#[derive(Debug, Clone)]
pub struct TracedEnd {
    /// The tracer's process.
    tracer: i32,
    tid: i32,
    group: i32,
    uid: u32,
    status: i32,
    /// Its process ended with it, of which the parent hears only then.
    ends_process: bool,
}

impl Kernel {
    /// A thread is about to leave the books. `ends_process`: with its process, `status` being both's.
    pub fn trace_ends(&mut self, tid: i32, status: i32, ends_process: bool) {
        if self.tracees.is_empty() {
            return;
        }
        self.tracer_ends(tid);
        let Some(tracer) = self.traced(tid).and_then(|traced| traced.tracer) else {
            return;
        };
        self.tracees.retain(|other| *other != tid);
        let (Ok(task), Ok(tracer)) = (self.task(tid), self.process_of(tracer)) else {
            return;
        };
        let (number, pid, tracer) = (task.tid, task.pid, tracer.pid);
        let uid = task.credentials.uid;
        let Ok(process) = self.process(pid) else {
            return;
        };
        let (is_first, group) = (number == pid, process.group);
        if is_first && (!ends_process || process.parent == tracer) {
            return;
        }
        if is_first && let Ok(process) = self.process_mut(pid) {
            process.is_held_for_tracer = true;
        }
        self.traced_ends.push(TracedEnd {
            tracer,
            tid: number,
            group,
            uid,
            status,
            ends_process: is_first,
        });
        if let Ok(process) = self.process(tracer) {
            process.child_queue.wake();
            self.send_to_process(tracer, end_info(SIGCHLD, number, uid, status));
        }
    }

    /// What a thread traced is traced no more. Linux: exit_ptrace().
    fn tracer_ends(&mut self, tid: i32) {
        let is_own = |task: &crate::kernel::task::Task| {
            let traced = task.traced.as_ref();
            traced.is_some_and(|traced| traced.tracer == Some(tid))
        };
        let tracees: Vec<i32> = self
            .tracees
            .iter()
            .copied()
            .filter(|other| self.tasks.get(other).is_some_and(is_own))
            .collect();
        for tracee in tracees {
            let is_killed = self
                .traced(tracee)
                .is_some_and(|traced| traced.has(EXIT_KILL));
            self.end_trace(tracee, 0);
            if is_killed && let Ok(pid) = self.task(tracee).map(|task| task.pid) {
                self.send_to_process(pid, Info::new(SIGKILL, 0));
            }
        }
    }

    /// A process has ended that may have left ends of tracees unheard: their parents hear of them now.
    pub fn forget_traced_ends(&mut self, tracer: i32) {
        while let Some(place) = self.traced_ends.iter().position(|end| end.tracer == tracer) {
            let end = self.traced_ends.remove(place);
            self.pass_on(&end);
        }
    }

    fn pass_on(&mut self, end: &TracedEnd) {
        if !end.ends_process {
            return;
        }
        let Ok(process) = self.process_mut(end.tid) else {
            return;
        };
        process.is_held_for_tracer = false;
        let parent = process.parent;
        self.report_end(end.tid, parent, end.status);
    }

    /// The next change of a tracee of process `tracer`, as `find_change`. `any`: there is one that can change.
    pub(in crate::kernel) fn find_traced_change(
        &mut self,
        tracer: i32,
        which: Which,
        wanted: Wanted,
        any: &mut bool,
    ) -> Option<Change> {
        let fits = |tid: i32, group: i32| match which {
            Which::Any => true,
            Which::Pid(pid) => pid == tid,
            Which::Group(other) => other == group,
        };
        let ends = self.traced_ends.iter();
        let place = ends.enumerate().find_map(|(place, end)| {
            (wanted.exited && end.tracer == tracer && fits(end.tid, end.group)).then_some(place)
        });
        if let Some(place) = place {
            let end = if wanted.keep {
                self.traced_ends[place].clone()
            } else {
                self.traced_ends.remove(place)
            };
            let change = Change {
                pid: end.tid,
                uid: end.uid,
                status: end.status,
                is_traced: false,
                usage: Usage::default(),
            };
            if !wanted.keep && end.ends_process {
                self.pass_on(&end);
            }
            return Some(change);
        }
        let candidates = self.tracees.clone();
        for tid in candidates {
            let Ok(task) = self.task(tid) else { continue };
            let Some(traced) = &task.traced else { continue };
            let by = traced.tracer.and_then(|by| self.tasks.get(&by));
            let group = self.process(task.pid).map_or(0, |process| process.group);
            if by.is_none_or(|by| by.pid != tracer) || !fits(task.tid, group) {
                continue;
            }
            *any = true;
            let Some(stop) = traced.stop.as_ref().filter(|_| !traced.is_listening) else {
                continue;
            };
            if stop.is_reported {
                continue;
            }
            let change = Change {
                pid: task.tid,
                uid: task.credentials.uid,
                status: stop.code << 8 | 0x7F,
                is_traced: true,
                usage: Usage::default(),
            };
            if !wanted.keep
                && let Some(stop) = self.traced_mut(tid).and_then(|own| own.stop.as_mut())
            {
                stop.is_reported = true;
            }
            return Some(change);
        }
        None
    }

    /// Whether a child's stops are told as a tracee's.
    #[must_use]
    pub fn is_traced_by(&self, pid: i32, tracer: i32) -> bool {
        if self.tracees.is_empty() {
            return false;
        }
        let first = self
            .process(pid)
            .ok()
            .and_then(|process| self.leader(process));
        first
            .and_then(|task| task.traced.as_ref()?.tracer)
            .and_then(|by| self.tasks.get(&by))
            .is_some_and(|by| by.pid == tracer)
    }

    /// Whether a thread may execute a program of more rights than its own: its tracer, if it has one, may see that.
    #[must_use]
    pub fn tracer_may_see_more(&self, tid: i32) -> bool {
        self.traced(tid)
            .is_none_or(|traced| traced.tracer.is_none() || traced.sees_all)
    }

    /// The number of the thread's tracer, 0 without one.
    #[must_use]
    pub fn tracer_of(&self, task: &crate::kernel::task::Task) -> i32 {
        let by = task.traced.as_ref().and_then(|traced| traced.tracer);
        by.and_then(|by| self.tasks.get(&by)).map_or(0, |by| by.tid)
    }

    /// A process's stop begins or ends: its traced threads tell it. Linux: ptrace_trap_notify().
    pub fn tell_of_group_stop(&mut self, pid: i32, has_ended: bool) {
        let threads = match self.process(pid) {
            Ok(process) if !self.tracees.is_empty() => process.threads.clone(),
            _ => return,
        };
        for tid in threads {
            let Some(traced) = self.traced_mut(tid).filter(|own| own.tracer.is_some()) else {
                continue;
            };
            traced.passed_stop = false;
            if has_ended && traced.is_seized {
                self.ask_to_stop(tid);
            } else if !has_ended {
                self.interrupt(tid);
            }
        }
    }

    /// A seized thread is to stop, also out of its group's stop that it listens in.
    pub fn ask_to_stop(&mut self, tid: i32) {
        let Some(traced) = self.traced_mut(tid) else {
            return;
        };
        traced.wants_stop = true;
        if std::mem::take(&mut traced.is_listening) {
            traced.stop = None;
            self.wake_tracee(tid);
        } else if traced.stop.is_none() {
            self.interrupt(tid);
        }
    }

    /// An executing thread has become its process's first.
    pub fn trace_moved(&mut self, from: i32, to: i32) {
        if self.tracees.is_empty() {
            return;
        }
        // What the former first thread traced is free.
        self.tracer_ends(to);
        for other in self.tracees.clone() {
            if let Some(traced) = self.traced_mut(other)
                && traced.tracer == Some(from)
            {
                traced.tracer = Some(to);
            }
        }
        self.tracees.retain(|other| *other != from && *other != to);
        let is_traced = |own: &Traced| own.tracer.is_some();
        if self.traced(to).is_some_and(is_traced) {
            self.tracees.push(to);
        }
    }

    /// A new program is about to begin: in front of it the thread stops once more, and the host has forgotten what it was to trap.
    pub fn trace_program(&mut self, tid: i32, entry: u64) -> u64 {
        let Some(own) = self.traced_mut(tid) else {
            return entry;
        };
        own.begin_program(entry);
        casemate_platform::loader::traced_trap()
    }
}

/// What PTRACE_GET_SYSCALL_INFO calls it.
#[must_use]
pub fn call_stage(stop: &Stop) -> u8 {
    match stop.kind {
        Kind::Entry => 1,
        Kind::Exit => 2,
        Kind::Signal | Kind::Other => 0,
    }
}
