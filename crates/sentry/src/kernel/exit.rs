//! Ends of threads and processes. exit(2), wait(2), "NOTES" on zombies and orphans.

use super::Kernel;
use super::numbers::ByNumber;
use super::signals::{Info, LAST, SA_NOCLDWAIT, SIG_IGN, SIGCHLD, SIGCONT};
use super::task::{Process, StopReport};
use super::wake::WaitQueue;
use crate::vfs::description::Description;
use crate::vfs::file::READABLE;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SIGHUP: i32 = 1;
const CLD_EXITED: i32 = 1;
const CLD_KILLED: i32 = 2;
const CLD_DUMPED: i32 = 3;

/// Processes that have ended on the books, by their native number, while the host still ends them. Of those whose end nobody waits for, the descriptor tells it.
#[derive(Debug, Default)]
pub struct Dying {
    processes: HashMap<i32, Option<Arc<OwnedFd>>, ByNumber>,
    /// How many there may be until those are dropped that are gone.
    most: usize,
}

impl Dying {
    /// Fewer are kept: each is a descriptor.
    const KEPT: usize = 64;

    #[must_use]
    pub fn has(&self, pid: i32) -> bool {
        self.processes.get(&pid).is_some_and(is_there)
    }

    fn add(&mut self, pid: i32, unwatched: Option<Arc<OwnedFd>>) {
        if self.processes.len() >= self.most {
            self.processes.retain(|_, pidfd| is_there(pidfd));
            self.most = Self::KEPT.max(2 * self.processes.len());
        }
        self.processes.insert(pid, unwatched);
    }

    fn remove(&mut self, pid: i32) -> bool {
        self.processes.remove(&pid).is_some()
    }
}

fn is_there(unwatched: &Option<Arc<OwnedFd>>) -> bool {
    unwatched
        .as_ref()
        .is_none_or(|pidfd| casemate_platform::process::parent(pidfd).is_some())
}

/// Whether a process has ended, for descriptors of it: they outlive its number.
#[derive(Debug, Default)]
pub struct End {
    has_come: AtomicBool,
    pub queue: WaitQueue,
}

impl End {
    /// One that has come already.
    #[must_use]
    pub fn come() -> Self {
        Self {
            has_come: AtomicBool::new(true),
            queue: WaitQueue::default(),
        }
    }

    #[must_use]
    pub fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }

    fn tell(&self) {
        self.has_come.store(true, Ordering::Release);
        self.queue.wake_for(READABLE);
    }
}

/// What the signal of an end says.
pub(super) fn end_info(signal: i32, pid: i32, uid: u32, status: i32) -> Info {
    let (code, value) = if status & 0x7F == 0 {
        (CLD_EXITED, status >> 8)
    } else if status & 0x80 != 0 {
        (CLD_DUMPED, status & 0x7F)
    } else {
        (CLD_KILLED, status & 0x7F)
    };
    Info::child(signal, code, pid, uid, value)
}

impl Kernel {
    /// A thread ends by itself; with the last one its process does.
    pub fn end_thread(&mut self, tid: i32, code: i32) {
        let Ok(process) = self.process_of_mut(tid) else {
            return;
        };
        let pid = process.pid;
        if process.threads.len() <= 1 {
            return self.end_process(pid, (code & 0xFF) << 8);
        }
        process.threads.retain(|thread| *thread != tid);
        // The host takes microseconds to end one: the last few are enough to know.
        if process.ended_threads.len() >= 64 {
            process.ended_threads.remove(0);
        }
        process.ended_threads.push(tid);
        self.withdraw_slot(tid);
        self.trace_ends(tid, (code & 0xFF) << 8, false);
        self.forget_task(tid);
    }

