//! New threads and processes: the host makes them, at the program's own clone(2), and the first call of either side tells who they are.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use casemate_platform::process;

use super::Kernel;
use super::task::{Embryo, Process, Shared, Task};
use crate::fast::Space;
use crate::memory::{Address, Memory};

/// What the host says of a thread. Nothing of it is the program's to choose.
#[derive(Debug)]
struct HostIds {
    process: i32,
    /// 0 of a thread that is not its process's first.
    parent: i32,
    /// In the innermost pid namespace, the sandbox's.
    inner_tid: i32,
    inner_pid: i32,
    pidfd: Option<OwnedFd>,
}

fn host_ids(tid: i32) -> Option<HostIds> {
    let status = crate::host::read_text(&format!("/proc/{tid}/status")).ok()?;
    let field =
        |name: &str| -> Option<&str> { status.lines().find_map(|line| line.strip_prefix(name)) };
    let last = |name: &str| -> Option<i32> { field(name)?.split_whitespace().last()?.parse().ok() };
    Some(HostIds {
        process: last("Tgid:")?,
        parent: last("PPid:")?,
        inner_tid: last("NSpid:")?,
        inner_pid: last("NStgid:")?,
        pidfd: None,
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
        let Some(ids) = self.identify(tid) else {
            return false;
        };
        if self.dying.has(ids.process) {
            return false;
        }
        let Some(creator) = self.creator_of(tid, &ids) else {
            return false;
        };
        self.bind(creator, ids, tid);
        true
    }

    /// Who a native thread is, in two or three calls of half a microsecond; by /proc, 20 us, where the kernel has none.
    fn identify(&self, tid: i32) -> Option<HostIds> {
        self.quickly_identify(tid).or_else(|| host_ids(tid))
    }

    fn quickly_identify(&self, tid: i32) -> Option<HostIds> {
        let namespace = self.programs.as_ref()?;
        let (inner_tid, inner_pid) = process::numbers_in(namespace, tid)?;
        let ids = HostIds {
            process: tid,
            parent: 0,
            inner_tid,
            inner_pid,
            pidfd: None,
        };
        if inner_tid != inner_pid {
            let process = self.processes.get(&inner_pid)?.host_pid;
            return Some(HostIds { process, ..ids });
        }
        let pidfd = process::pidfd(tid).ok()?;
        Some(HostIds {
            parent: process::parent(&pidfd)?,
            pidfd: Some(pidfd),
            ..ids
        })
    }

    /// The pid namespace that every program is in, found by the first of them.
    pub fn know_programs(&mut self, tid: i32) {
        if self.programs.is_none() {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            let name = format!("{tid}/ns/pid");
            let mode = rustix::fs::Mode::empty();
            self.programs = crate::host::openat(&self.host_proc, name, flags, mode).ok();
        }
    }

    /// The thread whose clone(2) made this one. Of several in one process, the one whose memory has the child's number where clone was to put it (that word is
    /// the program's to change, but only threads of the process can be mistaken for each other so), or that the host lists the child under.
    fn creator_of(&self, tid: i32, ids: &HostIds) -> Option<i32> {
        let mut candidates = self
            .embryos
            .iter()
            .copied()
            .filter(|creator| self.may_have_made(*creator, tid, ids));
        let first = candidates.next()?;
        let Some(second) = candidates.next() else {
            return Some(first);
        };
        let is_process = ids.process == tid;
        let made = |creator: &i32| {
            self.told(*creator) == Some(ids.inner_tid)
                || is_process && seek(|| children(*creator), |child| child == tid).is_ok()
        };
        [first, second]
            .into_iter()
            .chain(candidates)
            .find(made)
            .or(Some(first))
    }

    /// The number that clone(2) left in memory, as the program has it.
    fn told(&self, creator: i32) -> Option<i32> {
        let embryo = self.tasks.get(&creator)?.embryo.as_ref()?;
        let word = Memory { tid: creator }.read_u32(Address(embryo.parent_tid?));
        word.ok().map(u32::cast_signed)
    }

    fn may_have_made(&self, creator: i32, tid: i32, ids: &HostIds) -> bool {
        let Some(task) = self.tasks.get(&creator) else {
            return false;
        };
        let (Some(embryo), Ok(process)) = (&task.embryo, self.process(task.pid)) else {
            return false;
        };
        if embryo.flags & CLONE_THREAD != 0 {
            return ids.process == process.host_pid && ids.process != tid;
        }
        let is_parent = |pid: i32| {
            self.processes
                .get(&pid)
                .is_some_and(|process| process.host_pid == ids.parent)
        };
        if embryo.flags & CLONE_PARENT != 0 {
            // The host gives orphans to the first process.
            return ids.process == tid
                && (is_parent(process.parent) || is_parent(1) || ids.parent == self.zygote);
        }
        ids.process == tid && ids.parent == process.host_pid
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
        let is_thread = embryo.flags & CLONE_THREAD != 0;
        let found = self.newest(creator);
        match found.or_else(|| self.sought(creator, is_thread)) {
            Some((tid, ids)) => self.bind(creator, ids, tid),
            None => {
                self.embryos.retain(|tid| *tid != creator);
                if let Some(task) = self.tasks.get_mut(&creator) {
                    task.embryo = None;
                }
            }
        }
    }

    /// Whom the number belongs to that the creator was told, or else the one behind the last, if that is the creator's child: numbers are given in turn mostly, and
    /// asking the host for it takes 2 us in place of 15.
    fn newest(&self, creator: i32) -> Option<(i32, HostIds)> {
        let number = self.told(creator).unwrap_or(self.last_number + 1);
        let tid = process::number_here(self.programs.as_ref()?, number)?;
        let has_ended = self.process_of(creator).ok()?.ended_threads.contains(&tid);
        if has_ended || !self.is_unknown(tid) {
            return None;
        }
        let ids = self.identify(tid)?;
        (self.creator_of(tid, &ids) == Some(creator)).then_some((tid, ids))
    }

    /// The native number of the creator's child that is not on the books yet, which this does not change.
    #[must_use]
    pub fn unnoted_child(&self, creator: i32) -> Option<i32> {
        self.newest(creator)
            .map(|(tid, _)| tid)
            .or_else(|| self.unknown_child(creator))
    }

    /// As the host lists it. Who has gone since the list was made was on the books, or never will be: the next list is without it.
    fn sought(&mut self, creator: i32, is_thread: bool) -> Option<(i32, HostIds)> {
        const MOST: usize = 8;
        for _ in 0..MOST {
            let tid = if is_thread {
                self.unknown_thread(creator)
            } else {
                self.unknown_child(creator)
            }?;
            if let Some(ids) = self.identify(tid) {
                return Some((tid, ids));
            }
        }
        None
    }

    /// Whether a process is neither on the books nor was on them. The host lists a dead child for a moment after it has told of the end.
    fn is_unknown(&self, pid: i32) -> bool {
        !self.tasks.contains_key(&pid) && !self.dying.has(pid) && !self.buried.contains(&pid)
    }

    /// A child of that thread's that is not on the books.
    fn unknown_child(&self, creator: i32) -> Option<i32> {
        seek(|| children(creator), |pid| self.is_unknown(pid)).ok()
    }

    /// A thread of the creator's process that is not on the books, and has not left them either.
    fn unknown_thread(&mut self, creator: i32) -> Option<i32> {
        let process = self.process_of(creator).ok()?;
        let path = format!("/proc/{}/task", process.host_pid);
        let is_unknown =
            |tid: i32| !self.tasks.contains_key(&tid) && !process.ended_threads.contains(&tid);
        match seek(|| list(&path), is_unknown) {
            Ok(found) => Some(found),
            Err(listed) => {
                let process = self.process_of_mut(creator).ok()?;
                process.ended_threads.retain(|tid| listed.contains(tid));
                None
            }
        }
    }

    /// A thread that belongs to no process on the books is ended, with its process.
    pub fn end_stranger(&self, tid: i32) {
        if let Some(ids) = host_ids(tid) {
            // It may have ended by itself.
            let _ = process::signal_process(ids.process, libc::SIGKILL);
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
        let traced = self.traced_child(creator);
        let Some(creator_task) = self.tasks.get(&creator) else {
            return;
        };
        let creator_pid = creator_task.pid;
        let is_thread = embryo.flags & CLONE_THREAD != 0;
        let space = if is_thread {
            creator_task.space.clone()
        } else if embryo.flags & CLONE_VM != 0 {
            Shared::new(Space::guest(&creator_task.space))
        } else {
            Shared::new(creator_task.space.lock().forked())
        };
        let keeps_stack = !is_thread && embryo.flags & CLONE_VM == 0;
        let task = Task {
            space,
            alternate_stack: if keeps_stack {
                creator_task.alternate_stack
            } else {
                (0, 0)
            },
            name: creator_task.name.clone(),
            mask: embryo.mask,
            returning: embryo.returning.clone(),
            settings: creator_task.settings.inherited(),
            habit: creator_task.habit.inherited(),
            traced,
            ..Task::new(
                (tid, ids.inner_tid, ids.inner_pid),
                creator_task.credentials.clone(),
                embryo.files.clone(),
                embryo.fs.clone(),
            )
        };
        if !is_thread {
            self.note_birth(creator, tid);
        }
        self.last_number = ids.inner_tid;
        self.tids.insert(ids.inner_tid, tid);
        self.tasks.insert(tid, task);
        if is_thread {
            if let Ok(process) = self.process_mut(ids.inner_pid) {
                process.ended_threads.retain(|ended| *ended != tid);
                process.threads.push(tid);
            }
            return self.begin_child(tid);
        }
        let Some(creator_process) = self.processes.get(&creator_pid) else {
            return;
        };
        let parent = if embryo.flags & CLONE_PARENT != 0 {
            creator_process.parent
        } else {
            creator_pid
        };
        let mut process = forked(creator_process, &embryo, ids, tid, parent);
        process.creator = creator;
        self.add_process(process);
        self.begin_child(tid);
    }

    /// Puts a new process on the books, and has its end watched.
    pub fn add_process(&mut self, mut process: Process) {
        if process.pidfd.is_none() {
            process.pidfd = process::pidfd(process.host_pid).ok().map(Arc::new);
        }
        if let Some(pidfd) = &process.pidfd {
            process.watch = self.watcher.watch_process(pidfd, process.host_pid);
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
        is_loading: false,
        terminal: creator.terminal.clone(),
        dumpable: creator.dumpable,
        settings: creator.settings.clone(),
        pidfd: ids.pidfd.map(Arc::new),
        ..Process::new(ids.inner_pid, tid, creator.limits.clone(), creator.uid)
    }
}

/// The first of a list that is sought, or else the list. The host makes such lists step by step: an entry that goes meanwhile can hide the one behind it
/// (proc(5), "children"). So a list without any counts only if nothing of it is gone from the next.
fn seek(list: impl Fn() -> Vec<i32>, is_sought: impl Fn(i32) -> bool) -> Result<i32, Vec<i32>> {
    let mut listed = list();
    let mut is_settled = false;
    loop {
        let found = listed.iter().copied().find(|id| is_sought(*id));
        if found.is_some() || is_settled {
            return found.ok_or(listed);
        }
        let now = list();
        is_settled = listed.iter().all(|id| now.contains(id));
        listed = now;
    }
}

/// A thread's children, by native ids.
fn children(thread: i32) -> Vec<i32> {
    let path = format!("/proc/{thread}/task/{thread}/children");
    let text = crate::host::read_text(&path).unwrap_or_default();
    let pids = text.split_whitespace();
    pids.filter_map(|pid| pid.parse().ok()).collect()
}

fn list(directory: &str) -> Vec<i32> {
    let entries = crate::host::list(directory).unwrap_or_default();
    entries
        .iter()
        .filter_map(|(name, _)| name.parse().ok())
        .collect()
}

pub const CLONE_VM: u64 = 0x100;
pub const CLONE_THREAD: u64 = 0x1_0000;
pub const CLONE_PARENT: u64 = 0x8000;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::seek;

    /// The lists that the host makes, one after the other; the last stays.
    fn lists(of: &[&[i32]]) -> impl Fn() -> Vec<i32> {
        let left = RefCell::new(of.iter().map(|list| list.to_vec()).collect::<Vec<_>>());
        move || {
            let mut left = left.borrow_mut();
            if left.len() > 1 {
                left.remove(0)
            } else {
                left[0].clone()
            }
        }
    }

    #[test]
    fn an_entry_that_went_hides_none_behind_it() {
        let is_new = |id: i32| id >= 100;
        let found = |of: &[&[i32]]| seek(lists(of), is_new);
        assert_eq!(found(&[&[1, 2, 100]]), Ok(100));
        assert_eq!(found(&[&[1, 2], &[2], &[2, 100]]), Ok(100));
        assert_eq!(found(&[&[1], &[]]), Err(vec![]));
        assert_eq!(found(&[&[1, 2], &[1, 2]]), Err(vec![1, 2]));
    }
}
