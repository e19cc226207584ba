//! A connection from the host to the agent that is a container's program (docs/design/agent.md): its bytes, and the descriptors that go with them, which
//! are this guest's own on either side.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use casemate_guest_protocol::{
    Allowance, Bytes, CHANNEL, Link, LinkError, MAX_DATA, Receipt, ToHost,
};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::error::{About, Result};
use crate::receive::receive;

#[derive(Debug)]
pub(crate) struct Channel {
    id: u32,
    pub(crate) container: String,
    /// The number of the streams of a program that is started on it.
    pub(crate) streams: u32,
    socket: OwnedFd,
    /// To the agent: bytes, and what goes with the first of them.
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    receipt: Receipt,
    pub(crate) allowance: Allowance,
    /// From the agent: what is left of the frame under way, and whether a program was started on this connection and answered for.
    left: usize,
    header: Vec<u8>,
    has_program: bool,
    is_answered: bool,
    /// A frame that waits for what the program has said.
    held: Vec<u8>,
}

/// What a turn of reading brought.
pub(crate) enum Heard {
    Nothing,
    /// Bytes of one frame, and the terminal that came with them.
    Bytes(Vec<u8>, Option<OwnedFd>),
    End,
}

impl Channel {
    pub(crate) fn connect(id: u32, streams: u32, container: String, path: &str) -> Result<Self> {
        let socket = UnixStream::connect(path).about("the container's agent")?;
        socket
            .set_nonblocking(true)
            .about("the container's agent")?;
        Ok(Self {
            id,
            container,
            streams,
            socket: socket.into(),
            queue: VecDeque::new(),
            receipt: Receipt::default(),
            allowance: Allowance::default(),
            left: 0,
            header: Vec::new(),
            has_program: false,
            is_answered: false,
            held: Vec::new(),
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Bytes from the host. Wrong: more than was allowed.
    pub(crate) fn queue(
        &mut self,
        bytes: Vec<u8>,
        descriptors: Vec<OwnedFd>,
    ) -> std::result::Result<(), LinkError> {
        if !self.receipt.receive(bytes.len()) {
            return Err(LinkError::Protocol("more data than was allowed".into()));
        }
        self.has_program |= !descriptors.is_empty();
        self.queue.push_back((bytes, descriptors));
        Ok(())
    }

    /// Sends what the agent takes, and gives the host the room back. False: the agent is gone.
    pub(crate) fn send(&mut self, link: &mut Link) -> std::result::Result<bool, LinkError> {
        while let Some((bytes, descriptors)) = self.queue.front_mut() {
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !borrowed.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let count = match sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
                Ok(count) => count,
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => continue,
                Err(_) => return Ok(false),
            };
            descriptors.clear();
            bytes.drain(..count);
            if bytes.is_empty() {
                self.queue.pop_front();
            }
            if let Some(bytes) = self.receipt.take(count) {
                link.send(&ToHost::Credit {
                    process: self.id,
                    stream: CHANNEL,
                    bytes,
                })?;
            }
        }
        Ok(true)
    }

    /// Whether the next bytes to the host come after what the program has said: all but the answer to its start.
    pub(crate) fn comes_after_streams(&self) -> bool {
        self.has_program && self.is_answered
    }

    pub(crate) fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Keeps bytes until the program's streams are empty.
    pub(crate) fn hold(&mut self, bytes: Vec<u8>) {
        self.held = bytes;
    }

    pub(crate) fn release(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Reads bytes of one frame: of the next only when this one's have all come.
    pub(crate) fn receive(&mut self) -> Heard {
        let most = if self.left > 0 {
            self.left
        } else {
            4 - self.header.len()
        };
        let mut bytes = vec![0; most.min(MAX_DATA).min(self.allowance.left())];
        if bytes.is_empty() {
            return Heard::Nothing;
        }
        let (count, terminal) = match receive(&self.socket, &mut bytes) {
            Ok(None) => return Heard::Nothing,
            Ok(Some((count, terminal))) if count > 0 => (count, terminal),
            _ => return Heard::End,
        };
        self.has_program |= terminal.is_some();
        bytes.truncate(count);
        Heard::Bytes(bytes, terminal)
    }

    /// Notes that bytes of `receive` were passed on.
    pub(crate) fn passed(&mut self, bytes: &[u8]) {
        self.allowance.spend(bytes.len());
        if self.left > 0 {
            self.left -= bytes.len();
        } else {
            self.header.extend_from_slice(bytes);
            let Ok(header) = <[u8; 4]>::try_from(self.header.as_slice()) else {
                return;
            };
            self.header.clear();
            self.left = u32::from_le_bytes(header) as usize;
        }
        if self.left == 0 {
            self.is_answered |= self.has_program;
        }
    }

    pub(crate) fn packet(
        &self,
        bytes: Vec<u8>,
        with_terminal: bool,
        after_streams: bool,
    ) -> ToHost {
        ToHost::Packet {
            connection: self.id,
            bytes: Bytes(bytes),
            with_terminal,
            after_streams,
        }
    }
}
