//! One request: a 16-byte header, data, one status byte (virtio 1.2 §5.2.6).
//!
//! Where the driver puts the borders between descriptors does not matter (§2.7.4): header and data are counted in bytes.
use super::disk::{Disk, ID_BYTES};
use crate::Memory;
use crate::raw::Transfers;
use crate::virtio::{Broken, Chain};

const HEADER: usize = 16;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;

/// How a request ended; the value is the status byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// What a driver wants, as it says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// None: the header is too short.
    kind: Option<u32>,
    sector: u64,
    /// How many bytes the device may write, without the status.
    room: usize,
    /// How many bytes stand behind the header.
    length: usize,
}

/// What is to be done, checked against the disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transfer {
    Read { offset: u64, length: usize },
    Write { offset: u64, length: usize },
    Flush,
    Identify,
}

impl Request {
    /// Reads the header, once: the guest may change it meanwhile. None if the chain has no room for a status.
    pub(super) fn read(chain: &Chain, memory: &Memory) -> Result<Option<Request>, Broken> {
        let Some(room) = chain.writable_len().checked_sub(1) else {
            return Ok(None);
        };
        let mut header = [0; HEADER];
        let is_whole = chain.read(memory, 0, &mut header)? == HEADER;
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
        Ok(Some(Request {
            kind: is_whole.then_some(u32::from_le_bytes([k0, k1, k2, k3])),
            sector: u64::from_le_bytes(sector),
            room,
            length: chain.readable_len().saturating_sub(HEADER),
        }))
    }

    /// What counts against the bandwidth.
    pub(super) fn nr_bytes(&self) -> u64 {
        match self.kind {
            Some(IN) => self.room as u64,
            Some(OUT) => self.length as u64,
            _ => 0,
        }
    }

    /// Checks it against the disk.
    pub(super) fn check(&self, disk: &Disk, has_flush: bool) -> Result<Transfer, Status> {
        let Request {
            sector,
            room,
            length,
            ..
        } = *self;
        match self.kind {
            Some(IN) => {
                let offset = disk.place(sector, room).ok_or(Status::IoError)?;
                Ok(Transfer::Read {
                    offset,
                    length: room,
                })
            }
            Some(OUT) => {
                let place = disk.place(sector, length).filter(|_| !disk.is_read_only());
                let offset = place.ok_or(Status::IoError)?;
                Ok(Transfer::Write { offset, length })
            }
            Some(FLUSH) if has_flush => Ok(Transfer::Flush),
            Some(GET_ID) if room >= ID_BYTES => Ok(Transfer::Identify),
            Some(GET_ID) | None => Err(Status::IoError),
            Some(_) => Err(Status::Unsupported),
        }
    }

    /// Writes the status, the last byte that the device may write. Returns how many bytes of the chain were written.
    pub(super) fn answer(
        &self,
        chain: &Chain,
        memory: &Memory,
        status: Status,
        moved: usize,
    ) -> Result<usize, Broken> {
        chain.write(memory, self.room, &[status as u8])?;
        Ok(moved + 1)
    }
}

impl Transfer {
    /// Whether it is worth not to wait for.
    pub(super) fn is_slow(self) -> bool {
        !matches!(self, Transfer::Identify)
    }

    /// Does it, and says how many bytes the guest got.
    pub(super) fn run(
        self,
        disk: &Disk,
        chain: &Chain,
        memory: &Memory,
    ) -> Result<(Status, usize), Broken> {
        let (result, moved) = match self {
            Transfer::Read { offset, length } => (
                disk.read(offset, &chain.writable(memory, 0, length)?),
                length,
            ),
            Transfer::Write { offset, length } => (
                disk.write(offset, &chain.readable(memory, HEADER, length)?),
                0,
            ),
            Transfer::Flush => (disk.flush(), 0),
            Transfer::Identify => (Ok(()), chain.write(memory, 0, disk.id())?),
        };
        Ok(match result {
            Ok(()) => (Status::Ok, moved),
            Err(_) => (Status::IoError, 0),
        })
    }

    /// Hands it to the kernel under `number`.
    pub(super) fn begin(
        self,
        transfers: &mut Transfers,
        disk: &Disk,
        chain: &Chain,
        number: u64,
    ) -> Result<(), Broken> {
        match self {
            Transfer::Read { offset, length } => {
                transfers.read(disk.file(), offset, number, |memory| {
                    chain.writable(memory, 0, length)
                })
            }
            Transfer::Write { offset, length } => {
                transfers.write(disk.file(), offset, number, |memory| {
                    chain.readable(memory, HEADER, length)
                })
            }
            Transfer::Flush | Transfer::Identify => {
                transfers.flush(disk.file(), number);
                Ok(())
            }
        }
    }

    /// What the kernel's `result` means: bytes, or a negated error number. None: some of the bytes.
    pub(super) fn judge(self, result: i32) -> Option<(Status, usize)> {
        let Ok(done) = usize::try_from(result) else {
            return Some((Status::IoError, 0));
        };
        match self {
            Transfer::Read { length, .. } if done == length => Some((Status::Ok, length)),
            Transfer::Write { length, .. } if done == length => Some((Status::Ok, 0)),
            Transfer::Read { .. } | Transfer::Write { .. } => None,
            Transfer::Flush | Transfer::Identify => Some((Status::Ok, 0)),
        }
    }
}
