//! One request of a driver: a chain of descriptors, read once and checked.
use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use crate::Memory;

/// A ring or chain no correct driver makes. The device stops until it is reset.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error(
        "a descriptor that the device may read stands behind one that it may write (virtio 1.2 §2.7.4.2)"
    )]
    Order,
    #[error("a descriptor reaches outside of the memory")]
    OutOfMemory,
    #[error("a chain is longer than its queue, or has no end")]
    TooLong,
    #[error("a chain has more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("the used ring cannot be written")]
    UsedRing,
    #[error("the available ring cannot be read, or runs ahead of its size")]
    AvailableRing,
}

/// Descriptors may overlap, so the sum of their lengths has nothing to do with the memory behind them: without a limit a guest of 1 MiB
/// could ask for a transfer of 256 x 4 GiB.
pub const MAX_BYTES: usize = 256 << 20;

/// One piece of guest memory, checked to lie in one region.
#[derive(Clone, Copy, Debug)]
struct Piece {
    address: GuestAddress,
    length: usize,
}

/// The pieces that the device may read, and those that it may write.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    readable: Vec<Piece>,
    writable: Vec<Piece>,
}

/// A chain that a device holds on to: its head, and (address, length) of its pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainState {
    head: u16,
    readable: Vec<(u64, u64)>,
    writable: Vec<(u64, u64)>,
}

impl Chain {
    #[must_use]
    pub fn save(&self) -> ChainState {
        let pairs = |pieces: &[Piece]| {
            pieces
                .iter()
                .map(|piece| (piece.address.0, piece.length as u64))
                .collect()
        };
        ChainState {
            head: self.head,
            readable: pairs(&self.readable),
            writable: pairs(&self.writable),
        }
    }

    /// The chain of `state`, checked as one of a driver is.
    pub fn restore(state: &ChainState, memory: &Memory) -> Result<Chain, Broken> {
        let mut total = 0_usize;
        let mut check = |pairs: &[(u64, u64)]| -> Result<Vec<Piece>, Broken> {
            let mut pieces = Vec::new();
            for (address, length) in pairs {
                let length = usize::try_from(*length).map_err(|_| Broken::TooLarge)?;
                total = total
                    .checked_add(length)
                    .filter(|total| *total <= MAX_BYTES)
                    .ok_or(Broken::TooLarge)?;
                push(&mut pieces, memory, GuestAddress(*address), length)?;
            }
            Ok(pieces)
        };
        Ok(Chain {
            head: state.head,
            readable: check(&state.readable)?,
            writable: check(&state.writable)?,
        })
    }

