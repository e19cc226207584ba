//! Debugging aids: a line for each call (`tracer`), counts of calls (`counts`), and what is going on (`report`). docs/design/sentry.md, "Debugging aids".
//!
//! What a program chose (strings, names, numbers) is shown escaped and cut short, so that no line is forged and none grows without end.

pub mod activity;
pub mod counts;
pub mod report;

mod constants;
mod decode;
mod escape;
mod numbers;
mod processes;
mod sink;
mod structures;
mod tracer;

use std::time::Instant;

use casemate_platform::notify::Call;

use crate::kernel::Kernel;
use crate::syscalls::{Outcome, SysResult};

pub use sink::Sink;
pub use tracer::{Settings, Tracer, UnknownCall, unseen};

/// What a kernel keeps for those who look at it.
#[derive(Debug, Default)]
pub struct Trace {
    pub counts: counts::Counts,
    pub tracer: Option<Box<Tracer>>,
}

impl Trace {
    #[must_use]
    pub fn new(tracer: Option<Tracer>) -> Self {
        let mut counts = counts::Counts::default();
        counts.is_timed = tracer.is_some();
        Self {
            counts,
            tracer: tracer.map(Box::new),
        }
    }

    #[must_use]
    pub fn is_on(&self) -> bool {
        self.tracer.is_some()
    }

    pub fn signal(&mut self, (pid, tid): (i32, i32), signal: i32) {
        if let Some(tracer) = &mut self.tracer {
            tracer.signal(pid, tid, signal);
        }
    }

    pub fn process_ended(&mut self, pid: i32, status: i32) {
        if let Some(tracer) = &mut self.tracer {
            tracer.process_ended(pid, status);
        }
    }
}

/// A call is about to be handled, for the first time or again after it waited. Without a tracer and measurements this is one look at two words.
pub fn begin(kernel: &mut Kernel, call: &Call, is_new: bool) -> Option<Instant> {
    activity::enter(call.tid, call.nr);
    if let Some(tracer) = &mut kernel.trace.tracer
        && is_new
    {
        let task = kernel.tasks.get(&call.tid);
        let who = task.map_or((call.tid, call.tid), |task| (task.pid, task.tid));
        tracer.enter(call, who);
    }
    kernel.trace.counts.begin()
}

/// It was handled: `outcome` says how far it has come.
pub fn end(kernel: &mut Kernel, call: &Call, outcome: &SysResult, begun: Option<Instant>) {
    kernel.trace.counts.end(call.nr, outcome, begun);
    if let Some(tracer) = &mut kernel.trace.tracer {
        tracer.leave(call, outcome);
    }
    activity::leave();
}

/// It was not handled after all.
pub fn declined() {
    activity::leave();
}

/// Whether the call is over for its caller, as far as the sentry knows.
fn is_over(outcome: &SysResult) -> bool {
    !matches!(outcome, Ok(Outcome::Blocked | Outcome::Later))
}
