//! Timers that send signals: alarm(2), setitimer(2), timer_create(2).

use std::time::{Duration, Instant};

/// ITIMER_REAL of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alarm {
    pub next: Option<Instant>,
    pub interval: Duration,
}

/// A POSIX timer.
#[derive(Debug, Clone)]
pub struct Timer {
    pub next: Option<Instant>,
    pub interval: Duration,
    pub signal: i32,
    pub value: u64,
    pub thread: Option<i32>,
    pub overruns: i32,
}
