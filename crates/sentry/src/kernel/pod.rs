//! What the containers of one sandbox share. Each has a kernel of its own: its processes and their numbers, its tree, its host name, its terminals; and a
//! zygote in a pid namespace and cgroup of its own. Together they have what lies outside of a pid and a mount namespace: the addresses of local sockets,
//! FIFOs of volumes that several have mounted, locks of files, and of course the network.
//!
//! A call that waits is known by its native thread, whose number is unique in the whole sandbox. Who finds that another container's call can go on passes
//! it to that one's inbox and rings its watcher.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Kernel;
use super::wake::{Ticket, take_ready};
use crate::vfs::pipe::Pipe;
use crate::vfs::socket::unix_names::Names;
use crate::watcher::Handle;

/// Process ids have 22 bits (Linux: PID_MAX_LIMIT); what stands above them in the number of a lock's owner is the kernel's.
const PID_BITS: u32 = 22;

pub type Fifos = HashMap<(u64, u64), Weak<Pipe>>;
type Inbox = Arc<Mutex<Vec<Ticket>>>;

#[derive(Debug)]
struct Neighbour {
    kernel: u32,
    inbox: Inbox,
    watcher: Handle,
}

#[derive(Debug, Default)]
pub struct Pod {
    names: Mutex<Names>,
    fifos: Mutex<Fifos>,
    kernels: Mutex<Vec<Neighbour>>,
    /// Whether there was ever more than one.
    is_shared: AtomicBool,
    next: AtomicU32,
}

/// One kernel's place among them.
#[derive(Debug)]
pub struct Membership {
    pub pod: Arc<Pod>,
    /// Unique while the sandbox lives; the first is 0.
    pub number: u32,
    inbox: Inbox,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pod {
    /// Adds a kernel, which `watcher` is rung for.
    pub fn join(self: &Arc<Self>, watcher: Handle) -> Membership {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let inbox = Inbox::default();
        let mut kernels = lock(&self.kernels);
        kernels.push(Neighbour {
            kernel: number,
            inbox: inbox.clone(),
            watcher,
        });
        self.is_shared
            .fetch_or(kernels.len() > 1, Ordering::Release);
        drop(kernels);
        Membership {
            pod: self.clone(),
            number,
            inbox,
        }
    }

    fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn has(&self, kernel: u32) -> bool {
        lock(&self.kernels)
            .iter()
            .any(|neighbour| neighbour.kernel == kernel)
    }

    /// Has all others look whether there is something for them.
    pub fn ring_others(&self, own: u32) {
        for neighbour in lock(&self.kernels).iter() {
            if neighbour.kernel != own {
                neighbour.watcher.ring();
            }
        }
    }

    fn pass(&self, own: u32, tickets: &[Ticket]) {
        for neighbour in lock(&self.kernels).iter() {
            if neighbour.kernel != own {
                lock(&neighbour.inbox).extend_from_slice(tickets);
                neighbour.watcher.ring();
            }
        }
    }

    pub fn names(&self) -> MutexGuard<'_, Names> {
        lock(&self.names)
    }

    /// FIFOs that are open, by device and inode.
    pub fn fifos(&self) -> MutexGuard<'_, Fifos> {
        lock(&self.fifos)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        lock(&self.pod.kernels).retain(|neighbour| neighbour.kernel != self.number);
    }
}

impl Kernel {
    /// The waiters of this kernel's to run again; those of others are passed on. One that nobody knows has ended.
    #[must_use]
    pub fn take_ready(&self) -> Vec<Ticket> {
        let mut ready = take_ready();
        let (pod, own) = (&self.member.pod, self.member.number);
        if !pod.is_shared() {
            return ready;
        }
        let foreign: Vec<Ticket> = ready
            .extract_if(.., |ticket| !self.tasks.contains_key(&ticket.tid))
            .collect();
        if !foreign.is_empty() {
            pod.pass(own, &foreign);
        }
        ready.append(&mut lock(&self.member.inbox));
        ready
    }

    /// A process's number as an owner of locks: another container's process of the same id is another owner.
    #[must_use]
    pub fn owner_number(&self, pid: i32) -> i32 {
        ((self.member.number << PID_BITS) | pid.cast_unsigned()).cast_signed()
    }

    /// The process id behind such a number; 0 of another container's. Linux: locks_translate_pid().
    #[must_use]
    pub fn owner_pid(&self, number: i32) -> i32 {
        let number = number.cast_unsigned();
        if number >> PID_BITS == self.member.number {
            (number & ((1 << PID_BITS) - 1)).cast_signed()
        } else {
            0
        }
    }
}
