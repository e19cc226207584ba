//! What a kernel is to do, noted where it is not at hand: a file's last reference may go anywhere, and what happens to a file of one container's may
//! concern another's processes. It is done by that kernel's worker, before the answer to the call that caused it if that is its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::kernel::Kernel;

#[derive(Debug)]
pub(super) struct Deferred<T> {
    any: AtomicBool,
    /// Each with the number of its kernel.
    items: Mutex<Vec<(u32, T)>>,
}

impl<T> Deferred<T> {
    pub(super) const fn new() -> Self {
        Self {
            any: AtomicBool::new(false),
            items: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn push(&self, kernel: u32, item: T) {
        self.items
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((kernel, item));
        self.any.store(true, Ordering::Release);
    }

    /// Does what is this kernel's, and has the others do theirs.
    pub(super) fn settle(&self, kernel: &mut Kernel, mut act: impl FnMut(&mut Kernel, T)) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let own = kernel.member.number;
        let mut foreign = Vec::new();
        while self.any.swap(false, Ordering::AcqRel) {
            let items =
                std::mem::take(&mut *self.items.lock().unwrap_or_else(PoisonError::into_inner));
            for (number, item) in items {
                if number == own {
                    act(kernel, item);
                } else {
                    foreign.push((number, item));
                }
            }
        }
        foreign.retain(|(number, _)| kernel.member.pod.has(*number));
        if !foreign.is_empty() {
            let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
            items.splice(..0, foreign);
            drop(items);
            self.any.store(true, Ordering::Release);
            kernel.member.pod.ring_others(own);
        }
    }
}
