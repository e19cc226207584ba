//! The kernel's state: threads, processes, signals, wait. One lock guards it; files have their own (see `wake` for the order).

pub mod aio;
pub mod bind;
pub mod births;
pub mod cpu_timers;
pub mod credentials;
pub mod deliver;
pub mod elf;
pub mod exec;
pub mod exit;
pub mod filters;
pub mod identity;
pub mod load;
pub mod locks;
pub mod machine;
pub mod numbers;
pub mod offload;
pub mod outside;
pub mod pod;
pub mod posix_timers;
pub mod programs;
pub mod ptrace;
pub mod recloning;
pub mod rests;
pub mod send;
pub mod settings;
pub mod signals;
pub mod task;
pub mod timers;
pub mod wait;
pub mod wake;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use casemate_platform::notify::{Answer, Call, Listener};
use rustix::fs::{AtFlags, StatxFlags};

use crate::errno::{Errno, Result};
use credentials::Credentials;
use task::{Blocked, Process, Task};
use wake::Ticket;

use crate::vfs::pipe::PipeEnd;

/// A program that is to be started from outside: the sandbox's first, or one of `exec`.
#[derive(Debug)]
pub struct Spawn {
    pub image: Box<exec::Image>,
    pub task: SpawnTask,
}

/// What the new process starts with.
#[derive(Debug)]
pub struct SpawnTask {
    pub credentials: Credentials,
    pub files: crate::vfs::fd_table::FdTable,
    pub fs: crate::vfs::context::FsContext,
    pub limits: task::Limits,
    pub report: Option<crate::control::Reporter>,
    pub oom_score_adj: i32,
}

#[derive(Debug)]
pub struct Kernel {
    pub listener: Arc<Listener>,
    /// Answers that whoever holds the kernel sends when it has let it go (`worker::attend`); `None`: they are sent at once.
    pub unsent: Option<Vec<(u64, Answer)>>,
    pub zygote: i32,
    /// The zygote's waiting call, while it waits.
    pub zygote_call: Option<Call>,
    /// What the zygote is forking now.
    pub spawning: Option<Spawn>,
    /// Its native process, once the zygote has said so.
    pub spawning_pid: i32,
    pub spawns: VecDeque<Spawn>,
    /// Who is told how a process ends that was started from outside, by its id.
    pub reporters: HashMap<i32, crate::control::Reporter>,
    pub loader: Arc<OwnedFd>,
    pub jobs: offload::Sender,
    /// By native thread id.
    pub tasks: HashMap<i32, Task, numbers::ByNumber>,
    /// By the sandbox's process id.
    pub processes: BTreeMap<i32, Process>,
    /// The sandbox's thread ids to native ones.
    pub tids: HashMap<i32, i32, numbers::ByNumber>,
    /// Native threads whose child is not bound yet.
    pub embryos: Vec<i32>,
    /// New processes that are held beside their creators.
    pub births: births::Births,
    /// Threads that are traced, natively; ends of some that their tracers have not heard of; and where a traced thread waits for its vfork(2)ed child.
    pub tracees: Vec<i32>,
    pub traced_ends: Vec<ptrace::ends::TracedEnd>,
    pub vfork_queue: Arc<wake::WaitQueue>,
    /// Processes that have ended on the sentry's books while the host still ends them.
    pub dying: exit::Dying,
    /// The last few native processes that the host has told the end of.
    pub buried: VecDeque<i32>,
    /// The programs' pid namespace, once somebody is in it, and the last number there that was put on the books.
    pub programs: Option<OwnedFd>,
    pub last_number: i32,
    pub deadlines: BTreeMap<(Instant, i32), Ticket>,
    /// Timers of processes, by when they are to be looked at.
    pub due: std::collections::BTreeSet<(Instant, timers::Due)>,
    pub timer_files: HashMap<u64, std::sync::Weak<crate::vfs::timerfd::TimerFd>>,
    /// /proc of the sentry's own pid namespace.
    pub host_proc: OwnedFd,
    /// Whose mounts and ids are the container's, in there.
    pub who: String,
    /// The container's.
    pub root: crate::vfs::place::Place,
    pub root_device: u64,
    /// What is remembered of the root's files.
    pub files: Arc<crate::vfs::cache::Cache>,
    /// What was executed lately.
    pub executed: programs::Programs,
    /// Whom the host's permission checks see, and whether they let that one pass everywhere.
    pub host_uid: u32,
    pub host_gid: u32,
    pub host_overrides: bool,
    pub hostname: Vec<u8>,
    pub domainname: Vec<u8>,
    pub booted: Instant,
    /// wait(2)'s status of the sandbox's first process, once it has ended.
    pub result: Option<i32>,
    /// POSIX message queues.
    pub message_queues: crate::vfs::mqueue::Names,
    /// What it shares with the sandbox's other containers.
    pub member: pod::Membership,
    /// System V semaphores and message queues.
    pub sysv: crate::syscalls::sysv::Objects,
    /// Ends of FIFOs whose opener waits for the other side, and how often that had been opened then; by native thread.
    pub opening: HashMap<i32, (Arc<PipeEnd>, u64)>,
    /// Threads that wait for a lock of a process: which of their waits, their process, and who holds it.
    pub lock_waits: HashMap<i32, (u64, i32, locks::Owner)>,
    /// F_SET_RW_HINT, by device and inode.
    pub write_hints: HashMap<(u64, u64), u64>,
    /// Whether files can be given the set-user-ID and set-group-ID bits.
    pub set_id_files: bool,
    pub next_inode: u64,
    /// Logins so far.
    pub logins: u32,
    pub terminals: crate::vfs::tty::Terminals,
    pub watcher: crate::watcher::Handle,
    pub trace: crate::trace::Trace,
    pub held: crate::hooks::Held,
    pub machine: machine::Machine,
    pub fast: crate::fast::Fast,
    /// The hard limits that the host keeps for this process, and so for all programs at most.
    pub host_limits: task::Limits,
}

