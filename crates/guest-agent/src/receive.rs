//! Bytes of a local socket, and the descriptor that comes with them.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// What is there, without waiting: how many bytes (0: the stream has ended), and a descriptor. `None`: nothing yet.
pub(crate) fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
) -> rustix::io::Result<Option<(usize, Option<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let count = match recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut ancillary, flags) {
        Ok(message) => message.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(given) = message {
            descriptor = given.last();
        }
    }
    Ok(Some((count, descriptor)))
}
