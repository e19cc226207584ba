//! Threads and processes, as data. What the host's kernel keeps for them (registers, memory, futexes) is not here.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use casemate_platform::notify::Call;

use super::credentials::Credentials;
use super::exec::Image;
use super::settings::{ProcessSettings, Settings};
use super::signals::{Actions, Info, Pending, SIGCHLD, Set};
use super::wake::WaitQueue;
use crate::fast::Space;
use crate::fast::patch::Plan;
use crate::fast::slots::Slot;
use crate::vfs::context::FsContext;
use crate::vfs::fd_table::FdTable;

/// State that clone(2) shares or copies, as its flags say.
#[derive(Debug)]
pub struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Shared<T> {
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether both are the same one.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl<T: Clone> Shared<T> {
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::new(self.lock().clone())
    }
}

/// A call that waits: it is run again when one of its queues wakes it, its time is over, or a signal comes.
#[derive(Debug, Clone)]
pub struct Blocked {
    pub call: Call,
    pub wait: u64,
    pub deadline: Option<Instant>,
    pub timed_out: bool,
    /// What the call has done so far, in its own units.
    pub progress: u64,
    pub restart: Restart,
    /// Where the program wants to find the time that was left.
    pub remaining: Option<super::timers::Remaining>,
}

/// What an interrupted call does once the handler has returned. Linux: include/linux/errno.h, ERESTART*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Again if the handler has SA_RESTART or there was none (ERESTARTSYS).
    IfAsked,
    /// Again only if no handler ran (ERESTARTNOHAND): what has a time limit, and waiting for signals.
    WithoutHandler,
    /// Never again, not even after a stop that no handler saw: epoll_wait(2), sigtimedwait(2). signal(7), the last table.
    Never,
    /// Not interruptible.
    Uninterruptible,
}

/// A child that the host is about to make, until its pid is known.
#[derive(Debug)]
pub struct Embryo {
    pub flags: u64,
    /// Where the host writes the child's number: in the creator's memory, and in the child's (CLONE_PARENT_SETTID, CLONE_CHILD_SETTID).
    pub parent_tid: Option<u64>,
    pub child_tid: Option<u64>,
    pub files: Shared<FdTable>,
    pub fs: Shared<FsContext>,
    pub actions: Shared<Actions>,
    pub mask: Set,
    /// What the child of a clone that the sentry remade returns to (`recloning`).
    pub returning: Option<Vec<(u64, u64)>>,
}

/// A kick that found its thread in the stub's handler of another frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    Nothing,
    /// Its own frame is left next: it is to be made again behind that.
    Behind,
    /// As soon as the other frame is left, or a handler runs on it.
    Now,
}

#[derive(Debug)]
pub struct Task {
    /// In the sentry's pid namespace.
    pub host_tid: i32,
    /// In the sandbox's: what the program sees.
    pub tid: i32,
    /// Its process, in the sandbox's numbers.
    pub pid: i32,
    pub name: Vec<u8>,
    pub credentials: Arc<Credentials>,
    pub files: Shared<FdTable>,
    pub fs: Shared<FsContext>,
    pub mask: Set,
    /// The mask to return to when a handler starts: sigsuspend(2), ppoll(2) and the like changed it for the time of the call.
    pub saved_mask: Option<Set>,
    pub pending: Pending,
    pub blocked: Option<Blocked>,
    pub waits: u64,
    /// A native signal is on its way, which makes the thread ask (`magic::DELIVER`).
    pub is_kicked: bool,
    pub owed: Owed,
    /// The call that a signal interrupted, until its frame is made.
    pub interrupted: Option<(i32, Restart)>,
    /// The interrupted call's time limit, for when it is made again without a handler: it then does not start anew (restart_syscall(2)).
    pub carried: Option<Box<Blocked>>,
    pub embryo: Option<Embryo>,
    pub habit: super::births::Habit,
    /// A clone that the sentry remakes (`recloning`), and the registers that the next frame is to return to.
    pub recloning: Option<Box<super::recloning::Recloning>>,
    pub returning: Option<Vec<(u64, u64)>>,
    pub image: Option<Box<Image>>,
    pub parent_death_signal: i32,
    /// `/proc/TID/syscall` on the host, which tells the stack pointer of a thread in a call.
    pub registers: Option<Arc<OwnedFd>>,
    pub settings: Settings,
    /// sigaltstack(2)'s address and size, as far as they are known.
    pub alternate_stack: (u64, u64),
    /// Its address space's part in the fast path, its slot there, and what its stub is to do next.
    pub space: Shared<Space>,
    pub slot: Option<Slot>,
    pub plan: Option<Plan>,
    /// Its last call came from a patched site.
    pub is_from_trampoline: bool,
    /// It cannot have a slot; it takes turns with a thread that has one, or will.
    pub is_refused_slot: bool,
    pub wants_slot: bool,
    /// Its read goes on at a file whose descriptor is closed.
    pub detached: Option<Box<crate::fast::lines::Detached>>,
    /// What descriptors of this thread hold, once there are any.
    pub end: Option<Arc<super::exit::End>>,
    /// It is traced, or was until just now.
    pub traced: Option<Box<super::ptrace::Traced>>,
}

/// How a child's change of state is told by wait(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReport {
    None,
    Stopped(i32),
    Continued,
}

#[derive(Debug, Clone, Default)]
pub struct Usage {
    pub user_us: u64,
    pub system_us: u64,
    pub max_rss_kib: u64,
    /// It had about the memory of who forked it, at the time: that is looked at when somebody asks.
    pub has_parents_memory: bool,
}

