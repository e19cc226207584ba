//! What each thread of the sentry's own is at: for `debug`, which must be able to tell even when one of them holds the kernel for good.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::host;

const IDLE: u64 = u64::MAX;

static THREADS: Mutex<Vec<(i32, Weak<AtomicU64>)>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: Arc<AtomicU64> = register();
}

fn register() -> Arc<AtomicU64> {
    let own = Arc::new(AtomicU64::new(IDLE));
    let tid = host::own_number().map_or(0, |number| number.as_raw_nonzero().get());
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    threads.retain(|(_, other)| other.strong_count() > 0);
    threads.push((tid, Arc::downgrade(&own)));
    own
}

/// This thread handles a call of a program's thread.
pub fn enter(tid: i32, nr: i32) {
    let at = u64::from(tid.cast_unsigned()) << 32 | u64::from(nr.cast_unsigned());
    OWN.with(|own| own.store(at, Ordering::Relaxed));
}

pub fn leave() {
    OWN.with(|own| own.store(IDLE, Ordering::Relaxed));
}

/// The sentry's threads that handle a call now: own thread id, the caller's, the call's number.
#[must_use]
pub fn now() -> Vec<(i32, i32, i32)> {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    threads
        .iter()
        .filter_map(|(own, at)| {
            let at = at.upgrade()?.load(Ordering::Relaxed);
            (at != IDLE).then_some((*own, (at >> 32) as i32, at as i32))
        })
        .collect()
}
