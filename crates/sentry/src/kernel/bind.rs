//! New threads and processes: the host makes them, at the program's own clone(2), and the first call of either side tells who they are.

use std::fs;
use std::sync::Arc;

use super::Kernel;
use super::task::{Embryo, Process, Task};
use crate::memory::{Address, Memory};

/// What the host says of a thread.
#[derive(Debug, Clone, Copy)]
struct HostIds {
    process: i32,
    parent: i32,
    /// In the innermost pid namespace, the sandbox's.
    inner_tid: i32,
    inner_pid: i32,
}

fn host_ids(tid: i32) -> Option<HostIds> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let field =
        |name: &str| -> Option<&str> { status.lines().find_map(|line| line.strip_prefix(name)) };
    let last = |name: &str| -> Option<i32> { field(name)?.split_whitespace().last()?.parse().ok() };
    Some(HostIds {
        process: last("Tgid:")?,
        parent: last("PPid:")?,
        inner_tid: last("NSpid:")?,
        inner_pid: last("NStgid:")?,
    })
}

/// A native process's number in the sandbox, and its native parent.
#[must_use]
pub fn inner_pid_and_parent(tid: i32) -> Option<(i32, i32)> {
    host_ids(tid).map(|ids| (ids.inner_pid, ids.parent))
}

impl Kernel {
    /// Makes the unknown thread `tid`, which just made its first call, known. False if it is nobody's: its process is ending.
    pub fn bind_caller(&mut self, tid: i32) -> bool {
        if let Some((creator, ids)) = self.only_embryo(tid) {
            self.bind(creator, ids, tid);
            return true;
        }
        let Some(ids) = host_ids(tid) else {
            return false;
        };
        if self.dying.contains(&ids.process) {
            return false;
        }
        if ids.process == tid {
            let parent_process = self
                .processes
                .values()
                .find(|process| process.host_pid == ids.parent);
            let Some(parent_process) = parent_process else {
                return false;
            };
            let candidates = parent_process.threads.clone();
            let parent = candidates
                .into_iter()
                .find(|thread| self.has_embryo(*thread, false));
            let Some(parent) = parent else { return false };
            self.bind(parent, ids, tid);
        } else {
            let Some(process) = self
                .processes
                .values()
                .find(|process| process.host_pid == ids.process)
            else {
                return false;
            };
            let candidates = process.threads.clone();
            let creator = candidates
                .into_iter()
                .find(|thread| self.has_embryo(*thread, true));
            let Some(creator) = creator else { return false };
            self.bind(creator, ids, tid);
        }
        true
    }

    /// The usual case, without asking the host: one child in the whole sandbox is unknown, so this is it, and its number lies where clone(2) was to put it.
    /// That word is the program's to change; a number that is taken is not believed, and a false one confuses nobody but the liar.
    fn only_embryo(&self, tid: i32) -> Option<(i32, HostIds)> {
        let [creator] = self.embryos[..] else {
            return None;
        };
        let task = self.tasks.get(&creator)?;
        let embryo = task.embryo.as_ref()?;
        let is_thread = embryo.flags & CLONE_THREAD != 0;
        let (reader, at) = match (embryo.child_tid, embryo.parent_tid) {
            (Some(at), _) => (tid, at),
            (None, Some(at)) => (creator, at),
            (None, None) => return None,
        };
        let number = Memory { tid: reader }
            .read_u32(Address(at))
            .ok()?
            .cast_signed();
        let is_free =
            number > 1 && !self.tids.contains_key(&number) && !self.processes.contains_key(&number);
        let host_pid = self.process(task.pid).ok()?.host_pid;
        is_free.then_some((
            creator,
            HostIds {
                process: if is_thread { host_pid } else { tid },
                parent: host_pid,
                inner_tid: number,
                inner_pid: if is_thread { task.pid } else { number },
            },
        ))
    }

    fn has_embryo(&self, tid: i32, is_thread: bool) -> bool {
        let embryo = self.tasks.get(&tid).and_then(|task| task.embryo.as_ref());
        embryo.is_some_and(|embryo| (embryo.flags & CLONE_THREAD != 0) == is_thread)
    }

