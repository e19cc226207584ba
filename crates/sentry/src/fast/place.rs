//! Who runs where while the server listens. It spins on one processor and the program that it serves runs on another; whoever that program's calls wake runs
//! beside the program, since on the server's processor it would take that away: every call of either would go without an answer until it waits again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, Pid};

use crate::kernel::Kernel;

/// A thread that has run for so long without waiting again wants a processor more than the server does.
const SHORT: Duration = Duration::from_millis(1);

/// Threads that are kept off the server's processor for the time being. Programs do not see it: their affinities are the sentry's bookkeeping.
#[derive(Debug, Default)]
pub struct KeptOff {
    /// Native ids, and since when each runs.
    threads: Vec<(i32, Instant)>,
    /// Where the server is.
    processor: usize,
    /// There may be some: so that the server, who looks every now and then, takes the kernel's lock only then.
    has_any: Arc<AtomicBool>,
}

impl KeptOff {
    pub(super) fn has_any(&self) -> Arc<AtomicBool> {
        self.has_any.clone()
    }

    fn add(&mut self, tid: i32, now: Instant) {
        self.threads.push((tid, now));
        self.has_any.store(true, Ordering::Relaxed);
    }

    /// Takes out those for whom `stays` is false.
    fn take(&mut self, stays: impl Fn(&(i32, Instant)) -> bool) -> Vec<(i32, Instant)> {
        let threads = std::mem::take(&mut self.threads);
        let (stay, go) = threads.into_iter().partition(stays);
        self.threads = stay;
        self.has_any
            .store(!self.threads.is_empty(), Ordering::Relaxed);
        go
    }
}

/// Lets a thread (`None`: the caller) run on those of the processors.
pub fn set_affinity<'a>(thread: Option<Pid>, processors: impl Iterator<Item = &'a usize>) {
    let mut set = CpuSet::new();
    for processor in processors.filter(|number| **number < CpuSet::MAX_CPU) {
        set.set(*processor);
    }
    let _ = rustix::thread::sched_setaffinity(thread, &set);
}

impl Kernel {
    /// A thread that has waited is about to run again.
    pub fn keep_off_server(&mut self, tid: i32) {
        if !self.fast.server.is_listening() {
            return;
        }
        let kept = &mut self.fast.kept_off;
        if let Some((_, since)) = kept.threads.iter_mut().find(|(kept, _)| *kept == tid) {
            *since = Instant::now();
            return;
        }
        let task = self.tasks.get(&tid);
        // One that has chosen its processors stays there; one that executes may have another number in the end.
        if task.is_none_or(|task| !task.settings.cpus.is_empty() || task.image.is_some()) {
            return;
        }
        kept.add(tid, Instant::now());
        let others = self.machine.host_cpus.iter();
        set_affinity(
            Pid::from_raw(tid),
            others.filter(|number| **number != kept.processor),
        );
    }

    /// Back to where it may run: before it has children, too, who would inherit it.
    pub fn let_go(&mut self, tid: i32) {
        let threads = &mut self.fast.kept_off.threads;
        if let Some(index) = threads.iter().position(|(kept, _)| *kept == tid) {
            threads.swap_remove(index);
            self.restore_affinity(tid);
        }
    }

    /// The thread is gone: its number may become somebody else's.
    pub fn forget_place(&mut self, tid: i32) {
        self.fast.kept_off.threads.retain(|(kept, _)| *kept != tid);
    }

    /// Those that have not waited again lately.
    pub(super) fn let_go_of_busy(&mut self, now: Instant) {
        let tasks = &self.tasks;
        let waits = |tid: &i32| tasks.get(tid).is_some_and(|task| task.blocked.is_some());
        let go = self
            .fast
            .kept_off
            .take(|(tid, since)| now.saturating_duration_since(*since) < SHORT || waits(tid));
        for (tid, _) in go {
            self.restore_affinity(tid);
        }
    }

    pub(super) fn let_all_go(&mut self) {
        for (tid, _) in self.fast.kept_off.take(|_| false) {
            self.restore_affinity(tid);
        }
    }

    /// Lets the thread run wherever it may.
    pub fn restore_affinity(&self, tid: i32) {
        let chosen = self.tasks.get(&tid).map(|task| &task.settings.cpus);
        let chosen = chosen.filter(|cpus| !cpus.is_empty());
        set_affinity(
            Pid::from_raw(tid),
            chosen.unwrap_or(&self.machine.host_cpus).iter(),
        );
    }

    /// The server has begun to run on that processor: whoever was kept off another one need not be.
    pub(super) fn note_server(&mut self, processor: usize) {
        if self.fast.kept_off.processor != processor {
            self.let_all_go();
            self.fast.kept_off.processor = processor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_need_not_look_while_nobody_is_kept_off() {
        let mut kept = KeptOff::default();
        let has_any = kept.has_any();
        assert!(!has_any.load(Ordering::Relaxed));
        kept.add(7, Instant::now());
        kept.add(8, Instant::now());
        assert_eq!(kept.take(|(tid, _)| *tid == 8).len(), 1);
        assert!(has_any.load(Ordering::Relaxed));
        assert_eq!(kept.take(|_| false).len(), 1);
        assert!(!has_any.load(Ordering::Relaxed));
    }
}
