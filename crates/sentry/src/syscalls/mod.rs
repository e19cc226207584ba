//! System calls, one file per family. `table` has a row for each: number, name, arguments, handler, how complete it is.

pub mod aio;
pub mod aio_requests;
pub mod arguments;
pub mod clone;
pub mod clone3;
pub mod close_range;
pub mod copy_file_range;
pub mod credentials;
pub mod descriptors;
pub mod directories;
pub mod epoll;
pub mod event;
pub mod exec;
pub mod file_settings;
pub mod file_systems;
pub mod identity;
pub mod jobs;
pub mod locks;
pub mod memfd;
pub mod memory_calls;
pub mod memory_locks;
pub mod memory_policy;
pub mod mqueue;
pub mod names;
pub mod nodes;
pub mod notify;
pub mod open;
pub mod ownership;
pub mod pidfd;
pub mod poll;
pub mod prctl;
pub mod priorities;
pub mod privileges;
pub mod process;
pub mod process_memory;
pub mod ptrace;
pub mod read_write;
pub mod read_write_flags;
pub mod refused;
pub mod resources;
pub mod root;
pub mod sandboxed;
pub mod scheduling;
pub mod sendfile;
pub mod sharing;
pub mod signal;
pub mod signal_send;
pub mod size;
pub mod socket;
pub mod socket_data;
pub mod socket_messages;
pub mod socket_options;
pub mod splice;
pub mod stat;
pub mod system;
pub mod sysv;
pub mod sysv_messages;
pub mod sysv_semaphores;
pub mod table;
pub mod time;
pub mod timers;
pub mod times;
pub mod transfer;
pub mod xattr;

use std::sync::Arc;
use std::time::Instant;

use casemate_platform::notify::Call;

use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::signals::Set;
use crate::kernel::task::{Blocked, Process, Restart, Task};
use crate::kernel::timers::Remaining;
use crate::kernel::wake::{Ticket, WaitQueue};
use crate::memory::Memory;
use crate::vfs::cache::Spot;
use crate::vfs::context::FsContext;
use crate::vfs::description::Description;
use crate::vfs::place::Place;
use crate::vfs::walk::{Parent, Walker};

/// What a handler does with its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Value(i64),
    /// The host's kernel executes the call as it stands: it concerns the caller alone, and was checked.
    Native,
    /// It waits; it will be run again.
    Blocked,
    /// Another thread answers.
    Later,
    /// Nobody is left to answer.
    Gone,
}

/// Where a path led.
#[derive(Debug)]
pub enum Found<'p> {
    Spot(Spot<'p>),
    Place(Place),
}

pub type SysResult = Result<Outcome>;

/// The usual result.
pub fn value(value: impl TryInto<i64>) -> SysResult {
    value
        .try_into()
        .map(Outcome::Value)
        .map_err(|_| Errno::EOVERFLOW)
}

pub const DONE: SysResult = Ok(Outcome::Value(0));

/// One call being handled: the kernel, who called, and what the call remembers from before it waited.
#[derive(Debug)]
pub struct Cx<'k> {
    pub kernel: &'k mut Kernel,
    pub call: Call,
    /// The wait that this run follows, if the call has waited already.
    pub resumed: Option<Blocked>,
}

