//! What is at the other end of a network card.
use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use vm_memory::VolatileSlice;

use super::{GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_UFO};
use crate::raw::Tap;

/// A source and sink of frames, each with a virtio header of 12 bytes before it. Nothing of it waits.
pub trait Link: Send + Debug {
    /// Reads one frame; what does not fit is lost.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Sends one frame that lies in guest memory.
    ///
    /// # Errors
    /// If it cannot be sent now, or is no frame. It is lost then.
    fn write(&mut self, pieces: &[VolatileSlice<'_, ()>]) -> io::Result<usize>;
    /// Says which unfinished frames the guest takes: TUN_F_* bits.
    ///
    /// # Errors
    /// If the link cannot do that.
    fn set_offload(&mut self, bits: u32) -> io::Result<()>;
    /// Becomes readable with the first frame.
    fn fd(&self) -> BorrowedFd<'_>;
}

impl Link for Tap {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Tap::read(self, into)
    }

    fn write(&mut self, pieces: &[VolatileSlice<'_, ()>]) -> io::Result<usize> {
        Tap::write(self, pieces)
    }

    fn set_offload(&mut self, bits: u32) -> io::Result<()> {
        Tap::set_offload(self, bits)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

/// The host's tap interface `name`.
///
/// # Errors
/// If it is in use, is no tap, or cannot be made.
pub fn open_tap(name: &str) -> io::Result<Box<dyn Link>> {
    Ok(Box::new(Tap::open(name)?))
}

/// The tap that is open as `fd`.
///
/// # Errors
/// If it is none, or its frames have no header.
pub fn adopt_tap(fd: OwnedFd) -> io::Result<Box<dyn Link>> {
    Ok(Box::new(Tap::adopt(fd)?))
}

/// Nothing at the other end: what is sent is lost, and nothing comes.
#[derive(Debug)]
pub struct Unplugged(OwnedFd);

impl Unplugged {
    /// # Errors
    /// If there is no descriptor left.
    pub fn new() -> io::Result<Unplugged> {
        // Nobody ever writes to it.
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Unplugged(eventfd(0, flags)?))
    }
}

impl Link for Unplugged {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, pieces: &[VolatileSlice<'_, ()>]) -> io::Result<usize> {
        Ok(pieces.iter().map(VolatileSlice::len).sum())
    }

    fn set_offload(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The tap's bits (linux/if_tun.h) for what the driver takes: segments and checksums that are left to it.
pub(super) fn offload(features: u64) -> u32 {
    const TUN_F_CSUM: u32 = 1;
    const TUN_F_TSO4: u32 = 2;
    const TUN_F_TSO6: u32 = 4;
    const TUN_F_UFO: u32 = 16;
    // Segments without checksums of their own need the checksum to be left open (§5.1.3.1).
    if features & GUEST_CSUM == 0 {
        return 0;
    }
    let bits = [
        (GUEST_TSO4, TUN_F_TSO4),
        (GUEST_TSO6, TUN_F_TSO6),
        (GUEST_UFO, TUN_F_UFO),
    ];
    let chosen = bits.iter().filter(|(feature, _)| features & feature != 0);
    chosen.fold(TUN_F_CSUM, |all, (_, bit)| all | bit)
}
