//! Timers faster than their handlers. To deliver a signal takes some 15 us here, ten times what it takes the host: a timer of 10 us would leave its program no
//! time at all. So a process rests from its timers for a while once a handler of theirs has returned; what becomes due meanwhile is seen after that.
//! Linux, too, holds back a timer that is faster than its machinery, where its signal is ignored: posix_timer_fn().

use std::time::{Duration, Instant};

use super::Kernel;
use super::posix_timers::Notify;
use super::signals::Set;
use super::timers::Due;

/// How long: it leaves the program four fifths of its time.
const REST: Duration = Duration::from_micros(100);

impl Kernel {
    /// A handler has returned, by rt_sigreturn(2). False: there is nothing to rest from.
    pub fn begin_rest(&mut self, tid: i32) -> bool {
        let Ok(process) = self.process_of_mut(tid) else {
            return false;
        };
        if !std::mem::take(&mut process.alarm.is_handled) {
            return false;
        }
        let Some(until) = Instant::now().checked_add(REST) else {
            return false;
        };
        process.alarm.rests_until = Some(until);
        if !self.has_only_timers(tid) {
            return false;
        }
        self.arm(until, Due::Look(tid));
        true
    }

    /// When a timer that is due by `now` may send its signal, if not yet.
    #[must_use]
    pub fn rests(&self, pid: i32, now: Instant) -> Option<Instant> {
        let until = self.process(pid).ok()?.alarm.rests_until?;
        (until > now).then_some(until)
    }

    /// Whether all signals that the thread may take are timers', and there is one.
    fn has_only_timers(&self, tid: i32) -> bool {
        let Ok(task) = self.task(tid) else {
            return false;
        };
        let Ok(process) = self.process(task.pid) else {
            return false;
        };
        let ready = task.deliverable(&process.pending);
        let mut timers = Set::default();
        if process.alarm.real.rang.is_some() {
            timers = timers.with(libc::SIGALRM);
        }
        for timer in process.timers.values() {
            if let (Some(_), Notify::Signal(signal, _)) = (timer.rang, timer.notify) {
                timers = timers.with(signal);
            }
        }
        ready != Set::default() && ready.0 & !timers.0 == 0
    }
}
