//! Descriptors on their way (SCM_RIGHTS): how many there may be, and the collection of those that nobody can receive any more.
//!
//! A socket that was sent into itself, or two into each other, keep each other alive once their descriptors are closed. Linux: net/unix/garbage.c.
//! Here a collection runs when the number of sockets under way has doubled since the last, so what leaks is bounded, but its end is seen later.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::unix::{Message, Phase, UnixFile, UnixSocket};
use crate::errno::{Errno, Result};
use crate::vfs::description::Description;

/// Descriptors that one message can carry. Linux: SCM_MAX_FD.
pub const MOST_RIGHTS: usize = 253;
/// Sockets under way before the first collection.
const FIRST_COLLECTION: usize = 16;

static IN_FLIGHT: AtomicUsize = AtomicUsize::new(0);
/// Sockets that were sent and may still be under way; how many start the next collection.
static SOCKETS: Mutex<(Vec<Weak<Description>>, usize)> = Mutex::new((Vec::new(), FIRST_COLLECTION));

/// The descriptors of one message.
#[derive(Debug, Default)]
pub struct Rights(Vec<Arc<Description>>);

impl Rights {
    /// `ETOOMANYREFS` more than `limit` are under way already. Linux: too_many_unix_fds().
    pub fn new(descriptions: Vec<Arc<Description>>, limit: u64) -> Result<Self> {
        if descriptions.is_empty() {
            return Ok(Self::default());
        }
        if IN_FLIGHT.load(Ordering::Relaxed) as u64 > limit {
            collect();
        }
        if IN_FLIGHT.load(Ordering::Relaxed) as u64 > limit {
            return Err(Errno::ETOOMANYREFS);
        }
        note_sockets(&descriptions);
        IN_FLIGHT.fetch_add(descriptions.len(), Ordering::Relaxed);
        Ok(Self(descriptions))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As MSG_PEEK takes them: they stay.
    #[must_use]
    pub fn copy(&self) -> Vec<Arc<Description>> {
        self.0.clone()
    }

    #[must_use]
    pub fn take(&mut self) -> Vec<Arc<Description>> {
        IN_FLIGHT.fetch_sub(self.0.len(), Ordering::Relaxed);
        std::mem::take(&mut self.0)
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        drop(self.take());
    }
}

fn socket_of(description: &Description) -> Option<&Arc<UnixSocket>> {
    description
        .file
        .downcast_ref::<UnixFile>()
        .map(|file| &file.0)
}

fn note_sockets(descriptions: &[Arc<Description>]) {
    let is_due = {
        let mut sockets = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        for description in descriptions.iter().filter(|it| socket_of(it).is_some()) {
            sockets.0.push(Arc::downgrade(description));
        }
        sockets.0.len() > sockets.1
    };
    if is_due {
        collect();
    }
}

/// Every socket whose messages a reader of `socket` could come by: its own, and those of connections that it has not accepted.
fn with_pending(socket: &Arc<UnixSocket>) -> Vec<Arc<UnixSocket>> {
    let mut all = vec![socket.clone()];
    if let Phase::Listening(pending, _) = &socket.lock().phase {
        all.extend(pending.iter().cloned());
    }
    all
}

fn carried(socket: &Arc<UnixSocket>) -> Vec<Arc<Description>> {
    let mut all = Vec::new();
    for socket in with_pending(socket) {
        for message in &socket.lock().messages {
            all.extend(message.rights.copy());
        }
    }
    all
}

/// Empties the sockets under way that no descriptor, and no message to a socket that is held by one, leads to.
fn collect() {
    let mut known: Vec<Arc<Description>> = Vec::new();
    {
        let mut sockets = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.0.sort_by_key(|weak| weak.as_ptr().addr());
        sockets.0.dedup_by_key(|weak| weak.as_ptr().addr());
        sockets.0.retain(|weak| weak.strong_count() > 0);
        sockets.1 = (2 * sockets.0.len()).max(FIRST_COLLECTION);
        known.extend(sockets.0.iter().filter_map(Weak::upgrade));
    }
    let position = |wanted: &Arc<Description>| {
        known
            .binary_search_by_key(&Arc::as_ptr(wanted).addr(), |it| Arc::as_ptr(it).addr())
            .ok()
    };
    let edges: Vec<Vec<usize>> = known
        .iter()
        .map(|it| {
            let carried = socket_of(it).map(carried).unwrap_or_default();
            carried.iter().filter_map(position).collect()
        })
        .collect();
    // References from among them, and the one of `known` itself; any other is somebody's.
    let mut inner = vec![1; known.len()];
    for target in edges.iter().flatten() {
        inner[*target] += 1;
    }
    let mut is_held = vec![false; known.len()];
    let mut open: Vec<usize> = (0..known.len())
        .filter(|index| Arc::strong_count(&known[*index]) > inner[*index])
        .collect();
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut is_held[index], true) {
            open.extend(&edges[index]);
        }
    }
    let mut lost: Vec<Message> = Vec::new();
    for (description, is_held) in known.iter().zip(is_held) {
        if let (false, Some(socket)) = (is_held, socket_of(description)) {
            for socket in with_pending(socket) {
                lost.extend(socket.lock().messages.drain(..));
            }
        }
    }
    for message in &lost {
        message.sender.uncharge(message.charge);
    }
}
