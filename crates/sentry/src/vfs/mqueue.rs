//! POSIX message queues: the objects, their names, and descriptors of them. mq_overview(7). Linux: ipc/mqueue.c.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attributes::Attributes;
use super::description::Description;
use super::file::{File, READABLE, WRITABLE};
use super::socket::host::HostSocket;
use crate::errno::{Errno, Result};
use crate::kernel::wake::WaitQueue;
use crate::memory::Buffer;

/// What the status file of a queue is said to have. Linux: FILENT_SIZE.
pub const STATUS_SIZE: u64 = 80;
/// Queues of a sandbox. Linux: DFLT_QUEUESMAX.
const MOST_QUEUES: usize = 256;
/// Bytes that a sandbox's queues may come to hold, whatever its users' RLIMIT_MSGQUEUE: they lie in the sentry's memory.
const MOST_BYTES: u64 = 64 << 20;
/// The size of a `SIGEV_THREAD` message of mq_notify(2), and how its last byte ends. Linux: NOTIFY_COOKIE_LEN, NOTIFY_WOKENUP, NOTIFY_REMOVED.
pub const COOKIE: usize = 32;
const WOKEN: u8 = 1;
const REMOVED: u8 = 2;

/// How the one process that asked is told of a message in an empty queue. mq_notify(3).
#[derive(Debug, Clone)]
pub enum How {
    Nothing,
    Signal(i32, u64),
    /// The library's own thread reads this from its netlink socket.
    Socket(Arc<Description>, [u8; COOKIE]),
}

#[derive(Debug)]
pub struct State {
    /// By priority; of one priority the oldest first.
    messages: BTreeMap<u32, VecDeque<Vec<u8>>>,
    pub count: usize,
    pub bytes: usize,
    /// Native threads that wait for a message: one that they get is told to nobody else.
    pub receivers: HashSet<i32>,
    pub asked: Option<(i32, How)>,
}

#[derive(Debug)]
pub struct Queue {
    name: Vec<u8>,
    pub attributes: Attributes,
    pub most: usize,
    pub size: usize,
    state: Mutex<State>,
    pub queue: WaitQueue,
    charges: Charges,
    charge: u64,
}

/// Bytes that each user's queues may come to hold.
type Charges = Arc<Mutex<HashMap<u32, u64>>>;

/// The queues of a sandbox that have a name.
#[derive(Debug, Default)]
pub struct Names {
    queues: BTreeMap<Vec<u8>, Arc<Queue>>,
    charges: Charges,
}

impl Names {
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Arc<Queue>> {
        self.queues.get(name)
    }

    /// `ENOSPC` there are too many; `EMFILE` it could hold more than is left of `limit`.
    pub fn make(
        &mut self,
        name: &[u8],
        attributes: Attributes,
        (most, size): (usize, usize),
        limit: u64,
    ) -> Result<Arc<Queue>> {
        if self.queues.len() >= MOST_QUEUES {
            return Err(Errno::ENOSPC);
        }
        let charge = charge(most, size).ok_or(Errno::EOVERFLOW)?;
        {
            let mut charges = lock(&self.charges);
            let all = charges.values().sum::<u64>() + charge;
            let own = charges.get(&attributes.uid).copied().unwrap_or(0) + charge;
            if own > limit || all > MOST_BYTES {
                return Err(Errno::EMFILE);
            }
            charges.insert(attributes.uid, own);
        }
        let made = Arc::new(Queue {
            name: name.to_vec(),
            attributes,
            most,
            size,
            state: Mutex::new(State {
                messages: BTreeMap::new(),
                count: 0,
                bytes: 0,
                receivers: HashSet::new(),
                asked: None,
            }),
            queue: WaitQueue::default(),
            charges: self.charges.clone(),
            charge,
        });
        self.queues.insert(name.to_vec(), made.clone());
        Ok(made)
    }

    pub fn remove(&mut self, name: &[u8]) {
        self.queues.remove(name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What RLIMIT_MSGQUEUE counts: the messages, and the kernel's own records of each. getrlimit(2).
fn charge(most: usize, size: usize) -> Option<u64> {
    const MESSAGE: u64 = 48;
    const NODE: u64 = 48;
    const PRIORITIES: u64 = 32_768;
    let (most, size) = (most as u64, size as u64);
    let records = most
        .checked_mul(MESSAGE)?
        .checked_add(most.min(PRIORITIES) * NODE)?;
    most.checked_mul(size)?.checked_add(records)
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(all) = lock(&self.charges).get_mut(&self.attributes.uid) {
            *all = all.saturating_sub(self.charge);
        }
    }
}

impl Queue {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Ends the asking of a process: its thread is told so. Linux: remove_notification().
    pub fn stop_asking(&self, pid: i32) {
        let asked = self.lock().asked.take_if(|(who, _)| *who == pid);
        if let Some((_, How::Socket(socket, cookie))) = asked {
            tell(&socket, cookie, REMOVED);
        }
    }
}

impl State {
    pub fn put(&mut self, priority: u32, message: Vec<u8>) {
        self.count += 1;
        self.bytes += message.len();
        self.messages
            .entry(priority)
            .or_default()
            .push_back(message);
    }

    /// The oldest of the highest priority.
    pub fn take(&mut self) -> Option<(u32, Vec<u8>)> {
        let mut highest = self.messages.last_entry()?;
        let priority = *highest.key();
        let message = highest.get_mut().pop_front()?;
        if highest.get().is_empty() {
            highest.remove();
        }
        self.count -= 1;
        self.bytes -= message.len();
        Some((priority, message))
    }
}

/// Has a netlink socket receive a cookie, as from the kernel.
pub fn tell_thread(socket: &Description, cookie: [u8; COOKIE]) {
    tell(socket, cookie, WOKEN);
}

fn tell(socket: &Description, mut cookie: [u8; COOKIE], end: u8) {
    cookie[COOKIE - 1] = end;
    if let Some(socket) = socket.file.downcast_ref::<HostSocket>() {
        socket.put(cookie.to_vec());
    }
}

/// What a descriptor of a queue is.
#[derive(Debug)]
pub struct QueueFile(pub Arc<Queue>);

impl File for QueueFile {
    /// The queue's state, as text.
    fn read(&self, description: &Description, to: &mut Buffer, at: Option<u64>) -> Result<usize> {
        let text = {
            let state = self.0.lock();
            let (how, signal, pid) = match &state.asked {
                None => (0, 0, 0),
                Some((pid, How::Signal(signal, _))) => (0, *signal, *pid),
                Some((pid, How::Nothing)) => (1, 0, *pid),
                Some((pid, How::Socket(..))) => (2, 0, *pid),
            };
            format!(
                "QSIZE:{:<10} NOTIFY:{how:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n",
                state.bytes
            )
        };
        let mut position = description.position();
        let from = at.unwrap_or(*position).min(text.len() as u64) as usize;
        let count = to.put(&text.as_bytes()[from..])?;
        if at.is_none() {
            *position += count as u64;
        }
        Ok(count)
    }

    fn poll(&self) -> u32 {
        let state = self.0.lock();
        let mut events = 0;
        if state.count > 0 {
            events |= READABLE;
        }
        if state.count < self.0.most {
            events |= WRITABLE;
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.0.attributes)
    }

    fn name(&self) -> Vec<u8> {
        [b"/", &self.0.name[..]].concat()
    }

    fn is_stream(&self) -> bool {
        false
    }

    fn flushed(&self, pid: i32) {
        self.0.stop_asking(pid);
    }
}
