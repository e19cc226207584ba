//! Sets of files to wait for. epoll(7).
//!
//! An interest watches its file's queue and, when that wakes, puts itself into the ready list; nothing else does. What the list holds is looked at only when
//! somebody waits: a level-triggered interest that is still ready goes to the list's end, an edge-triggered one leaves it until the next wake-up.
//! Linux: fs/eventpoll.c. No lock is held while a file is asked: its answer may take the file's own, and letting go of it may close it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::description::Description;
use super::file::{File, POLLERR, POLLHUP, READABLE};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::wake::{WaitQueue, Watch};

pub const EXCLUSIVE: u32 = 1 << 28;
pub const WAKEUP: u32 = 1 << 29;
pub const ONESHOT: u32 = 1 << 30;
pub const EDGE: u32 = 1 << 31;
/// How an interest behaves, as opposed to what it is in.
const BEHAVIOUR: u32 = EXCLUSIVE | WAKEUP | ONESHOT | EDGE;
/// Interests of one instance at most (max_user_watches' share).
const MOST: usize = 1 << 17;
/// How deep instances may lie within each other. Linux: EP_MAX_NESTS.
const MOST_NESTED: usize = 4;

/// A descriptor's number and its description: the same file may be in a set more than once.
type Key = (i32, usize);

#[derive(Debug)]
pub struct Interest {
    key: Key,
    description: Weak<Description>,
    epoll: Weak<Epoll>,
    /// Events and behaviour, and the program's own word. No events: a one-shot that has fired.
    wish: Mutex<(u32, u64)>,
    /// Whether it stands in the ready list; guarded by the instance's lock.
    is_listed: AtomicBool,
}

impl Interest {
    fn wish(&self) -> MutexGuard<'_, (u32, u64)> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is in and has now.
    fn events(&self, kernel: Option<(&Kernel, i32)>) -> u32 {
        let wanted = self.wish().0 & !BEHAVIOUR;
        let Some(description) = self.description.upgrade() else {
            return 0;
        };
        let file = &description.file;
        wanted & kernel.map_or_else(|| file.poll(), |(kernel, tid)| file.poll_for(kernel, tid))
    }
}