impl Cx<'_> {
    #[must_use]
    pub fn tid(&self) -> i32 {
        self.call.tid
    }

    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory { tid: self.call.tid }
    }

    pub fn task(&self) -> Result<&Task> {
        self.kernel.task(self.call.tid)
    }

    pub fn task_mut(&mut self) -> Result<&mut Task> {
        self.kernel.task_mut(self.call.tid)
    }

    pub fn process(&self) -> Result<&Process> {
        self.kernel.process_of(self.call.tid)
    }

    pub fn process_mut(&mut self) -> Result<&mut Process> {
        self.kernel.process_of_mut(self.call.tid)
    }

    pub fn description(&self, fd: i32) -> Result<Arc<Description>> {
        let task = self.task()?;
        if let Some(description) = task.detached(&self.call, fd) {
            return Ok(description);
        }
        task.files.lock().get(fd)
    }

    /// As `description`, but one that O_PATH opened will not do.
    pub fn open_description(&self, fd: i32) -> Result<Arc<Description>> {
        self.description(fd).and_then(|description| {
            if description.is_path() {
                Err(Errno::EBADF)
            } else {
                Ok(description)
            }
        })
    }

    /// RLIMIT_NOFILE's soft limit.
    pub fn fd_limit(&self) -> Result<u64> {
        Ok(self.process()?.limits.0[libc::RLIMIT_NOFILE as usize].0)
    }

    /// Gives the caller a descriptor.
    pub fn add_description(
        &mut self,
        description: Arc<Description>,
        close_on_exec: bool,
    ) -> Result<i32> {
        let limit = self.fd_limit()?;
        self.task()?
            .files
            .lock()
            .add(description, close_on_exec, 0, limit)
    }

    pub fn fs(&self) -> Result<FsContext> {
        Ok(self.task()?.fs.lock().clone())
    }

    /// The place that a `*at` call's descriptor stands for: the working directory, or a directory's.
    pub fn start(&self, directory: i32, path: &[u8]) -> Result<Place> {
        if directory == libc::AT_FDCWD || path.starts_with(b"/") {
            return Ok(self.task()?.fs.lock().cwd.clone());
        }
        let description = self.description(directory)?;
        description.file.place().cloned().ok_or(Errno::ENOTDIR)
    }

    pub fn resolve(&self, directory: i32, path: &[u8], follow: bool) -> Result<Place> {
        let start = self.start(directory, path)?;
        let context = self.fs()?;
        self.walker(&context)?.resolve(&start, path, follow)
    }

    /// As `resolve`, but that a file of the remembered tree is not opened.
    pub fn find<'p>(&self, directory: i32, path: &'p [u8], follow: bool) -> Result<Found<'p>> {
        let start = self.start(directory, path)?;
        let context = self.fs()?;
        self.walker(&context)?.find(&start, path, follow)
    }

    pub fn resolve_parent(&self, directory: i32, path: &[u8]) -> Result<Parent> {
        let start = self.start(directory, path)?;
        let context = self.fs()?;
        self.walker(&context)?.resolve_parent(&start, path)
    }

    pub fn walker<'a>(&'a self, context: &'a FsContext) -> Result<Walker<'a>> {
        Ok(Walker {
            kernel: self.kernel,
            tid: self.call.tid,
            credentials: &self.task()?.credentials,
            context,
            trail: None,
        })
    }

    /// What the call had done before it waited.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.resumed.as_ref().map_or(0, |blocked| blocked.progress)
    }

    #[must_use]
    pub fn has_timed_out(&self) -> bool {
        self.resumed
            .as_ref()
            .is_some_and(|blocked| blocked.timed_out)
    }

    /// The time limit that the call set when it first waited, else `limit` now.
    #[must_use]
    pub fn deadline(&self, limit: Option<std::time::Duration>) -> Option<Instant> {
        match &self.resumed {
            Some(blocked) => blocked.deadline,
            None => limit.and_then(|limit| Instant::now().checked_add(limit)),
        }
    }

    /// A ticket for the queues that are to run this call again. Take it before looking whether to wait, or a wake-up could be missed; then `wait`.
    pub fn ticket(&mut self) -> Result<Ticket> {
        let tid = self.call.tid;
        let task = self.task_mut()?;
        task.waits += 1;
        Ok(Ticket {
            tid,
            wait: task.waits,
        })
    }

    /// Waits. A signal that may be delivered already ends it at once.
    pub fn wait(
        &mut self,
        ticket: Ticket,
        deadline: Option<Instant>,
        restart: Restart,
        progress: u64,
    ) -> SysResult {
        self.wait_for(ticket, deadline, restart, progress, None)
    }

    /// As `wait`; `remaining` is where an interruption leaves the time that was left.
    pub fn wait_for(
        &mut self,
        ticket: Ticket,
        deadline: Option<Instant>,
        restart: Restart,
        progress: u64,
        remaining: Option<Remaining>,
    ) -> SysResult {
        if crate::fast::is_served(&self.call) {
            // What is done cannot be made again. Only where another container changed the file meanwhile (`File::is_at_once`).
            return Ok(if progress > 0 {
                Outcome::Value(progress.cast_signed())
            } else {
                Outcome::Blocked
            });
        }
        let blocked = Blocked {
            call: self.call,
            wait: ticket.wait,
            deadline,
            timed_out: false,
            progress,
            restart,
            remaining,
        };
        if restart != Restart::Uninterruptible && self.has_signal()? {
            return Err(self.kernel.note_interruption(&blocked));
        }
        self.kernel.block(self.call.tid, blocked);
        Ok(Outcome::Blocked)
    }

    /// Whether a signal may be delivered now, or the thread has another program to start.
    pub fn has_signal(&self) -> Result<bool> {
        let task = self.task()?;
        let pending = &self.process()?.pending;
        let is_wanted = task.traced.as_ref().is_some_and(|own| own.has_reason());
        Ok(is_wanted || task.deliverable(pending) != Set::default() || task.image.is_some())
    }

    /// Another signal mask for the time of a call; the old one comes back when it is over, or is what a handler returns to.
    pub fn change_mask(&mut self, mask: Set) -> Result<Outcome> {
        let task = self.task_mut()?;
        task.saved_mask = Some(task.mask);
        task.mask = mask.as_mask();
        // A signal that the old mask held back may end the program at once.
        self.kernel.take_unblocked(self.call.tid)
    }

    /// Waits on one queue for as long as it takes.
    pub fn wait_on(&mut self, queue: &WaitQueue, restart: Restart, progress: u64) -> SysResult {
        let ticket = self.ticket()?;
        queue.add(ticket);
        self.wait(ticket, None, restart, progress)
    }
}