impl Kernel {
    pub fn task(&self, tid: i32) -> Result<&Task> {
        self.tasks.get(&tid).ok_or(Errno::ESRCH)
    }

    pub fn task_mut(&mut self, tid: i32) -> Result<&mut Task> {
        self.tasks.get_mut(&tid).ok_or(Errno::ESRCH)
    }

    pub fn process(&self, pid: i32) -> Result<&Process> {
        self.processes.get(&pid).ok_or(Errno::ESRCH)
    }

    pub fn process_mut(&mut self, pid: i32) -> Result<&mut Process> {
        self.processes.get_mut(&pid).ok_or(Errno::ESRCH)
    }

    /// The process of a native thread.
    pub fn process_of(&self, tid: i32) -> Result<&Process> {
        self.process(self.task(tid)?.pid)
    }

    pub fn process_of_mut(&mut self, tid: i32) -> Result<&mut Process> {
        let pid = self.task(tid)?.pid;
        self.process_mut(pid)
    }

    /// A task of the process, its first thread if that lives.
    #[must_use]
    pub fn leader(&self, process: &Process) -> Option<&Task> {
        self.tasks
            .get(&process.host_pid)
            .or_else(|| process.threads.iter().find_map(|tid| self.tasks.get(tid)))
    }

    /// Whether some process runs the file: nobody may write to it. Linux: deny_write_access().
    #[must_use]
    pub fn is_executed(&self, file: &crate::vfs::attributes::Attributes) -> bool {
        let mut running = self
            .processes
            .values()
            .filter(|process| !process.is_zombie());
        running.any(|process| process.settings.executed == (file.dev, file.ino))
    }

    /// A number for a pipe, socket or anonymous file.
    pub fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode
    }

    /// Whether the host's checks of the sentry are the ones that the program would meet: then whole paths may be resolved by the host.
    #[must_use]
    pub fn trusts_host_permissions(&self, credentials: &Credentials) -> bool {
        credentials.fsuid == self.host_uid
            && credentials.fsgid == self.host_gid
            && (!self.host_overrides || credentials.has(credentials::CAP_DAC_OVERRIDE))
    }

    /// The path of an open file of the host's tree, from the container's root.
    pub fn host_path(&self, fd: &OwnedFd) -> Result<Vec<u8>> {
        let link = format!("self/fd/{}", fd.as_raw_fd());
        Ok(rustix::fs::readlinkat(&self.host_proc, link, Vec::new())?.into_bytes())
    }

    /// Opens a place that is held by O_PATH again, with other flags; no name is looked up.
    pub fn reopen(&self, fd: impl AsFd, flags: rustix::fs::OFlags) -> Result<OwnedFd> {
        let link = format!("self/fd/{}", fd.as_fd().as_raw_fd());
        Ok(crate::host::openat(
            &self.host_proc,
            link,
            flags | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?)
    }

    /// Whether the file lies on another file system than the root.
    #[must_use]
    pub fn is_foreign_mount(&self, fd: &OwnedFd) -> bool {
        rustix::fs::statx(
            fd,
            "",
            AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::TYPE,
        )
        .is_ok_and(|raw| {
            rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor) != self.root_device
        })
    }

    /// Makes the call wait until a queue that knows `ticket` wakes it, `deadline` passes or a signal comes.
    pub fn block(&mut self, tid: i32, blocked: Blocked) {
        if let Some(deadline) = blocked.deadline {
            let ticket = Ticket {
                tid,
                wait: blocked.wait,
            };
            self.deadlines.insert((deadline, tid), ticket);
            self.set_alarm();
        }
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.habit.waits();
            task.blocked = Some(blocked);
        }
    }

    /// Ends a wait: the call is about to be run again, or answered.
    pub fn unblock(&mut self, tid: i32) -> Option<Blocked> {
        let blocked = self.tasks.get_mut(&tid)?.blocked.take()?;
        if let Some(deadline) = blocked.deadline {
            self.deadlines.remove(&(deadline, tid));
        }
        Some(blocked)
    }

    pub fn answer(&mut self, call: &Call, answer: Answer) {
        if let Some(unsent) = &mut self.unsent {
            return unsent.push((call.id, answer));
        }
        // A caller that was killed meanwhile needs none.
        let _ = self.listener.answer(call.id, answer);
    }
}
