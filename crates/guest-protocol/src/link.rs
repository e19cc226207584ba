//! Frames over a descriptor that never blocks: a 4-byte little-endian length and one MessagePack map.

use std::io::Cursor;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The messages' own nesting is 4. The decoder recurses, and this bounds its stack.
const MAX_DEPTH: usize = 16;
const READ: usize = 64 << 10;
/// A sender that has so much unsent should ask nothing of its own sources.
const CONGESTED: usize = 256 << 10;

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkError {
    Closed,
    /// The peer does not speak this protocol.
    Protocol(String),
    Io(Errno),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => formatter.write_str("the stream ended"),
            Self::Protocol(what) => write!(formatter, "the peer broke the protocol: {what}"),
            Self::Io(errno) => write!(formatter, "{errno}"),
        }
    }
}

#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
    max_frame: usize,
    received: Vec<u8>,
    /// Where in `received` the next frame begins.
    start: usize,
    unsent: Vec<u8>,
    sent: usize,
    /// Bytes that the peer may have on their way to it, and those that are.
    narrow: Option<(usize, usize)>,
    /// Bytes that were received and not acknowledged.
    unacknowledged: usize,
}

impl Link {
    /// A link over `fd`, which must be non-blocking; frames of more than `max_frame` bytes break it.
    #[must_use]
    pub fn new(fd: OwnedFd, max_frame: usize) -> Self {
        Self {
            fd,
            max_frame,
            received: Vec::new(),
            start: 0,
            unsent: Vec::new(),
            sent: 0,
            narrow: None,
            unacknowledged: 0,
        }
    }

    /// Has at most so many bytes under way that the peer has not acknowledged.
    pub fn narrow(&mut self, bytes: usize) {
        self.narrow = Some((bytes, 0));
    }

    /// The peer has received so many bytes.
    pub fn acknowledged(&mut self, bytes: u32) {
        if let Some((_, under_way)) = &mut self.narrow {
            *under_way = under_way.saturating_sub(bytes as usize);
        }
    }

