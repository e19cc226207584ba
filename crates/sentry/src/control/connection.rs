//! One client: bytes and descriptors received that are no whole frame yet, bytes that it has not taken yet. No call here waits.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use casemate_plan::frames;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::messages::{Event, MAX_DESCRIPTORS, MAX_FRAME, Request};

/// A client that does not read is dropped when this much waits for it.
const MAX_UNSENT: usize = 8 << 20;

/// What the client's program is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    None,
    /// Waits for the zygote.
    Starting,
    Running(i32),
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    received: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
    unsent: Vec<u8>,
    pub(super) program: Program,
    /// Nothing more comes, or is taken.
    pub(super) is_closed: bool,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            received: Vec::new(),
            descriptors: Vec::new(),
            unsent: Vec::new(),
            program: Program::None,
            is_closed: false,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Takes what has come.
    pub(super) fn receive(&mut self) {
        let mut bytes = vec![0; 64 << 10];
        let mut space =
            vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            flags,
        );
        match received {
            Ok(message) if message.bytes > 0 => {
                self.received.extend_from_slice(&bytes[..message.bytes])
            }
            Err(Errno::AGAIN | Errno::INTR) => return,
            _ => self.is_closed = true,
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                self.descriptors.extend(given);
            }
        }
        // One request's, and it is taken at once.
        self.descriptors.truncate(MAX_DESCRIPTORS);
    }

    /// The next whole request. A client that speaks anything else is dropped.
    pub(super) fn next(&mut self) -> Option<Request> {
        match frames::take(&mut self.received, MAX_FRAME) {
            Ok(request) => request,
            Err(_) => {
                self.is_closed = true;
                None
            }
        }
    }

    pub(super) fn send(&mut self, event: &Event, descriptor: Option<BorrowedFd<'_>>) {
        let Ok(bytes) = frames::encode(event, MAX_FRAME) else {
            self.is_closed = true;
            return;
        };
        let Some(descriptor) = descriptor else {
            self.unsent.extend_from_slice(&bytes);
            return self.flush();
        };
        // Descriptors only go as a client's first answer, into an empty buffer.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut ancillary, flags);
        match sent {
            Ok(count) => self.unsent.extend_from_slice(&bytes[count..]),
            Err(_) => self.is_closed = true,
        }
    }

    /// Sends what the client takes now.
    pub(super) fn flush(&mut self) {
        while !self.unsent.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(
                &self.socket,
                &[IoSlice::new(&self.unsent)],
                &mut SendAncillaryBuffer::default(),
                flags,
            ) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.unsent.len() <= MAX_UNSENT => return,
                Err(_) => {
                    self.is_closed = true;
                    self.unsent.clear();
                }
            }
        }
    }
}