    pub(super) fn forget_task(&mut self, tid: i32) {
        self.unblock(tid);
        self.release_slot(tid);
        self.forget_place(tid);
        self.forget_birth(tid);
        self.embryos.retain(|creator| *creator != tid);
        let Some(task) = self.tasks.remove(&tid) else {
            return;
        };
        if self.tids.get(&task.tid) == Some(&tid) {
            self.tids.remove(&task.tid);
        }
        if let Some(end) = &task.end {
            end.tell();
        }
    }

    /// Ends a process on the sentry's books, `status` as wait(2) tells it. Its native end is the caller's to bring about.
    pub fn end_process(&mut self, pid: i32, status: i32) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        if process.is_zombie() {
            return;
        }
        // A child that has not called yet outlives it.
        let threads = process.threads.clone();
        for tid in threads {
            self.bind_child_of(tid);
        }
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        process.status = Some(status);
        process.end.tell();
        let terminal = process.terminal.clone();
        self.trace.process_ended(pid, status);
        self.leave_terminal(pid, true);
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        process.stop_report = StopReport::None;
        if let Some(task) = self.tasks.get(&process.host_pid) {
            process.settings.last_name.clone_from(&task.name);
        }
        process.terminal = None;
        process.timers.clear();
        process.alarm = super::timers::Alarm::default();
        let parent = process.parent;
        crate::syscalls::sysv_semaphores::process_ended(&mut self.sysv.semaphores, pid);
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let threads = std::mem::take(&mut process.threads);
        self.begin_native_end(pid, threads.len() == 1);
        let mut closed: Vec<Arc<Description>> = Vec::new();
        for tid in threads {
            self.trace_ends(tid, status, true);
            if let Some(task) = self.tasks.get(&tid)
                && !task.files.is_shared()
            {
                closed.extend(task.files.lock().clear());
            }
            self.forget_task(tid);
        }
        for description in &closed {
            description.file.flushed(self.owner_number(pid));
        }
        drop(closed);
        if let Some(reporter) = self.reporters.remove(&pid) {
            self.terminals.tell_end(terminal, reporter, status);
        }
        if pid == 1 {
            self.result = Some(status);
            return;
        }
        self.adopt_children(pid);
        self.let_creators_go();
        self.forget_traced_ends(pid);
        if self
            .process(pid)
            .is_ok_and(|process| process.is_held_for_tracer)
        {
            return;
        }
        self.report_end(pid, parent, status);
    }

    /// The host's part of the process is about to end: notes what it used, while that can still be asked. Nobody need hear of the end of one whose only thread
    /// has told it, if a descriptor can say later whether it has come: a wake-up of the watcher less.
    fn begin_native_end(&mut self, pid: i32, was_alone: bool) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        process.usage = super::wait::last_usage(process);
        let unwatched = process
            .pidfd
            .as_ref()
            .zip(process.watch.take())
            .filter(|(pidfd, watch)| {
                was_alone
                    && casemate_platform::process::parent(pidfd).is_some()
                    && self.watcher.unwatch(*watch, pidfd)
            })
            .map(|(pidfd, _)| pidfd.clone());
        self.dying.add(process.host_pid, unwatched);
    }

    /// Orphans go to the next subreaper above, else to the sandbox's first process. prctl(2), PR_SET_CHILD_SUBREAPER.
    fn adopt_children(&mut self, pid: i32) {
        let mut heir = self.process(pid).map_or(1, |process| process.parent);
        while heir > 1
            && !self
                .process(heir)
                .is_ok_and(|process| process.is_subreaper && !process.is_zombie())
        {
            heir = self.process(heir).map_or(1, |process| process.parent);
        }
        let heir = heir.max(1);
        let mut loosened = self.loosened_groups(pid);
        let children: Vec<(i32, Option<i32>)> = self
            .processes
            .values()
            .filter(|child| child.parent == pid)
            .map(|child| (child.pid, child.status))
            .collect();
        for (child, status) in &children {
            if let Ok(child) = self.process_mut(*child) {
                child.parent = heir;
                child.exit_signal = SIGCHLD;
            }
            let death_signals: Vec<(i32, i32)> = self
                .tasks
                .values()
                .filter(|task| task.pid == *child && task.parent_death_signal != 0)
                .map(|task| (task.host_tid, task.parent_death_signal))
                .collect();
            for (tid, signal) in death_signals {
                self.send_to_thread(tid, Info::from_sender(signal, 0, pid, 0));
            }
            let is_held = self
                .process(*child)
                .is_ok_and(|process| process.is_held_for_tracer);
            if let Some(status) = status.filter(|_| !is_held) {
                self.report_end(*child, heir, status);
            }
        }
        loosened.dedup();
        let session = self.process(pid).map_or(0, |process| process.session);
        for group in loosened {
            self.hang_up_orphaned(group, session);
        }
    }

    /// The process groups that the end of this process may leave orphaned: it was a link of theirs to another group of the session, as child or as parent.
    /// Those that were orphaned before hear nothing. Linux: kill_orphaned_pgrp().
    fn loosened_groups(&self, pid: i32) -> Vec<i32> {
        let Ok(process) = self.process(pid) else {
            return Vec::new();
        };
        let is_link = |child: &Process, parent: &Process| {
            child.group != parent.group && child.session == parent.session
        };
        let mut groups: Vec<i32> = self
            .processes
            .values()
            .filter(|child| child.parent == pid && is_link(child, process))
            .map(|child| child.group)
            .collect();
        if self
            .process(process.parent)
            .is_ok_and(|parent| is_link(process, parent))
        {
            groups.push(process.group);
        }
        groups.sort_unstable();
        groups
    }

    /// A group that became orphaned while members are stopped gets SIGHUP and SIGCONT. setpgid(2), POSIX exit().
    fn hang_up_orphaned(&mut self, group: i32, session: i32) {
        let has_stopped = self
            .processes
            .values()
            .any(|process| process.group == group && process.is_stopped && !process.is_zombie());
        if !has_stopped || !self.is_orphaned(group, session) {
            return;
        }
        self.send_to_group(group, SIGHUP);
        self.send_to_group(group, SIGCONT);
    }

    /// Tells the parent, and removes the process at once if the parent wants no zombies.
    pub(super) fn report_end(&mut self, pid: i32, parent: i32, status: i32) {
        let Ok(process) = self.process(pid) else {
            return;
        };
        let (exit_signal, uid) = (process.exit_signal, process.uid);
        let Ok(parent_process) = self.process(parent) else {
            self.processes.remove(&pid);
            return;
        };
        let action = parent_process.actions.lock().get(SIGCHLD);
        let queue = parent_process.child_queue.clone();
        let unwanted = exit_signal == SIGCHLD
            && (action.handler == SIG_IGN || action.flags & SA_NOCLDWAIT != 0);
        queue.wake();
        if (1..=LAST).contains(&exit_signal) && !(unwanted && action.handler == SIG_IGN) {
            self.send_to_process(parent, end_info(exit_signal, pid, uid, status));
        }
        if unwanted {
            self.processes.remove(&pid);
        }
    }

    /// The host says that a process has ended. Usually known; else something else killed it (out of memory, a fault without a stack to handle it).
    pub fn host_process_ended(&mut self, host_pid: i32) {
        const REMEMBERED: usize = 64;
        if self.buried.len() >= REMEMBERED {
            self.buried.pop_front();
        }
        self.buried.push_back(host_pid);
        if self.dying.remove(host_pid) {
            return;
        }
        if self.spawning.is_some() && self.spawning_pid == host_pid {
            return self.fail_spawn(libc::ECHILD);
        }
        let found = self
            .processes
            .values()
            .find(|process| process.host_pid == host_pid && !process.is_zombie());
        let Some(process) = found else { return };
        let pid = process.pid;
        let status = process
            .pidfd
            .as_ref()
            .and_then(|fd| casemate_platform::process::exit_status(fd));
        self.end_process(pid, status.unwrap_or(super::signals::SIGKILL));
        self.dying.remove(host_pid);
    }
}
