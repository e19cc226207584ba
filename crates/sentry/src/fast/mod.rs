//! The fast path: calls answered in the stub, and calls that a spinning thread of the sentry takes from shared memory. docs/decisions/2026-11-28-fast-path.md.
//!
//! Call sites that trap often are patched (`patch`) to jump to the stub (`casemate_platform::fast`). What that finds, the sentry keeps right (`ids`, `slots`);
//! `server` serves the slots; `place` keeps others from its processor; `window` gives handlers the data that the stub copied; `frame` makes a signal's frame say what the program would know of.
//! Every call that is not served this way is an ordinary notification, from the trampoline, or from the stub with its data in the slot: `arrive` tells whose site it is.

pub mod answers;
pub mod frame;
pub mod ids;
pub mod lines;
pub mod patch;
pub mod place;
pub mod server;
pub mod slots;
pub mod space;
pub mod window;
pub mod windows;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use casemate_platform::channel::DONE;
use casemate_platform::notify::Call;
use casemate_platform::{fast, magic};

use crate::kernel::Kernel;
use crate::memory::{Address, Memory};
pub use space::Space;
pub use window::Window;

/// A served call has no notification to answer.
pub const CALL_ID: u64 = u64::MAX;
/// Calls that follow each other this closely make a series, so many of them a dense one: then a server is worth its processor.
const CLOSE: Duration = Duration::from_micros(20);
const DENSE: u32 = 8;

/// Whether a call is one of the channel's: it must not wait.
#[must_use]
pub fn is_served(call: &Call) -> bool {
    call.id == CALL_ID
}

/// The sandbox's part: what works here, and the series of calls under way.
#[derive(Debug)]
pub struct Fast {
    pub patches: bool,
    pub channels: bool,
    /// Threads that take turns may have lines.
    pub has_lines: bool,
    /// A thread that waits may use a processor for a while, since there is one for the other thread.
    pub may_look: bool,
    series: u32,
    /// When the last such call was answered, and whether this one came soon after that.
    last: Option<Instant>,
    is_close: bool,
    pub server: server::Handle,
    pub kept_off: place::KeptOff,
    /// By file, where its code has the C library's sched_yield(3).
    yields: HashMap<String, Option<u64>>,
}

impl Fast {
    /// `processors`: how many the sandbox may use at once. A server beside a single one would only stand in its program's way.
    #[must_use]
    pub fn new(is_traced: bool, processors: usize) -> Self {
        Self {
            patches: !is_traced,
            may_look: processors >= 2,
            has_lines: !is_traced && fast::tells_fs_base(),
            channels: !is_traced && processors >= 2 && fast::tells_fs_base(),
            series: 0,
            last: None,
            is_close: false,
            server: server::Handle::default(),
            kept_off: place::KeptOff::default(),
            yields: HashMap::new(),
        }
    }

    /// One more call that could have been served; whether the series is dense.
    fn is_dense(&mut self) -> bool {
        // One gap does not end it: where somebody else is woken now and then (a pipe's reader), there always is one.
        self.series = if self.is_close {
            self.series + 1
        } else {
            self.series / 2
        };
        self.last = Some(Instant::now());
        self.series >= DENSE
    }
}

impl Kernel {
    /// A notification came: gives it the instruction pointer of its site, if it comes from a trampoline, or from the stub, which left its data in the slot then.
    pub fn arrive(&mut self, call: &mut Call) -> Option<Window> {
        let task = self.tasks.get_mut(&call.tid)?;
        if let Some(after) = task
            .traced
            .as_ref()
            .and_then(|own| own.called_from(call.ip))
        {
            call.ip = after;
        }
        let carrying = task.slot.as_ref().filter(|slot| slot.carries(call));
        let slow = carrying.map_or(call.ip.wrapping_sub(fast::AFTER), |slot| {
            slot.channel.offered(slot.index).slow
        });
        let site = task.space.lock().site_of(slow);
        task.is_from_trampoline = site.is_some();
        let window = carrying.filter(|_| site.is_some()).map(|slot| {
            let offered = slot.channel.offered(slot.index);
            let place = (slot.channel.clone(), slot.index);
            Window::new(
                call.tid,
                place,
                (call.nr, &call.args),
                (offered.path, offered.data),
            )
        });
        if let Some(site) = site {
            self.fast.is_close = self.fast.last.is_some_and(|last| last.elapsed() < CLOSE);
            call.ip = site.wrapping_add(fast::AFTER);
        }
        // In a signal's frame, the slot tells how far a call is.
        if call.nr != magic::DELIVER
            && window.is_none()
            && let Some(slot) = &task.slot
        {
            slot.settle();
        }
        if call.nr != magic::DELIVER {
            self.note_detached(call);
        }
        window
    }

    /// Such a call is about to be answered, or put off: leaves the data that it wrote to the slot with the stub, or in the memory that it is for.
    pub fn leave_written(&self, call: &Call, result: Option<i64>, out: usize) {
        if out == 0 {
            return;
        }
        let slot = self
            .tasks
            .get(&call.tid)
            .and_then(|task| task.slot.as_ref());
        let Some(slot) = slot else {
            return;
        };
        let (channel, index) = (&slot.channel, slot.index);
        if let Some(result) = result {
            channel.finish(index, result, out);
            channel.set_state(index, DONE);
            return;
        }
        let mut bytes = vec![0; out];
        channel.read_data(index, 0, &mut bytes);
        // It was found writable when the call began; where it is no more, the rest of the call finds that out.
        let _ = Memory { tid: call.tid }.write(Address(channel.out(index)), &bytes);
    }

    /// As `make_faster`, for a call that had to wait: a read's site at least.
    pub fn make_read_faster(&mut self, call: &Call) {
        let Some(task) = self.tasks.get(&call.tid) else {
            return;
        };
        if task.slot.is_some() {
            self.fast.server.note_answered();
        }
        if lines::reads(call) && !task.is_from_trampoline {
            self.make_faster(call);
        }
    }

    /// A call is about to be answered that did not have to wait: sees whether its site, or its thread, is to be made faster.
    pub fn make_faster(&mut self, call: &Call) {
        if self.see_to_windows(call) {
            return;
        }
        if !self.fast.patches || !fast::is_eligible(call.nr) {
            return;
        }
        let Some(task) = self.tasks.get(&call.tid) else {
            return;
        };
        if task.traced.is_some() {
            return;
        }
        if task.is_from_trampoline {
            return self.missed(call);
        }
        let site = call.ip.wrapping_sub(fast::AFTER);
        let counts = task.space.lock().counts(site, space::OFTEN);
        if counts {
            self.begin_patch(call, site);
        }
    }

    /// A patched site's call came as a notification all the same.
    fn missed(&mut self, call: &Call) {
        if !self.fast.channels || fast::class(call.nr) == fast::Class::None {
            return;
        }
        let slot = self
            .tasks
            .get_mut(&call.tid)
            .and_then(|task| task.slot.as_mut());
        let Some(slot) = slot else {
            if self.fast.is_dense() {
                self.begin_registration(call);
            }
            return;
        };
        if !fast::class(call.nr).is_served() {
            return;
        }
        // The server sent it here.
        if std::mem::take(&mut slot.is_declined) {
            return self.fast.server.note_answered();
        }
        let processor = slot.channel.processor(slot.index);
        let gave_up = slot.channel.take_gave_up(slot.index);
        if self.fast.server.is_listening() {
            // Else it had begun before that.
            if gave_up {
                self.fast.server.note_late();
            }
        } else if self.fast.is_dense() {
            self.fast.server.wake(processor);
        }
    }
}