    /// Takes the next chain off `queue`, if there is one.
    pub fn next(queue: &mut Queue, memory: &Memory) -> Result<Option<Chain>, Broken> {
        let mut chains = queue.iter(memory).map_err(|_| Broken::AvailableRing)?;
        let Some(descriptors) = chains.next() else {
            return Ok(None);
        };
        let mut chain = Chain {
            head: descriptors.head_index(),
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let (mut total, mut ends) = (0_usize, false);
        // The iterator yields at most the queue's size and follows indirect tables with the same budget (§2.7.5.3).
        for descriptor in descriptors {
            ends = !descriptor.has_next();
            let length = usize::try_from(descriptor.len()).map_err(|_| Broken::TooLarge)?;
            total = total
                .checked_add(length)
                .filter(|total| *total <= MAX_BYTES)
                .ok_or(Broken::TooLarge)?;
            if descriptor.is_write_only() {
                push(&mut chain.writable, memory, descriptor.addr(), length)?;
            } else if chain.writable.is_empty() {
                push(&mut chain.readable, memory, descriptor.addr(), length)?;
            } else {
                return Err(Broken::Order);
            }
        }
        if ends {
            Ok(Some(chain))
        } else {
            Err(Broken::TooLong)
        }
    }

    /// Gives the chain back to the driver, `written` bytes of it filled. Returns whether it wants an interrupt.
    pub fn finish(
        self,
        queue: &mut Queue,
        memory: &Memory,
        written: usize,
    ) -> Result<bool, Broken> {
        let written = u32::try_from(written).map_err(|_| Broken::TooLarge)?;
        queue
            .add_used(memory, self.head, written)
            .map_err(|_| Broken::UsedRing)?;
        queue
            .needs_notification(memory)
            .map_err(|_| Broken::UsedRing)
    }

    /// The index of its first descriptor, by which the driver knows it.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    #[must_use]
    pub fn readable_len(&self) -> usize {
        self.readable.iter().map(|piece| piece.length).sum()
    }

    #[must_use]
    pub fn writable_len(&self) -> usize {
        self.writable.iter().map(|piece| piece.length).sum()
    }

    /// Copies from the readable bytes at `offset`. Returns how many there were.
    pub fn read(&self, memory: &Memory, offset: usize, into: &mut [u8]) -> Result<usize, Broken> {
        let mut done = 0;
        for piece in cut(&self.readable, offset, into.len()) {
            let target = into
                .get_mut(done..done + piece.length)
                .ok_or(Broken::TooLarge)?;
            memory
                .read_slice(target, piece.address)
                .map_err(|_| Broken::OutOfMemory)?;
            done += piece.length;
        }
        Ok(done)
    }

    /// Copies into the writable bytes at `offset`. Returns how many fitted.
    pub fn write(&self, memory: &Memory, offset: usize, from: &[u8]) -> Result<usize, Broken> {
        let mut done = 0;
        for piece in cut(&self.writable, offset, from.len()) {
            let source = from
                .get(done..done + piece.length)
                .ok_or(Broken::TooLarge)?;
            memory
                .write_slice(source, piece.address)
                .map_err(|_| Broken::OutOfMemory)?;
            done += piece.length;
        }
        Ok(done)
    }

    /// The readable bytes from `offset` on as slices of guest memory.
    pub fn readable<'a>(
        &self,
        memory: &'a Memory,
        offset: usize,
        length: usize,
    ) -> Result<Vec<VolatileSlice<'a, ()>>, Broken> {
        slices(memory, cut(&self.readable, offset, length))
    }

    /// The writable bytes from `offset` on as slices of guest memory.
    pub fn writable<'a>(
        &self,
        memory: &'a Memory,
        offset: usize,
        length: usize,
    ) -> Result<Vec<VolatileSlice<'a, ()>>, Broken> {
        slices(memory, cut(&self.writable, offset, length))
    }
}

fn push(
    pieces: &mut Vec<Piece>,
    memory: &Memory,
    address: GuestAddress,
    length: usize,
) -> Result<(), Broken> {
    if length == 0 {
        // Nothing to check: a driver may send an empty buffer with any address.
        return Ok(());
    }
    // One region: the gap below 4 GiB is no memory, and a slice cannot cross it.
    memory
        .get_slice(address, length)
        .map_err(|_| Broken::OutOfMemory)?;
    pieces.push(Piece { address, length });
    Ok(())
}

/// The part of `pieces` from `offset` on, at most `length` bytes.
fn cut(pieces: &[Piece], offset: usize, length: usize) -> Vec<Piece> {
    let (mut skip, mut left) = (offset, length);
    let mut part = Vec::new();
    for piece in pieces {
        let skipped = skip.min(piece.length);
        skip -= skipped;
        let taken = (piece.length - skipped).min(left);
        if taken > 0 {
            // Cannot overflow: the whole piece lies in memory.
            part.push(Piece {
                address: GuestAddress(piece.address.0 + skipped as u64),
                length: taken,
            });
            left -= taken;
        }
    }
    part
}

fn slices(memory: &Memory, pieces: Vec<Piece>) -> Result<Vec<VolatileSlice<'_, ()>>, Broken> {
    let slice = |piece: Piece| {
        memory
            .get_slice(piece.address, piece.length)
            .map_err(|_| Broken::OutOfMemory)
    };
    pieces.into_iter().map(slice).collect()
}
