//! Calls that the host may take long over (writing back to a disk) are made on a thread of their own, so that the worker serves the others meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use casemate_platform::notify::{Answer, Call};

use super::Kernel;
use crate::errno::{Errno, Result};
use crate::syscalls::{Outcome, SysResult};
use crate::vfs::description::Description;

/// More at once are made by the worker itself: a program cannot make the sentry start threads without end.
const MOST: usize = 16;
static RUNNING: AtomicUsize = AtomicUsize::new(0);
const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58F6_u32 as i64;

impl Kernel {
    /// Makes `job`, which works on the description's host file, without holding the kernel. Files in memory need no thread: nothing waits there.
    pub fn offload(
        &self,
        call: Call,
        description: Arc<Description>,
        job: fn(&Description) -> Result<i64>,
    ) -> SysResult {
        let in_memory = description.file.host().is_none_or(|fd| {
            let kind = rustix::fs::fstatfs(fd).map_or(TMPFS_MAGIC, |found| found.f_type);
            kind == TMPFS_MAGIC || kind == RAMFS_MAGIC
        });
        if in_memory || RUNNING.load(Ordering::Relaxed) >= MOST {
            return job(&description).map(Outcome::Value);
        }
        let listener = self.listener.clone();
        RUNNING.fetch_add(1, Ordering::Relaxed);
        let started = thread::Builder::new()
            .name("offload".to_owned())
            .stack_size(128 << 10)
            .spawn(move || {
                let value = job(&description).unwrap_or_else(|Errno(number)| -i64::from(number));
                drop(description);
                // A caller that was killed meanwhile needs none.
                let _ = listener.answer(call.id, Answer::Value(value));
                RUNNING.fetch_sub(1, Ordering::Relaxed);
            });
        if started.is_err() {
            RUNNING.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOMEM);
        }
        Ok(Outcome::Later)
    }
}