impl Watch for Interest {
    fn notify(&self, events: u32) {
        let wanted = self.wish().0 & !BEHAVIOUR;
        if let Some(epoll) = self.epoll.upgrade()
            && wanted & events != 0
        {
            epoll.list(self.key);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    interests: BTreeMap<Key, Arc<Interest>>,
    ready: VecDeque<Arc<Interest>>,
    /// Instances that have this one among their interests.
    above: Vec<Weak<Epoll>>,
}

#[derive(Debug)]
pub struct Epoll {
    this: Weak<Self>,
    state: Mutex<State>,
    queue: WaitQueue,
}

/// One event that was found, until the program has it.
#[derive(Debug)]
pub struct Found {
    interest: Arc<Interest>,
    pub events: u32,
    pub data: u64,
}

impl Epoll {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            state: Mutex::default(),
            queue: WaitQueue::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self, key: Key) {
        let mut state = self.lock();
        let Some(interest) = state.interests.get(&key).cloned() else {
            return;
        };
        if !interest.is_listed.swap(true, Ordering::Relaxed) {
            state.ready.push_back(interest);
        }
        drop(state);
        self.queue.wake_for(READABLE);
    }

    /// EPOLL_CTL_ADD. `EEXIST` it is there; `ELOOP` the file is an instance that this one is in; `EPERM` it cannot be waited for.
    pub fn add(
        &self,
        (kernel, tid): (&Kernel, i32),
        fd: i32,
        description: &Arc<Description>,
        events: u32,
        data: u64,
    ) -> Result<()> {
        let Some(queue) = description.file.queue() else {
            return Err(Errno::EPERM);
        };
        let below = description.file.downcast_ref::<Self>();
        if let Some(below) = below {
            self.check_nesting(below)?;
        }
        let key = (fd, Arc::as_ptr(description).addr());
        let interest = Arc::new(Interest {
            key,
            description: Arc::downgrade(description),
            epoll: self.this.clone(),
            wish: Mutex::new((events | POLLERR | POLLHUP, data)),
            is_listed: AtomicBool::new(false),
        });
        self.insert(key, &interest)?;
        if let Some(below) = below {
            below.lock().above.push(self.this.clone());
        }
        let watch: Weak<dyn Watch> = Arc::<Interest>::downgrade(&interest);
        if description.file.follows_signals() {
            // The process that adds it is the one whose signals are waited for. signalfd(2), "epoll(7) semantics".
            kernel.process_of(tid)?.signal_queue.watch(watch.clone());
        }
        queue.watch(watch);
        if interest.events(Some((kernel, tid))) != 0 {
            self.list(key);
        }
        Ok(())
    }

    fn insert(&self, key: Key, interest: &Arc<Interest>) -> Result<()> {
        let mut state = self.lock();
        if state.interests.contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        // Files that were closed without EPOLL_CTL_DEL leave nothing but memory behind: swept when it doubles.
        if state.interests.len().is_power_of_two() {
            let is_open = |interest: &Arc<Interest>| interest.description.strong_count() > 0;
            state.interests.retain(|_, interest| is_open(interest));
            state.ready.retain(is_open);
        }
        if state.interests.len() >= MOST {
            return Err(Errno::ENOSPC);
        }
        state.interests.insert(key, interest.clone());
        Ok(())
    }

    /// EPOLL_CTL_MOD. `ENOENT` it is not there; `EINVAL` an exclusive one.
    pub fn modify(
        &self,
        (kernel, tid): (&Kernel, i32),
        fd: i32,
        description: &Arc<Description>,
        events: u32,
        data: u64,
    ) -> Result<()> {
        let key = (fd, Arc::as_ptr(description).addr());
        let interest = self.lock().interests.get(&key).cloned();
        let interest = interest.ok_or(Errno::ENOENT)?;
        if interest.wish().0 & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        *interest.wish() = (events | POLLERR | POLLHUP, data);
        if interest.events(Some((kernel, tid))) != 0 {
            self.list(key);
        }
        Ok(())
    }

    /// EPOLL_CTL_DEL. `ENOENT` it is not there.
    pub fn remove(&self, fd: i32, description: &Arc<Description>) -> Result<()> {
        let key = (fd, Arc::as_ptr(description).addr());
        let mut state = self.lock();
        let interest = state.interests.remove(&key).ok_or(Errno::ENOENT)?;
        if interest.is_listed.load(Ordering::Relaxed) {
            state.ready.retain(|other| !Arc::ptr_eq(other, &interest));
        }
        drop(state);
        if let Some(below) = description.file.downcast_ref::<Self>() {
            let mut state = below.lock();
            let place = state
                .above
                .iter()
                .position(|above| above.ptr_eq(&self.this));
            if let Some(place) = place {
                state.above.swap_remove(place);
            }
        }
        Ok(())
    }

    /// The first events, `most` at most. Each is out of the list until `settle` or `put_back`.
    pub fn collect(&self, kernel: &Kernel, tid: i32, most: usize) -> Vec<Found> {
        let mut found = Vec::new();
        let listed = self.lock().ready.len();
        for _ in 0..listed {
            if found.len() >= most {
                break;
            }
            let Some(interest) = self.next_ready() else {
                break;
            };
            let events = interest.events(Some((kernel, tid)));
            let data = interest.wish().1;
            if events != 0 {
                found.push(Found {
                    interest,
                    events,
                    data,
                });
            }
        }
        found
    }

    fn next_ready(&self) -> Option<Arc<Interest>> {
        let mut state = self.lock();
        let interest = state.ready.pop_front()?;
        interest.is_listed.store(false, Ordering::Relaxed);
        if interest.description.strong_count() == 0 {
            state.interests.remove(&interest.key);
        }
        Some(interest)
    }

    /// The program has the events: one-shots are spent, level-triggered interests stand at the list's end.
    pub fn settle(&self, found: &[Found]) {
        for Found { interest, .. } in found {
            let mut wish = interest.wish();
            let behaviour = wish.0;
            if behaviour & ONESHOT != 0 {
                wish.0 &= BEHAVIOUR;
            }
            drop(wish);
            if behaviour & (ONESHOT | EDGE) == 0 {
                self.relist(interest, VecDeque::push_back);
            }
        }
    }

    /// The program could not be given the events.
    pub fn put_back(&self, found: &[Found]) {
        for Found { interest, .. } in found.iter().rev() {
            self.relist(interest, VecDeque::push_front);
        }
    }

    fn relist(
        &self,
        interest: &Arc<Interest>,
        put: fn(&mut VecDeque<Arc<Interest>>, Arc<Interest>),
    ) {
        let mut state = self.lock();
        if !interest.is_listed.swap(true, Ordering::Relaxed) {
            put(&mut state.ready, interest.clone());
        }
    }

    fn is_ready(&self, kernel: Option<(&Kernel, i32)>) -> bool {
        let ready: Vec<_> = self.lock().ready.iter().cloned().collect();
        ready.iter().any(|interest| interest.events(kernel) != 0)
    }

    /// `ELOOP` if this instance is in `below`, however deep, or if the nesting would be too deep.
    fn check_nesting(&self, below: &Self) -> Result<()> {
        let mut depths = HashMap::new();
        let down = below.depth(&Self::below, &mut depths);
        if depths.contains_key(&std::ptr::from_ref(self)) {
            return Err(Errno::ELOOP);
        }
        let up = self.depth(&Self::above, &mut HashMap::new());
        if down + 1 + up > MOST_NESTED {
            return Err(Errno::ELOOP);
        }
        Ok(())
    }

    /// How long the longest way is from here. Each instance is looked at once.
    fn depth(
        &self,
        next: &dyn Fn(&Self) -> Vec<Arc<Self>>,
        depths: &mut HashMap<*const Self, usize>,
    ) -> usize {
        let key = std::ptr::from_ref(self);
        if let Some(depth) = depths.get(&key) {
            return *depth;
        }
        depths.insert(key, 0);
        let ways = next(self);
        let longest = ways.iter().map(|other| other.depth(next, depths) + 1).max();
        let depth = longest.unwrap_or(0);
        depths.insert(key, depth);
        depth
    }

    fn below(&self) -> Vec<Arc<Self>> {
        let interests: Vec<_> = self.lock().interests.values().cloned().collect();
        let of = |interest: &Arc<Interest>| {
            let description = interest.description.upgrade()?;
            let below = description.file.downcast_ref::<Self>()?;
            below.this.upgrade()
        };
        interests.iter().filter_map(of).collect()
    }

    fn above(&self) -> Vec<Arc<Self>> {
        let mut state = self.lock();
        state.above.retain(|above| above.strong_count() > 0);
        state.above.iter().filter_map(Weak::upgrade).collect()
    }
}

impl File for Epoll {
    fn poll(&self) -> u32 {
        if self.is_ready(None) { READABLE } else { 0 }
    }

    fn poll_for(&self, kernel: &Kernel, tid: i32) -> u32 {
        if self.is_ready(Some((kernel, tid))) {
            READABLE
        } else {
            0
        }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn anonymous(&self) -> Option<&'static str> {
        Some("[eventpoll]")
    }
}
