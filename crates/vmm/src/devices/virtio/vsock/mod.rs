//! The socket device (virtio 1.2 §5.10): streams between guest ports and Unix sockets of the host.
//!
//! Firecracker's protocol: a host program connects to the device's socket and writes `CONNECT <port>\n`; it reads `OK <port>\n` when
//! the guest accepted. A guest that connects to port P of the host reaches whoever listens on `<path>_<P>`.
mod connection;
mod host;
mod packet;
mod streams;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use virtio_queue::{Queue, QueueT};

use self::host::Host;
use self::packet::{HEADER, Header};
use self::streams::Streams;
use super::{Broken, Chain, ChainState, Device, Worked};
use crate::Memory;
use crate::devices::state::{DeviceState, StateError};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const EVENTS: usize = 2;
/// VIRTIO_VSOCK_EVENT_TRANSPORT_RESET (§5.10.6.7).
const TRANSPORT_RESET: u32 = 0;
/// Version of its state: the buffer that it holds.
const STATE: u16 = 1;
/// The driver's data is copied; Linux sends at most 64 KiB at once (VIRTIO_VSOCK_MAX_PKT_BUF_SIZE).
const MAX_DATA: usize = 64 << 10;

#[derive(Debug)]
pub struct Vsock {
    guest_cid: u64,
    streams: Streams,
    /// A buffer of the driver taken off its queue for which there was no packet yet.
    held: Option<Chain>,
    /// The guest has to hear that its streams are gone and its address may be another one.
    owes_reset: bool,
}

impl Vsock {
    /// Listens on `path` for host programs.
    ///
    /// # Errors
    /// If the socket cannot be made there.
    pub fn new(guest_cid: u64, path: &Path) -> io::Result<Vsock> {
        Ok(Vsock {
            guest_cid,
            streams: Streams::new(guest_cid, Host::listen(path)?),
            held: None,
            owes_reset: false,
        })
    }

    /// Takes the guest's packets and hands it ours until neither side has anything for the other.
    fn exchange(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        let [receive, transmit, ..] = queues else {
            return Ok(Worked::default());
        };
        let mut worked = self.fill(receive, memory)?;
        // Each packet may need an answer. Without room for answers the guest's packets wait (§5.10.6.1.2): a guest that only sends
        // cannot make us keep answers without end.
        while self.streams.has_room() {
            let before = self.streams.nr_packets;
            let streams = &mut self.streams;
            let mut buffer = Vec::new();
            let transmitted = drain_while(transmit, memory, |chain| {
                take(streams, chain, memory, &mut buffer)?;
                Ok(streams.has_room())
            })?;
            worked = worked.and(transmitted).and(self.fill(receive, memory)?);
            if transmitted.more || self.streams.nr_packets == before {
                break;
            }
        }
        Ok(worked)
    }

    /// Tells the driver that nothing of its streams is left (§5.10.6.7), as soon as it has a buffer for that.
    fn tell_reset(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        let Some(queue) = queues.get_mut(EVENTS).filter(|queue| queue.ready()) else {
            return Ok(Worked::default());
        };
        let Some(chain) = Chain::next(queue, memory)? else {
            return Ok(Worked::default());
        };
        self.owes_reset = false;
        let written = chain.write(memory, 0, &TRANSPORT_RESET.to_le_bytes())?;
        Ok(Worked {
            interrupt: chain.finish(queue, memory, written)?,
            more: false,
        })
    }

    /// Puts packets for the guest into its buffers, as long as there are both.
    fn fill(&mut self, receive: &mut Queue, memory: &Memory) -> Result<Worked, Broken> {
        let mut worked = Worked::default();
        let mut data = Vec::new();
        // Held over from a call without packets, or fresh from the queue.
        while let Some(chain) = self
            .held
            .take()
            .map_or_else(|| Chain::next(receive, memory), |chain| Ok(Some(chain)))?
        {
            let Some(room) = chain.writable_len().checked_sub(HEADER) else {
                worked.interrupt |= chain.finish(receive, memory, 0)?;
                continue;
            };
            data.resize(room.min(MAX_DATA), 0);
            let Some(header) = self.streams.next(&mut data) else {
                self.held = Some(chain);
                return Ok(worked);
            };
            let length = usize::try_from(header.length).unwrap_or(0);
            chain.write(memory, 0, &header.emit())?;
            chain.write(memory, HEADER, data.get(..length).unwrap_or_default())?;
            worked.interrupt |= chain.finish(receive, memory, HEADER + length)?;
        }
        Ok(worked)
    }
}

/// As `drain`, for chains that the device only reads; stops when `take` says so.
fn drain_while(
    queue: &mut Queue,
    memory: &Memory,
    mut take: impl FnMut(&Chain) -> Result<bool, Broken>,
) -> Result<Worked, Broken> {
    let mut worked = Worked::default();
    for _ in 0..256 {
        let Some(chain) = Chain::next(queue, memory)? else {
            break;
        };
        let goes_on = take(&chain)?;
        worked.interrupt |= chain.finish(queue, memory, 0)?;
        if !goes_on {
            break;
        }
    }
    Ok(worked)
}

/// Hands one packet of the guest to the streams. One that is shorter than it says is dropped, as a network would.
fn take(
    streams: &mut Streams,
    chain: &Chain,
    memory: &Memory,
    buffer: &mut Vec<u8>,
) -> Result<(), Broken> {
    let mut header = [0; HEADER];
    if chain.read(memory, 0, &mut header)? < HEADER {
        streams.nr_packets += 1;
        return Ok(());
    }
    let header = Header::parse(&header);
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    streams.nr_packets += 1;
    if length > MAX_DATA {
        return Ok(());
    }
    buffer.resize(length, 0);
    if chain.read(memory, HEADER, buffer)? == length {
        streams.receive(&header, buffer);
    }
    Ok(())
}

impl Device for Vsock {
    fn kind(&self) -> u32 {
        19
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 256, 256]
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> Vec<u8> {
        self.guest_cid.to_le_bytes().to_vec()
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {
        self.held = None;
        self.owes_reset = false;
        self.streams.close_all();
    }

    fn work(
        &mut self,
        index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        match index {
            RECEIVE | TRANSMIT => self.exchange(queues, memory),
            EVENTS if self.owes_reset => self.tell_reset(queues, memory),
            // Events go to the guest; it only provides buffers.
            _ => Ok(Worked::default()),
        }
    }

    fn event_fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.streams.fd()]
    }

    fn ready(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        self.streams.poll();
        let told = if self.owes_reset {
            self.tell_reset(queues, memory)?
        } else {
            Worked::default()
        };
        Ok(told.and(self.exchange(queues, memory)?))
    }

    fn save(&self) -> DeviceState {
        DeviceState::new(self.kind(), STATE, &self.held.as_ref().map(Chain::save))
    }

    /// Streams end with the monitor that had their sockets: the copy's guest hears of it, the original's goes on with them.
    fn restore(&mut self, state: &DeviceState, memory: &Memory) -> Result<(), StateError> {
        let held: Option<ChainState> = state.read(self.kind(), STATE)?;
        self.held = held
            .map(|chain| Chain::restore(&chain, memory))
            .transpose()?;
        self.owes_reset = true;
        Ok(())
    }
}
