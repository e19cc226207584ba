//! One end of a control socket: frames and descriptors. A client that does not read, or speaks anything else, is dropped.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use casemate_plan::frames;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::messages::{MAX_DESCRIPTORS, MAX_FRAME};

#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    received: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) is_closed: bool,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            received: Vec::new(),
            descriptors: Vec::new(),
            is_closed: false,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what has come; waits for it unless `flags` say otherwise.
    pub(crate) fn receive(&mut self, flags: RecvFlags) {
        let mut bytes = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            flags | RecvFlags::CMSG_CLOEXEC,
        );
        match received {
            Ok(message) if message.bytes > 0 => {
                self.received.extend_from_slice(&bytes[..message.bytes]);
            }
            Err(Errno::AGAIN | Errno::INTR) => return,
            _ => self.is_closed = true,
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                self.descriptors.extend(given);
            }
        }
        self.descriptors.truncate(MAX_DESCRIPTORS);
    }

    pub(crate) fn next<T: for<'a> Deserialize<'a>>(&mut self) -> Option<T> {
        frames::take(&mut self.received, MAX_FRAME).unwrap_or_else(|_| {
            self.is_closed = true;
            None
        })
    }

    /// Sends a message that a socket's buffer has room for. A client that has left no room is dropped.
    pub(crate) fn send<T: Serialize>(&mut self, message: &T) {
        self.send_with(message, &[], SendFlags::DONTWAIT);
    }

    pub(crate) fn send_with<T: Serialize>(
        &mut self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) {
        let Ok(bytes) = frames::encode(message, MAX_FRAME) else {
            self.is_closed = true;
            return;
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let flags = flags | SendFlags::NOSIGNAL;
        let mut sent = match sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut ancillary, flags) {
            Ok(count) => count,
            Err(_) => {
                self.is_closed = true;
                return;
            }
        };
        while sent < bytes.len() {
            match rustix::net::send(&self.socket, &bytes[sent..], flags) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.is_closed = true;
                    return;
                }
            }
        }
    }
}
