//! Frames for the guest.
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::Net;
use super::frame::{HEADER, MAX_FRAME, NUM_BUFFERS};
use crate::Memory;
use crate::virtio::{Broken, Chain, Worked, put_back};

/// So many frames, then the lock is given back.
const BUDGET: usize = 256;
const TRIES: usize = 64;

/// A frame that was read and could not be delivered yet: the guest has no buffer, or no token.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    buffer: Vec<u8>,
    length: usize,
    pub(super) is_paid: bool,
    /// The link said that it is empty, and has not called since.
    link_is_empty: bool,
}

impl Incoming {
    pub(super) fn frame(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.is_paid = false;
        self.link_is_empty = false;
    }

    pub(super) fn look_again(&mut self) {
        self.link_is_empty = false;
    }

    /// A saved frame. False if it is too long to be one.
    pub(super) fn take_over(&mut self, frame: &[u8], is_paid: bool) -> bool {
        let fits = frame.len() <= MAX_FRAME;
        if fits {
            self.room()[..frame.len()].copy_from_slice(frame);
            self.length = frame.len();
            self.is_paid = is_paid;
        }
        fits
    }

    /// Costs no memory before the first frame.
    fn room(&mut self) -> &mut [u8] {
        self.buffer.resize(MAX_FRAME, 0);
        &mut self.buffer
    }
}

impl Net {
    /// Hands frames to the driver as long as there are frames, buffers and tokens.
    pub(super) fn receive(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Worked, Broken> {
        let mut worked = Worked::default();
        if !queue.ready() || self.receive_limiter.is_closed() {
            return Ok(worked);
        }
        for _ in 0..BUDGET {
            if self.incoming.length == 0 && !self.next_frame() {
                return Ok(worked);
            }
            let bytes = self.incoming.length as u64;
            if !self.incoming.is_paid && !self.receive_limiter.take(bytes) {
                return Ok(worked);
            }
            self.incoming.is_paid = true;
            match self.deliver(queue, memory)? {
                Some(interrupt) => worked.interrupt |= interrupt,
                None => return Ok(worked),
            }
        }
        worked.more = true;
        Ok(worked)
    }

    /// Fetches a frame: from the metadata service, then from the link.
    fn next_frame(&mut self) -> bool {
        let incoming = &mut self.incoming;
        let answer = self
            .service
            .as_mut()
            .and_then(|service| service.next_frame());
        if let Some(answer) = answer {
            let room = incoming.room();
            room[..HEADER].fill(0);
            let end = HEADER + answer.len();
            if let Some(place) = room.get_mut(HEADER..end) {
                place.copy_from_slice(&answer);
                incoming.length = end;
                return true;
            }
        }
        if incoming.link_is_empty {
            return false;
        }
        match self.link.read(incoming.room()) {
            Ok(length) if length > HEADER => {
                incoming.length = length;
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                incoming.link_is_empty = true;
                false
            }
            // EBADFD: the interface was deleted. Asking again would not help.
            _ => {
                self.counts.tap_read_fails += 1;
                incoming.link_is_empty = true;
                false
            }
        }
    }

    /// Spreads the frame over the driver's buffers. None: it has too few of them; the frame waits.
    fn deliver(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Option<bool>, Broken> {
        let length = self.incoming.length;
        let Some(chains) = self.gather(queue, memory, length)? else {
            self.counts.no_rx_avail_buffer += 1;
            return Ok(None);
        };
        self.incoming.length = 0;
        self.incoming.is_paid = false;
        self.incoming.buffer[NUM_BUFFERS].copy_from_slice(&count(&chains).to_le_bytes());
        let (frame, _) = self.incoming.buffer.split_at(length);
        let mut done = 0;
        let mut written = Vec::with_capacity(chains.len());
        for chain in &chains {
            let part = chain.write(memory, 0, &frame[done..])?;
            done += part;
            written.push(part);
        }
        if done < length {
            // Only without mergeable buffers: the driver gave one that no frame fits into. It gets it back empty.
            self.counts.rx_fails += 1;
            written.fill(0);
        } else {
            self.counts.rx_packets_count += 1;
            self.counts.rx_count += 1;
            self.counts.rx_bytes_count += length as u64;
        }
        finish_together(chains, &written, queue, memory).map(Some)
    }

    /// Takes as many buffers as a frame of `length` bytes needs, or none.
    fn gather(
        &self,
        queue: &mut Queue,
        memory: &Memory,
        length: usize,
    ) -> Result<Option<Vec<Chain>>, Broken> {
        // A driver that brings buffers meanwhile is looked at again, but not for ever: one that plays with its index could keep us here.
        for _ in 0..TRIES {
            let mut chains = Vec::new();
            let mut room = 0;
            while let Some(chain) = Chain::next(queue, memory)? {
                room += chain.writable_len();
                chains.push(chain);
                if room >= length || !self.is_mergeable() {
                    return Ok(Some(chains));
                }
            }
            // The driver must ring when it brings more; it may have done so just now. Which of its buffers are new is only known from
            // the beginning.
            put_back(queue, count(&chains));
            if !wants_more(queue, memory, chains.len())? {
                break;
            }
        }
        Ok(None)
    }
}

/// Asks for a ring with the next buffer. True if more than `nr_seen` are there already.
fn wants_more(queue: &mut Queue, memory: &Memory, nr_seen: usize) -> Result<bool, Broken> {
    use std::sync::atomic::Ordering::Acquire;
    let seen = u16::try_from(nr_seen).unwrap_or(u16::MAX);
    // The ring is asked for behind the buffers that were seen, although they stay on the queue.
    let next = queue.next_avail();
    queue.set_next_avail(next.wrapping_add(seen));
    let more = queue.enable_notification(memory);
    let available = queue.avail_idx(memory, Acquire);
    queue.set_next_avail(next);
    more.map_err(|_| Broken::AvailableRing)?;
    let available = available.map_err(|_| Broken::AvailableRing)?.0;
    Ok(available.wrapping_sub(next) > seen)
}

fn count(chains: &[Chain]) -> u16 {
    // No more than a queue has.
    u16::try_from(chains.len()).unwrap_or(u16::MAX)
}

/// Gives all chains back at once: a driver on another processor that saw only the first would take the frame for broken (§5.1.6.4).
fn finish_together(
    chains: Vec<Chain>,
    written: &[usize],
    queue: &mut Queue,
    memory: &Memory,
) -> Result<bool, Broken> {
    const ELEMENT: u64 = 8;
    const HEAD: u64 = 4;
    let is_one = chains.len() == 1;
    let last = chains.len().saturating_sub(1);
    let mut interrupt = false;
    for (index, (chain, written)) in chains.into_iter().zip(written).enumerate() {
        if index == last {
            interrupt = chain.finish(queue, memory, *written)?;
            continue;
        }
        // The element is in place before the index that shows it, which the last chain's end writes.
        let place = u64::from(queue.next_used() % queue.size());
        let address = queue
            .used_ring()
            .checked_add(HEAD + place * ELEMENT)
            .ok_or(Broken::UsedRing)?;
        let length = u32::try_from(*written).map_err(|_| Broken::TooLarge)?;
        let element = [u32::from(chain.head()).to_le(), length.to_le()];
        memory
            .write_obj(element, GuestAddress(address))
            .map_err(|_| Broken::UsedRing)?;
        queue.set_next_used(queue.next_used().wrapping_add(1));
    }
    // The queue compares one step with the index that the driver waits for; several steps may have passed it.
    Ok(interrupt || !is_one)
}
