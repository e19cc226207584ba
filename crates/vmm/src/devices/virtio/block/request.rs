//! One request: a 16-byte header, data, one status byte (virtio 1.2 §5.2.6).
//!
//! Where the driver puts the borders between descriptors does not matter (§2.7.4): header and data are counted in bytes.
use super::disk::{Disk, ID_BYTES};
use crate::Memory;
use crate::virtio::{Broken, Chain};

const HEADER: usize = 16;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;

/// How a request ended; the value is the status byte.
#[derive(Clone, Copy)]
enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// Serves `chain` and returns how many bytes were written to it.
///
/// A chain without room for a status cannot be answered: it goes back empty, which drivers read as failed.
pub(super) fn serve(
    chain: &Chain,
    disk: &Disk,
    has_flush: bool,
    memory: &Memory,
) -> Result<usize, Broken> {
    let Some(room) = chain.writable_len().checked_sub(1) else {
        return Ok(0);
    };
    let mut header = [0; HEADER];
    if chain.read(memory, 0, &mut header)? < HEADER {
        return answer(chain, memory, room, 0, Status::IoError);
    }
    // Read once: the guest may change it meanwhile.
    let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
    let kind = u32::from_le_bytes([k0, k1, k2, k3]);
    let sector = u64::from_le_bytes(sector);
    let (written, status) = match kind {
        IN => read(chain, disk, memory, sector, room)?,
        OUT => (0, write(chain, disk, memory, sector)?),
        FLUSH if has_flush => (
            0,
            if disk.flush().is_ok() {
                Status::Ok
            } else {
                Status::IoError
            },
        ),
        GET_ID if room >= ID_BYTES => (chain.write(memory, 0, disk.id())?, Status::Ok),
        GET_ID => (0, Status::IoError),
        _ => (0, Status::Unsupported),
    };
    answer(chain, memory, room, written, status)
}

fn read(
    chain: &Chain,
    disk: &Disk,
    memory: &Memory,
    sector: u64,
    room: usize,
) -> Result<(usize, Status), Broken> {
    let Some(offset) = disk.place(sector, room) else {
        return Ok((0, Status::IoError));
    };
    let slices = chain.writable(memory, 0, room)?;
    Ok(match disk.read(offset, &slices) {
        Ok(()) => (room, Status::Ok),
        Err(_) => (0, Status::IoError),
    })
}

fn write(chain: &Chain, disk: &Disk, memory: &Memory, sector: u64) -> Result<Status, Broken> {
    let length = chain.readable_len() - HEADER;
    let place = disk.place(sector, length).filter(|_| !disk.is_read_only());
    let Some(offset) = place else {
        return Ok(Status::IoError);
    };
    let slices = chain.readable(memory, HEADER, length)?;
    Ok(if disk.write(offset, &slices).is_ok() {
        Status::Ok
    } else {
        Status::IoError
    })
}

/// The status is the last byte that the device may write.
fn answer(
    chain: &Chain,
    memory: &Memory,
    room: usize,
    written: usize,
    status: Status,
) -> Result<usize, Broken> {
    chain.write(memory, room, &[status as u8])?;
    Ok(written + 1)
}