    /// The creator makes a further call before its child has made one: asks the host which child it is. None: the clone failed.
    pub fn bind_child_of(&mut self, creator: i32) {
        let Some(embryo) = self
            .tasks
            .get(&creator)
            .and_then(|task| task.embryo.as_ref())
        else {
            return;
        };
        let found = if embryo.flags & CLONE_THREAD != 0 {
            self.unknown_thread(creator)
        } else {
            let children = fs::read_to_string(format!("/proc/{creator}/task/{creator}/children"))
                .unwrap_or_default();
            let children = children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok());
            children
                .into_iter()
                .find(|pid| !self.tasks.contains_key(pid) && !self.dying.contains(pid))
        };
        match found.and_then(|tid| host_ids(tid).map(|ids| (tid, ids))) {
            Some((tid, ids)) => self.bind(creator, ids, tid),
            None => {
                self.embryos.retain(|tid| *tid != creator);
                if let Some(task) = self.tasks.get_mut(&creator) {
                    task.embryo = None;
                }
            }
        }
    }

    /// A thread of the creator's process that is not on the books, and has not left them either.
    fn unknown_thread(&mut self, creator: i32) -> Option<i32> {
        let process = self.process_of_mut(creator).ok()?;
        let listed = list(&format!("/proc/{}/task", process.host_pid));
        process.ended_threads.retain(|tid| listed.contains(tid));
        let ended = process.ended_threads.clone();
        listed
            .into_iter()
            .find(|tid| !self.tasks.contains_key(tid) && !ended.contains(tid))
    }

    /// A thread that belongs to no process on the books is ended, with its process.
    pub fn end_stranger(&self, tid: i32) {
        if let Some(ids) = host_ids(tid) {
            // It may have ended by itself.
            let _ = casemate_platform::process::signal_process(ids.process, libc::SIGKILL);
        }
    }

    fn bind(&mut self, creator: i32, ids: HostIds, tid: i32) {
        let Some(creator_task) = self.tasks.get_mut(&creator) else {
            return;
        };
        let Some(embryo) = creator_task.embryo.take() else {
            return;
        };
        self.embryos.retain(|tid| *tid != creator);
        let creator_pid = creator_task.pid;
        let is_thread = embryo.flags & CLONE_THREAD != 0;
        let task = Task {
            name: creator_task.name.clone(),
            mask: embryo.mask,
            settings: creator_task.settings.inherited(),
            ..Task::new(
                (tid, ids.inner_tid, ids.inner_pid),
                creator_task.credentials.clone(),
                embryo.files.clone(),
                embryo.fs.clone(),
            )
        };
        self.tids.insert(ids.inner_tid, tid);
        self.tasks.insert(tid, task);
        if is_thread {
            if let Ok(process) = self.process_mut(ids.inner_pid) {
                process.ended_threads.retain(|ended| *ended != tid);
                process.threads.push(tid);
            }
            return;
        }
        let Some(creator_process) = self.processes.get(&creator_pid) else {
            return;
        };
        let parent = if embryo.flags & CLONE_PARENT != 0 {
            creator_process.parent
        } else {
            creator_pid
        };
        let process = forked(creator_process, &embryo, ids, tid, parent);
        self.add_process(process);
    }

    /// Puts a new process on the books, and has its end watched.
    pub fn add_process(&mut self, mut process: Process) {
        if let Ok(pidfd) = casemate_platform::process::pidfd(process.host_pid) {
            let pidfd = Arc::new(pidfd);
            self.watcher.watch_process(&pidfd, process.host_pid);
            process.pidfd = Some(pidfd);
        }
        self.processes.insert(process.pid, process);
    }
}

fn forked(creator: &Process, embryo: &Embryo, ids: HostIds, tid: i32, parent: i32) -> Process {
    let exit_signal = if embryo.flags & CLONE_PARENT != 0 {
        creator.exit_signal
    } else {
        (embryo.flags & 0xFF) as i32
    };
    Process {
        parent,
        group: creator.group,
        session: creator.session,
        actions: embryo.actions.clone(),
        exit_signal,
        executable: creator.executable.clone(),
        arguments: creator.arguments.clone(),
        environment: creator.environment.clone(),
        has_executed: false,
        terminal: creator.terminal.clone(),
        dumpable: creator.dumpable,
        settings: creator.settings.clone(),
        ..Process::new(ids.inner_pid, tid, creator.limits.clone(), creator.uid)
    }
}

fn list(directory: &str) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

pub const CLONE_THREAD: u64 = 0x1_0000;
pub const CLONE_PARENT: u64 = 0x8000;