    /// Whether a narrow link waits for its peer.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.narrow.is_some_and(|(_, under_way)| under_way > 0)
    }

    /// Lets a few more bytes go than were acknowledged. True: there were some.
    ///
    /// # Errors
    /// The link is broken.
    pub fn nudge(&mut self) -> Result<bool, LinkError> {
        const FEW: usize = 16;
        if self.sent == self.unsent.len() {
            return Ok(false);
        }
        if let Some((_, under_way)) = &mut self.narrow {
            *under_way = under_way.saturating_sub(FEW);
        }
        self.flush().map(|()| true)
    }

    /// How many bytes to acknowledge.
    pub fn acknowledge(&mut self) -> Option<u32> {
        let bytes = std::mem::take(&mut self.unacknowledged);
        u32::try_from(bytes).ok().filter(|bytes| *bytes > 0)
    }

    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether there is something to send that may go now.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.sendable() > 0
    }

    fn sendable(&self) -> usize {
        let room = self.narrow.map_or(usize::MAX, |(most, under_way)| {
            most.saturating_sub(under_way)
        });
        room.min(self.unsent.len() - self.sent)
    }

    /// Whether so much waits that sources of data should rest.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.unsent.len() - self.sent > CONGESTED
    }

    /// Reads what is there, once.
    ///
    /// # Errors
    /// The stream's end, or what read(2) says.
    pub fn receive(&mut self) -> Result<(), LinkError> {
        if self.start > 0 {
            self.received.drain(..self.start);
            self.start = 0;
        }
        let old = self.received.len();
        self.received.resize(old + READ, 0);
        let result = rustix::io::read(&self.fd, &mut self.received[old..]);
        let count = *result.as_ref().unwrap_or(&0);
        self.received.truncate(old + count);
        match result {
            Ok(0) => Err(LinkError::Closed),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {
                self.unacknowledged += count;
                Ok(())
            }
            Err(Errno::CONNRESET) => Err(LinkError::Closed),
            Err(errno) => Err(LinkError::Io(errno)),
        }
    }

    /// The next whole message; `None`: more is to come.
    ///
    /// # Errors
    /// The peer does not speak this protocol.
    pub fn take<T: for<'a> Deserialize<'a>>(&mut self) -> Result<Option<T>, LinkError> {
        let waiting = &self.received[self.start..];
        let Some((header, rest)) = waiting.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > self.max_frame {
            return Err(LinkError::Protocol(format!("a frame of {length} bytes")));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = decode(body)?;
        self.start += 4 + length;
        Ok(Some(message))
    }

    /// Queues a message and sends what goes.
    ///
    /// # Errors
    /// The link is broken.
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), LinkError> {
        let body = rmp_serde::to_vec_named(message)
            .map_err(|error| LinkError::Protocol(error.to_string()))?;
        let length = u32::try_from(body.len())
            .map_err(|_| LinkError::Protocol("a message too long".into()))?;
        self.unsent.extend_from_slice(&length.to_le_bytes());
        self.unsent.extend_from_slice(&body);
        self.flush()
    }

    /// Sends what the peer takes now.
    ///
    /// # Errors
    /// The link is broken.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        while self.has_unsent() {
            let end = self.sent + self.sendable();
            match rustix::io::write(&self.fd, &self.unsent[self.sent..end]) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(count) => {
                    self.sent += count;
                    if let Some((_, under_way)) = &mut self.narrow {
                        *under_way += count;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(LinkError::Closed),
                Err(errno) => return Err(LinkError::Io(errno)),
            }
        }
        if self.sent == self.unsent.len() {
            self.unsent.clear();
            self.sent = 0;
        } else if self.sent > CONGESTED {
            self.unsent.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

fn decode<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, LinkError> {
    let mut decoder = rmp_serde::Deserializer::new(Cursor::new(body));
    decoder.set_max_depth(MAX_DEPTH);
    let message =
        T::deserialize(&mut decoder).map_err(|error| LinkError::Protocol(error.to_string()))?;
    if decoder.position() == body.len() as u64 {
        Ok(message)
    } else {
        Err(LinkError::Protocol("bytes after a message".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Address, Interface, Ip, Network, card_mac};
    use crate::{Bytes, MAX_TO_GUEST, MAX_TO_HOST, ToGuest, ToHost};
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("socketpair")
    }

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (one, other) = pair();
        let (mut sender, mut receiver) = (Link::new(one, 1 << 20), Link::new(other, MAX_TO_HOST));
        let mut expected = Vec::new();
        for stream in 0..200u8 {
            let bytes = vec![stream; usize::from(stream) * 100];
            expected.push(bytes.clone());
            let message = ToHost::Data {
                process: 7,
                stream,
                bytes: Bytes(bytes),
            };
            sender.send(&message).expect("send");
        }
        let mut found = Vec::new();
        while found.len() < expected.len() {
            receiver.receive().expect("receive");
            sender.flush().expect("flush");
            while let Some(ToHost::Data { bytes, .. }) = receiver.take().expect("a message") {
                found.push(bytes.0);
            }
        }
        assert_eq!(found, expected);
    }

    /// A message with a tag is read twice, and the second reader takes other forms of some types than the first.
    #[test]
    fn a_network_arrives_as_it_was_sent() {
        let network = Network {
            interfaces: vec![Interface {
                name: "eth0".into(),
                mac: card_mac(3),
                mtu: 1400,
                addresses: vec![Address {
                    address: Ip("fd00::2".parse().expect("an address")),
                    prefix: 64,
                    peer: Some(Ip("192.0.2.1".parse().expect("an address"))),
                    broadcast: None,
                    scope: 0,
                    has_no_route: true,
                }],
            }],
            ..Network::default()
        };
        let (one, other) = pair();
        let (mut sender, mut receiver) = (Link::new(one, 1 << 20), Link::new(other, MAX_TO_GUEST));
        let message = ToGuest::Network {
            ticket: 1,
            network: network.clone(),
        };
        sender.send(&message).expect("send");
        receiver.receive().expect("receive");
        let found = receiver.take().expect("a message");
        let Some(ToGuest::Network { network: found, .. }) = found else {
            panic!("{found:?}");
        };
        assert_eq!(found, network);
    }

    proptest! {
        /// Whatever a guest sends, the relay gets messages or an error: no panic, no frame beyond the bound.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let (one, other) = pair();
            rustix::io::write(&one, &bytes).expect("write");
            let mut receiver = Link::new(other, MAX_TO_HOST);
            if receiver.receive().is_ok() {
                while let Ok(Some(_)) = receiver.take::<ToHost>() {}
            }
        }
    }
}
