//! Calls that the host may take long over (writing back to a disk) are made on a thread of their own, so that the worker serves the others meanwhile.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use casemate_platform::notify::{Answer, Call, Listener};

use super::Kernel;
use crate::errno::{Errno, Result};
use crate::syscalls::{Outcome, SysResult};
use crate::vfs::description::Description;

/// Jobs that wait at most: more are made by the worker itself.
pub const MOST: usize = 64;
/// A call that takes no longer is made by the worker: another thread's wake-up alone costs 65 us.
const QUICK: Duration = Duration::from_micros(50);
/// How many of a file system's calls in a row have to have been quick.
const TRUSTED: u32 = 4;
/// File systems that are told apart; others are never trusted.
const MOST_PACES: usize = 256;

/// One call on an open file of the host.
#[derive(Debug)]
pub struct Job {
    call: Call,
    description: Arc<Description>,
    run: fn(&Description) -> Result<i64>,
    device: u64,
}

/// By device, how many calls in a row were quick: nothing is written back where all of it is memory, an overlay over tmpfs for one, and no magic number says so.
static PACES: Mutex<BTreeMap<u64, u32>> = Mutex::new(BTreeMap::new());

fn is_quick(device: u64) -> bool {
    let paces = PACES.lock().unwrap_or_else(PoisonError::into_inner);
    paces.get(&device).is_some_and(|count| *count >= TRUSTED)
}

/// Makes the call, and remembers how long it took.
fn timed(job: &Job) -> Result<i64> {
    let start = Instant::now();
    let result = (job.run)(&job.description);
    let took = start.elapsed();
    let mut paces = PACES.lock().unwrap_or_else(PoisonError::into_inner);
    if paces.len() < MOST_PACES || paces.contains_key(&job.device) {
        let count = paces.entry(job.device).or_default();
        *count = if took <= QUICK {
            count.saturating_add(1)
        } else {
            0
        };
    }
    result
}

pub type Sender = SyncSender<Job>;

/// The thread's life: until nobody can send any more.
pub fn serve(jobs: &Receiver<Job>, listener: &Listener) {
    while let Ok(job) = jobs.recv() {
        let value = timed(&job).unwrap_or_else(|Errno(number)| -i64::from(number));
        // A caller that was killed meanwhile needs none.
        let _ = listener.answer(job.call.id, Answer::Value(value));
    }
}

impl Kernel {
    /// Has `run`, which works on the description's host file, made without holding the kernel; at once where that has been quick.
    pub fn offload(
        &self,
        call: Call,
        description: Arc<Description>,
        run: fn(&Description) -> Result<i64>,
    ) -> SysResult {
        let (device, _) = description.file.identity()?;
        let job = Job {
            call,
            description,
            run,
            device,
        };
        if is_quick(device) {
            return timed(&job).map(Outcome::Value);
        }
        // It is made again as a notification, whose answer can come from another thread.
        if crate::fast::is_served(&job.call) {
            return Ok(Outcome::Blocked);
        }
        match self.jobs.try_send(job) {
            Ok(()) => Ok(Outcome::Later),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                timed(&job).map(Outcome::Value)
            }
        }
    }
}
