//! rtnetlink(7): requests and answers as bytes.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::kernel::{NLM_ACK, NLM_DUMP, NLM_REQUEST, NLMSG_DONE, NLMSG_ERROR};

const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
/// What a dump's part is at most (Linux: NLMSG_GOODSIZE and its callers; a part that does not fit is lost, and so noticed).
const BUFFER: usize = 64 << 10;

/// A socket in the network namespace of the thread that made it.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A request, or a nest of attributes to be: what is appended is aligned.
#[derive(Debug, Default)]
pub(crate) struct Body(Vec<u8>);

/// One answer of a dump.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
}

impl Netlink {
    pub(crate) fn open() -> Result<Self, Errno> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is 0, which is what no protocol is.
            None,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// The interface of that name.
    pub(crate) fn index_of(&self, name: &str) -> Result<i32, Errno> {
        let index = rustix::net::netdevice::name_to_index(&self.socket, name)?;
        i32::try_from(index).map_err(|_| Errno::NODEV)
    }

    /// Asks for a change, and waits for the kernel's word.
    pub(crate) fn change(&mut self, kind: u16, flags: u16, body: &Body) -> Result<(), Errno> {
        self.send(kind, flags | NLM_ACK, body)?;
        self.collect().map(drop)
    }

    pub(crate) fn dump(&mut self, kind: u16, body: &Body) -> Result<Vec<Answer>, Errno> {
        self.send(kind, NLM_DUMP, body)?;
        self.collect()
    }

    fn send(&mut self, kind: u16, flags: u16, body: &Body) -> Result<(), Errno> {
        self.sequence += 1;
        let length = HEADER + body.0.len();
        let mut message = Vec::with_capacity(length);
        message.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(NLM_REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&body.0);
        rustix::net::send(&self.socket, &message, SendFlags::empty()).map(drop)
    }

    /// The answers until the kernel says that there are no more.
    fn collect(&mut self) -> Result<Vec<Answer>, Errno> {
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let (count, whole) =
                rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC)?;
            if whole > count {
                return Err(Errno::MSGSIZE);
            }
            let mut rest = &buffer[..count];
            while let Some((kind, sequence, body, next)) = message(rest) {
                rest = next;
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        return match i32_at(body, 0).unwrap_or(-libc::EPROTO) {
                            0 => Ok(answers),
                            errno => Err(Errno::from_raw_os_error(-errno)),
                        };
                    }
                    _ => answers.push(Answer {
                        body: body.to_vec(),
                    }),
                }
            }
        }
    }
}

/// Kind, sequence, body and what follows.
fn message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(aligned(length)..).unwrap_or_default();
    Some((u16_at(bytes, 4)?, u32_at(bytes, 8)?, body, next))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

impl Body {
    /// With a header of the request's own kind.
    pub(crate) fn new(header: &[&[u8]]) -> Self {
        let mut body = Self(header.concat());
        body.align();
        body
    }

    fn align(&mut self) {
        self.0.resize(aligned(self.0.len()), 0);
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.align();
        self
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat())
    }

    pub(crate) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.attribute(kind | NESTED, &inner.0)
    }
}

impl Answer {
    /// The attributes behind a header of so many bytes.
    pub(crate) fn attributes(&self, header: usize) -> Attributes<'_> {
        Attributes(self.body.get(aligned(header)..).unwrap_or_default())
    }
}

/// Kind and value of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first of this kind.
    pub(crate) fn find(self, kind: u16) -> Option<&'a [u8]> {
        let mut all = self;
        all.find_map(|(found, value)| (found == kind).then_some(value))
    }

    pub(crate) fn number(self, kind: u16) -> Option<u32> {
        u32_at(self.find(kind)?, 0)
    }

    /// Those within the first of this kind.
    pub(crate) fn within(self, kind: u16) -> Option<Attributes<'a>> {
        self.find(kind).map(Attributes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(ATTRIBUTE..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let part = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*part))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*part))
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    let part = bytes.get(at..)?.first_chunk()?;
    Some(i32::from_ne_bytes(*part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_nested_is_found_again() {
        let mut body = Body::new(&[&[7; 16]]);
        body.text(1, "u32").nest(2, |inner| {
            inner.number(5, 9).attribute(7, b"odd");
        });
        let answer = Answer { body: body.0 };
        let found = answer.attributes(16);
        assert_eq!(found.find(1), Some(&b"u32\0"[..]));
        assert_eq!(found.within(2).and_then(|inner| inner.number(5)), Some(9));
        assert_eq!(
            found.within(2).and_then(|inner| inner.find(7)),
            Some(&b"odd"[..])
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let mut rest = &bytes[..];
            while let Some((_, _, body, next)) = message(rest) {
                prop_assert!(body.len() <= rest.len());
                prop_assert!(next.len() < rest.len());
                rest = next;
            }
            for (_, value) in Attributes(&bytes) {
                prop_assert!(value.len() <= bytes.len());
            }
        }
    }
}
