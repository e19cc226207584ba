//! The contexts of Linux's own asynchronous I/O, as data: what waits for a file to become ready, and the events that nobody has taken yet. io_setup(2).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Kernel;
use super::wake::{WaitQueue, Watch};
use crate::vfs::description::Description;
use crate::vfs::eventfd::EventFd;

/// The contexts of an address space, by their names.
#[derive(Debug, Clone, Default)]
pub struct Contexts(Arc<Mutex<BTreeMap<u64, Arc<Context>>>>);

impl Contexts {
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Context>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `struct io_event`, in words: the program's own, its request's address, and two results.
pub type Event = [u64; 4];

#[derive(Debug)]
pub struct Context {
    /// Requests that may be under way or untaken.
    pub most: usize,
    /// Woken with each event.
    pub queue: WaitQueue,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By their own numbers, which count up.
    polls: BTreeMap<u64, Arc<Poll>>,
    polled: u64,
    done: VecDeque<Event>,
}

/// Whom the end of a request is told to, and by what.
#[derive(Debug)]
pub struct Reply {
    pub data: u64,
    pub request: u64,
    /// IOCB_FLAG_RESFD's: an `EventFd`.
    pub event_fd: Option<Arc<Description>>,
}

/// IOCB_CMD_POLL's request, until its file is ready. It keeps the file open, as Linux's does.
#[derive(Debug)]
pub struct Poll {
    number: u64,
    reply: Reply,
    wanted: u32,
    description: Arc<Description>,
    context: Weak<Context>,
}

impl Context {
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            queue: WaitQueue::default(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.polls.len() + state.done.len() < self.most
    }

    /// How many events there are to take.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().done.len()
    }

    /// The oldest events, `most` at most. They stay until they are `drop_first`ed.
    #[must_use]
    pub fn first(&self, most: usize) -> Vec<Event> {
        self.lock().done.iter().take(most).copied().collect()
    }

    pub fn drop_first(&self, count: usize) {
        self.lock().done.drain(..count);
    }

    /// A request is over.
    pub fn end(&self, reply: &Reply, result: i64) {
        let event = [reply.data, reply.request, result.cast_unsigned(), 0];
        self.lock().done.push_back(event);
        self.queue.wake();
        if let Some(event_fd) = &reply.event_fd {
            signal(event_fd.clone());
        }
    }

    /// Waits for one of `wanted` to come, which may be there already. False: the file tells nobody when it becomes ready, and is not.
    pub fn poll(
        self: &Arc<Self>,
        (kernel, tid): (&Kernel, i32),
        reply: Reply,
        wanted: u32,
        description: Arc<Description>,
    ) -> bool {
        let mut state = self.lock();
        state.polled += 1;
        let poll = Arc::new(Poll {
            number: state.polled,
            reply,
            wanted,
            description,
            context: Arc::downgrade(self),
        });
        let file = &poll.description.file;
        let queue = file.queue();
        if queue.is_some() {
            state.polls.insert(poll.number, poll.clone());
        }
        drop(state);
        if let Some(queue) = queue {
            // Before the look, or what comes meanwhile would be missed.
            let watch: Weak<dyn Watch> = Arc::<Poll>::downgrade(&poll);
            queue.watch(watch);
        }
        let found = file.poll_for(kernel, tid) & wanted;
        match queue {
            None if found == 0 => return false,
            None => self.end(&poll.reply, found.into()),
            Some(_) => {
                if found != 0 {
                    poll.end(found);
                }
            }
        }
        true
    }

    /// Ends the request at that address, if it still waits: its event says that nothing came. Linux: aio_poll_cancel().
    #[must_use]
    pub fn cancel(&self, request: u64) -> bool {
        let found = {
            let state = self.lock();
            let is_meant = |poll: &&Arc<Poll>| poll.reply.request == request;
            state.polls.values().find(is_meant).cloned()
        };
        found.is_some_and(|poll| poll.end(0))
    }
}

impl Poll {
    /// False: somebody else has ended it.
    fn end(&self, found: u32) -> bool {
        let Some(context) = self.context.upgrade() else {
            return false;
        };
        let ended = context.lock().polls.remove(&self.number);
        if ended.is_some() {
            context.end(&self.reply, found.into());
        }
        ended.is_some()
    }
}

impl Watch for Poll {
    /// Nobody's signals are looked at: a signalfd that was not ready at once never is. Linux: aio_poll_complete_work() looks from a thread of the kernel's.
    fn notify(&self, events: u32) {
        if self.wanted & events == 0 {
            return;
        }
        let found = self.description.file.poll() & self.wanted;
        if found != 0 {
            // Linux: aio_poll_wake() tells what came, were it more than was wanted.
            self.end(if events == u32::MAX { found } else { events });
        }
    }
}

thread_local! {
    /// Counters that are still to be told, while one is being told.
    static TO_TELL: RefCell<Option<Vec<Arc<Description>>>> = const { RefCell::new(None) };
}

/// Adds one to a counter. That may end a request which adds one to another, and so on: in turn, so that no program chooses how deep the stack grows.
fn signal(event_fd: Arc<Description>) {
    let is_first = TO_TELL.with_borrow_mut(|to_tell| match to_tell {
        Some(others) => {
            others.push(event_fd.clone());
            false
        }
        None => {
            *to_tell = Some(Vec::new());
            true
        }
    });
    let mut next = is_first.then_some(event_fd);
    while let Some(event_fd) = next {
        if let Ok(counter) = EventFd::of(&event_fd) {
            counter.signal();
        }
        next = TO_TELL.with_borrow_mut(|to_tell| {
            let next = to_tell.as_mut().and_then(Vec::pop);
            if next.is_none() {
                *to_tell = None;
            }
            next
        });
    }
}
