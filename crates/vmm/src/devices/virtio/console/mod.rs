//! A console (virtio 1.2 §5.3): one stream between the guest and whoever connects to a Unix socket of the host.
//!
//! Not part of Firecracker. A guest without sockets has its agent on it. One client at a time; the next waits in the socket's queue.
//! Without a client the guest's output is lost, as that of a serial line without a cable; a slow client makes the guest wait.
mod host;

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Serialize;
use virtio_queue::{Queue, QueueT};

use self::host::Host;
use super::{Broken, Chain, Device, Outcome, Worked, drain_with, put_back};
use crate::Memory;

const RECEIVE: usize = 0;
/// So much of one chain is moved at once; what is longer takes several turns.
const MAX_CHUNK: usize = 64 << 10;
/// So many buffers are filled, then the lock is given back.
const BUDGET: usize = 256;

#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    to_guest_bytes: u64,
    from_guest_bytes: u64,
    lost_bytes: u64,
    clients: u64,
}

#[derive(Debug)]
pub struct Console {
    host: Host,
    /// How much of the chain at the ring's front the client has taken already.
    taken: usize,
    counts: Counts,
}

impl Console {
    /// Listens on `path`.
    ///
    /// # Errors
    /// If the socket cannot be made there.
    pub fn new(path: &Path) -> io::Result<Console> {
        Ok(Console {
            host: Host::listen(path)?,
            taken: 0,
            counts: Counts::default(),
        })
    }

    /// Has this stream and no other.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub fn adopt(stream: UnixStream) -> io::Result<Console> {
        Ok(Console {
            host: Host::adopt(stream)?,
            taken: 0,
            counts: Counts::default(),
        })
    }

    /// Fills the driver's buffers with what the client sent.
    fn receive(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Worked, Broken> {
        let mut worked = Worked::default();
        let mut bytes = Vec::new();
        for _ in 0..BUDGET {
            if !queue.ready() || !self.host.has_input() {
                return Ok(worked);
            }
            let Some(chain) = Chain::next(queue, memory)? else {
                let more = queue.enable_notification(memory);
                if more.map_err(|_| Broken::AvailableRing)? {
                    continue;
                }
                return Ok(worked);
            };
            bytes.resize(chain.writable_len().min(MAX_CHUNK), 0);
            let read = self.host.read(&mut bytes);
            if read == 0 && !bytes.is_empty() {
                put_back(queue, 1);
                return Ok(worked);
            }
            self.counts.to_guest_bytes += read as u64;
            chain.write(memory, 0, bytes.get(..read).unwrap_or_default())?;
            worked.interrupt |= chain.finish(queue, memory, read)?;
        }
        worked.more = true;
        Ok(worked)
    }

    /// Hands what the driver sends to the client.
    fn transmit(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Worked, Broken> {
        if !queue.ready() {
            return Ok(Worked::default());
        }
        let mut bytes = Vec::new();
        drain_with(queue, memory, |chain| {
            loop {
                let rest = chain.readable_len().saturating_sub(self.taken);
                if rest == 0 {
                    self.taken = 0;
                    return Ok(Outcome::Done(chain, 0));
                }
                bytes.resize(rest.min(MAX_CHUNK), 0);
                let read = chain.read(memory, self.taken, &mut bytes)?;
                let bytes = bytes.get(..read).unwrap_or_default();
                match self.host.write(bytes) {
                    Some(0) => return Ok(Outcome::NotNow),
                    Some(written) => {
                        self.taken += written;
                        self.counts.from_guest_bytes += written as u64;
                    }
                    None => {
                        self.taken += read;
                        self.counts.lost_bytes += read as u64;
                    }
                }
            }
        })
    }
}

impl Device for Console {
    fn kind(&self) -> u32 {
        3
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 256]
    }

    fn features(&self) -> u64 {
        0
    }

    /// Columns, rows, ports, emergency write (§5.3.4): all of features that are not offered.
    fn config(&self) -> Vec<u8> {
        vec![0; 12]
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {
        self.taken = 0;
    }

    fn work(
        &mut self,
        index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        match (index, queues) {
            (RECEIVE, [receive, ..]) => self.receive(receive, memory),
            (_, [_, transmit, ..]) => self.transmit(transmit, memory),
            _ => Ok(Worked::default()),
        }
    }

    fn event_fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.host.fd()]
    }

    fn ready(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        if self.host.poll() {
            self.counts.clients += 1;
        }
        let [receive, transmit, ..] = queues else {
            return Ok(Worked::default());
        };
        let worked = self.transmit(transmit, memory)?;
        let worked = worked.and(self.receive(receive, memory)?);
        if worked.more {
            self.host.come_back();
        }
        Ok(worked)
    }

    fn metrics(&mut self) -> Option<serde_json::Value> {
        serde_json::to_value(std::mem::take(&mut self.counts)).ok()
    }
}
