//! Calls that the host may take long over (writing back to a disk) are made on a thread of their own, so that the worker serves the others meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};

use casemate_platform::notify::{Answer, Call, Listener};

use super::Kernel;
use crate::errno::{Errno, Result};
use crate::syscalls::{Outcome, SysResult};
use crate::vfs::description::Description;

/// Jobs that wait at most: more are made by the worker itself.
pub const MOST: usize = 64;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// One call on an open file of the host.
#[derive(Debug)]
pub struct Job {
    call: Call,
    description: Arc<Description>,
    run: fn(&Description) -> Result<i64>,
}

pub type Sender = SyncSender<Job>;

/// The thread's life: until nobody can send any more.
pub fn serve(jobs: &Receiver<Job>, listener: &Listener) {
    while let Ok(job) = jobs.recv() {
        let value = (job.run)(&job.description).unwrap_or_else(|Errno(number)| -i64::from(number));
        // A caller that was killed meanwhile needs none.
        let _ = listener.answer(job.call.id, Answer::Value(value));
    }
}

impl Kernel {
    /// Has `run`, which works on the description's host file, made without holding the kernel. Files in memory need no thread: nothing waits there.
    pub fn offload(
        &self,
        call: Call,
        description: Arc<Description>,
        run: fn(&Description) -> Result<i64>,
    ) -> SysResult {
        let in_memory = description.file.host().is_none_or(|fd| {
            rustix::fs::fstatfs(fd).is_ok_and(|found| found.f_type == TMPFS_MAGIC)
        });
        if in_memory {
            return run(&description).map(Outcome::Value);
        }
        match self.jobs.try_send(Job {
            call,
            description,
            run,
        }) {
            Ok(()) => Ok(Outcome::Later),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                run(&job.description).map(Outcome::Value)
            }
        }
    }
}