#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub host_pid: i32,
    pub parent: i32,
    /// The native thread that made it.
    pub creator: i32,
    /// It has ended, but its tracer is to hear of that first.
    pub is_held_for_tracer: bool,
    pub group: i32,
    pub session: i32,
    /// Native ids of its threads.
    pub threads: Vec<i32>,
    /// Of those that have ended on the books while the host may still list them.
    pub ended_threads: Vec<i32>,
    pub actions: Shared<Actions>,
    pub pending: Pending,
    /// Woken when a signal is added: sigtimedwait(2), signalfd(2).
    pub signal_queue: Arc<WaitQueue>,
    /// Woken when a child changes state.
    pub child_queue: Arc<WaitQueue>,
    /// Woken when a stopped process continues.
    pub continue_queue: Arc<WaitQueue>,
    pub exit_signal: i32,
    /// wait(2)'s status, once it has ended.
    pub status: Option<i32>,
    pub is_stopped: bool,
    /// The signal that stopped it last.
    pub stop_signal: i32,
    pub stop_report: StopReport,
    pub executable: Vec<u8>,
    pub arguments: Vec<u8>,
    pub environment: Vec<u8>,
    pub has_executed: bool,
    /// The loader is in its place, or about to be, and has no handlers yet: a native signal would end it.
    pub is_loading: bool,
    pub is_subreaper: bool,
    pub limits: Limits,
    pub usage: Usage,
    pub children_usage: Usage,
    pub pidfd: Option<Arc<OwnedFd>>,
    /// By which the watcher knows that.
    pub watch: Option<u64>,
    /// What descriptors of this process hold: whether it has ended, and who waits for that.
    pub end: Arc<super::exit::End>,
    pub started: Instant,
    pub terminal: Option<Arc<crate::vfs::tty::Tty>>,
    /// A session leader's: the foreground group of the terminal that hung up, to be told at the leader's end.
    pub hung_up_group: i32,
    /// The credentials of its last thread, for who asks after the end.
    pub uid: u32,
    pub timers: super::timers::Timers,
    pub alarm: super::timers::Alarm,
    pub dumpable: bool,
    pub settings: ProcessSettings,
}

/// Resource limits, soft and hard, by number. getrlimit(2).
#[derive(Debug, Clone)]
pub struct Limits(pub [(u64, u64); 16]);

impl Process {
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        self.status.is_some()
    }
}

impl Task {
    /// Signals that may be delivered now, of those in `pending`.
    #[must_use]
    pub fn deliverable(&self, shared: &Pending) -> Set {
        self.pending.set.union(shared.set).without(self.mask)
    }

    pub fn take_signal(&mut self, shared: &mut Pending, wanted: Set) -> Option<Info> {
        self.pending.take(wanted).or_else(|| shared.take(wanted))
    }
}

impl Process {
    /// A process that was started from outside: a session of its own, of which it is the first, with nothing pending and no child.
    #[must_use]
    pub fn new(pid: i32, host_pid: i32, limits: Limits, uid: u32) -> Self {
        Self {
            pid,
            host_pid,
            parent: 0,
            creator: 0,
            is_held_for_tracer: false,
            group: pid,
            session: pid,
            threads: vec![host_pid],
            ended_threads: Vec::new(),
            actions: Shared::new(Actions::default()),
            pending: Pending::default(),
            signal_queue: Arc::new(WaitQueue::default()),
            child_queue: Arc::new(WaitQueue::default()),
            continue_queue: Arc::new(WaitQueue::default()),
            exit_signal: SIGCHLD,
            status: None,
            is_stopped: false,
            stop_signal: 0,
            stop_report: StopReport::None,
            executable: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            has_executed: true,
            is_loading: true,
            is_subreaper: false,
            limits,
            usage: Usage::default(),
            children_usage: Usage::default(),
            pidfd: None,
            watch: None,
            end: Arc::default(),
            started: Instant::now(),
            terminal: None,
            hung_up_group: 0,
            uid,
            timers: BTreeMap::new(),
            alarm: super::timers::Alarm::default(),
            dumpable: true,
            settings: ProcessSettings::default(),
        }
    }
}

impl Task {
    /// A thread that runs, with nothing blocked, pending or under way. Its numbers: native, in the sandbox, and its process's in the sandbox.
    #[must_use]
    pub fn new(
        (host_tid, tid, pid): (i32, i32, i32),
        credentials: Arc<Credentials>,
        files: Shared<FdTable>,
        fs: Shared<FsContext>,
    ) -> Self {
        Self {
            host_tid,
            tid,
            pid,
            name: Vec::new(),
            credentials,
            files,
            fs,
            mask: Set::default(),
            saved_mask: None,
            pending: Pending::default(),
            blocked: None,
            waits: 0,
            is_kicked: false,
            owed: Owed::Nothing,
            interrupted: None,
            carried: None,
            embryo: None,
            habit: super::births::Habit::default(),
            recloning: None,
            returning: None,
            image: None,
            parent_death_signal: 0,
            registers: None,
            settings: Settings::default(),
            alternate_stack: (0, 0),
            space: Shared::new(Space::default()),
            slot: None,
            plan: None,
            is_from_trampoline: false,
            is_refused_slot: false,
            wants_slot: false,
            detached: None,
            end: None,
            traced: None,
        }
    }
}
