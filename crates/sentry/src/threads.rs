//! Threads that are there before the jail is closed, since it lets nobody make one: neither a process nor code of another's comes to be in a sentry that was
//! taken over. Whoever has work takes one; when the work is over it waits for the next, for its end would need calls as well.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::boot::BootError;
use crate::errno::Errno;

const STACK_BYTES: usize = 512 << 10;

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// Threads that nobody was promised.
    free: usize,
    work: VecDeque<Work>,
    /// Each says when its thread runs.
    starting: Vec<Receiver<()>>,
}

/// Threads that wait for work.
#[derive(Clone, Default)]
pub struct Threads(Arc<(Mutex<State>, Condvar)>);

impl std::fmt::Debug for Threads {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} threads", self.lock().free)
    }
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A further one, which begins with `first`.
    ///
    /// # Errors
    /// As clone(2).
    pub fn add(&self, name: &str, first: impl FnOnce() + Send + 'static) -> Result<(), BootError> {
        let (ready, is_ready) = std::sync::mpsc::channel::<()>();
        let threads = self.clone();
        let life = move || {
            casemate_platform::keep_small_blocks();
            crate::host::prepare_thread();
            drop(ready);
            run(first);
            loop {
                run(threads.next());
            }
        };
        let started = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn(life);
        started.map_err(|error| BootError::new("thread", error.into()))?;
        self.lock().starting.push(is_ready);
        Ok(())
    }

    /// Returns when all run: a jail that is closed in the middle of a thread's start would refuse some of it.
    pub fn settle(&self) {
        let starting = std::mem::take(&mut self.lock().starting);
        for one in starting {
            let _ = one.recv();
        }
    }

    /// A further one without work. False: the host gives no more.
    pub fn add_waiting(&self, name: &str) -> bool {
        self.add(name, || ()).is_ok()
    }

    /// Gives the caller's thread back, and waits for work.
    fn next(&self) -> Work {
        let mut state = self.lock();
        state.free += 1;
        loop {
            if let Some(work) = state.work.pop_front() {
                return work;
            }
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Promises `count` threads, or none.
    ///
    /// # Errors
    /// `EAGAIN`: so many are not free.
    pub fn take(&self, count: usize) -> Result<Taken, BootError> {
        let mut state = self.lock();
        match state.free.checked_sub(count) {
            Some(left) => state.free = left,
            None => {
                return Err(BootError {
                    errno: libc::EAGAIN,
                    message: "the sandbox holds no further container at once: delete one first"
                        .to_owned(),
                });
            }
        }
        drop(state);
        Ok(Taken {
            threads: self.clone(),
            left: count,
        })
    }
}

/// Threads that were promised.
#[derive(Debug)]
pub struct Taken {
    threads: Threads,
    left: usize,
}

impl Taken {
    /// # Errors
    /// `EAGAIN`: more work than was asked for.
    pub fn run(&mut self, work: impl FnOnce() + Send + 'static) -> Result<(), BootError> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| BootError::new("thread", Errno(libc::EAGAIN)))?;
        self.threads.lock().work.push_back(Box::new(work));
        self.threads.0.1.notify_one();
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.threads.lock().free += self.left;
    }
}

fn run(work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        // Half a sentry is none: all programs end with it.
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn threads_are_promised_together_and_come_back() {
        let threads = Threads::default();
        threads.take(1).expect_err("not free");
        assert!(threads.add_waiting("first") && threads.add_waiting("second"));
        let free = |count| while threads.lock().free != count {};
        free(2);
        threads.take(3).expect_err("not free");
        for _ in 0..100 {
            let mut taken = threads.take(2).expect("two are free");
            threads.take(1).expect_err("not free");
            let (sender, results) = channel();
            let other = sender.clone();
            taken
                .run(move || sender.send(1).expect("received"))
                .expect("promised");
            taken
                .run(move || other.send(2).expect("received"))
                .expect("promised");
            taken.run(|| ()).expect_err("not promised");
            assert_eq!(results.iter().sum::<i32>(), 3);
            free(2);
        }
        drop(threads.take(2).expect("two are free"));
        free(2);
    }
}
