//! Wait queues: where blocked calls wait, as data. A wake-up moves waiters to the ready list, and whoever holds the kernel runs their calls again.
//!
//! Lock order: the kernel, then a file's own lock, then a queue's, then the ready list's. Nothing is called with the last two held.

use std::sync::{Mutex, PoisonError, Weak};

/// One blocked call: the thread, and which of its waits. A wait that is over makes its tickets stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub tid: i32,
    pub wait: u64,
}

static READY: Mutex<Vec<Ticket>> = Mutex::new(Vec::new());

/// What wants to know of every wake-up, not only the next: an epoll instance's interest.
pub trait Watch: Send + Sync + std::fmt::Debug {
    /// `events`: what may have come, in poll(2)'s bits.
    fn notify(&self, events: u32);
}

#[derive(Debug, Default)]
pub struct WaitQueue {
    tickets: Mutex<Vec<Ticket>>,
    watches: Mutex<Vec<Weak<dyn Watch>>>,
}

impl WaitQueue {
    /// Adds a waiter. One thread waits once in a queue: an older ticket of its is stale.
    pub fn add(&self, ticket: Ticket) {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|other| other.tid != ticket.tid);
        tickets.push(ticket);
    }

    pub fn watch(&self, watch: Weak<dyn Watch>) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|other| other.strong_count() > 0);
        watches.push(watch);
    }

    /// Whether nobody waits here, nor watches.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.is_empty() && watches.iter().all(|watch| watch.strong_count() == 0)
    }

    /// Everything that waits here is to look again.
    pub fn wake(&self) {
        self.wake_for(u32::MAX);
    }

    /// As `wake`, where it is known what may have come: an edge-triggered interest in something else hears nothing. Linux: wake_up_poll().
    pub fn wake_for(&self, events: u32) {
        let tickets =
            std::mem::take(&mut *self.tickets.lock().unwrap_or_else(PoisonError::into_inner));
        make_ready(&tickets);
        let watches: Vec<_> = {
            let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
            // The youngest first. Linux: add_wait_queue() puts at the head.
            watches.iter().rev().filter_map(Weak::upgrade).collect()
        };
        for watch in watches {
            watch.notify(events);
        }
    }
}

pub fn make_ready(tickets: &[Ticket]) {
    if !tickets.is_empty() {
        READY
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(tickets);
    }
}

/// Whether that one is to be run again.
#[must_use]
pub fn is_ready(ticket: Ticket) -> bool {
    let ready = READY.lock().unwrap_or_else(PoisonError::into_inner);
    ready.contains(&ticket)
}

/// Whether somebody is to be run again.
#[must_use]
pub fn has_ready() -> bool {
    let ready = READY.lock().unwrap_or_else(PoisonError::into_inner);
    !ready.is_empty()
}

/// The waiters to run again, oldest first.
#[must_use]
pub fn take_ready() -> Vec<Ticket> {
    std::mem::take(&mut *READY.lock().unwrap_or_else(PoisonError::into_inner))
}
