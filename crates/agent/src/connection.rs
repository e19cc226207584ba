//! One connection from outside: requests in, answers and events out.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;

use crate::frames::{Buffer, frame};

/// Standard input, output and error: no request carries more.
const MOST_DESCRIPTORS: usize = 3;
/// A starter that does not read its answers for this long loses its connection: it must not hold up the others.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    received: Buffer,
    descriptors: Vec<OwnedFd>,
    /// A file or a watch for whoever cannot take its descriptor.
    pub(crate) kept: Option<OwnedFd>,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    More,
    End,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        set_socket_timeout(&socket, Timeout::Send, Some(SEND_TIMEOUT))?;
        Ok(Self {
            socket,
            received: Buffer::default(),
            descriptors: Vec::new(),
            kept: None,
        })
    }

    /// Takes in what has arrived.
    pub(crate) fn read(&mut self) -> Read {
        let mut bytes = [0u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        loop {
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                flags,
            );
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    self.descriptors.extend(descriptors);
                }
            }
            match got {
                Ok(message) if message.bytes == 0 => return Read::End,
                Ok(message) => self.received.extend(&bytes[..message.bytes]),
                Err(rustix::io::Errno::AGAIN) => return Read::More,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Read::End,
            }
        }
    }

    /// The next whole request's body; an error ends the connection.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, crate::frames::TooLong> {
        self.received.next()
    }

    /// The descriptors that came with the request.
    pub(crate) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }

    /// Sends a map, with a descriptor on its first byte.
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let body = rmp_serde::to_vec_named(message).map_err(io::Error::other)?;
        let bytes = frame(&body);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.map(|fd| [fd]);
        if let Some(fds) = &descriptors {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        let flags = SendFlags::NOSIGNAL;
        let mut sent = sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut ancillary, flags)?;
        while sent < bytes.len() {
            sent += rustix::net::send(&self.socket, &bytes[sent..], flags)?;
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
