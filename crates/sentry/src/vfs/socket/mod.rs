//! Sockets. Local ones (AF_UNIX) are the sentry's own objects, `unix`; those of the internet families and of rtnetlink are the host's, `host`, opened
//! in the container's network namespace and used for the program after a check. socket(7).
//!
//! Handlers in `syscalls::socket*` do what all kinds share: waiting, time limits, SIGPIPE, the layout of messages.

pub mod given;
pub mod host;
pub mod host_options;
pub mod options;
pub mod peer;
pub mod rights;
pub mod unix;
pub mod unix_connect;
pub mod unix_names;
pub mod unix_poll;
pub mod unix_receive;
pub mod unix_send;

use std::sync::Arc;

use super::attributes::Attributes;
use super::description::Description;
use super::file::File;
use crate::errno::{Errno, Result};
use crate::kernel::wake::Ticket;
use crate::memory::Buffer;
use crate::syscalls::Cx;
use options::Options;

/// What a message carries besides its bytes. unix(7), cmsg(3).
#[derive(Debug, Clone)]
pub enum Control {
    Rights(Vec<Arc<Description>>),
    /// pid, uid, gid.
    Credentials([u32; 3]),
    /// Another level's, as the host said it: level, type, data.
    Raw(i32, i32, Vec<u8>),
}

/// A message on its way out.
#[derive(Debug)]
pub struct Outgoing {
    pub data: Buffer,
    /// The address it is for, if it names one.
    pub to: Option<Vec<u8>>,
    pub control: Vec<Control>,
    pub flags: i32,
    /// Goes into every queue that can end a wait for room.
    pub ticket: Ticket,
}

/// What a receive got.
#[derive(Debug, Default)]
pub struct Received {
    /// What the call returns: with MSG_TRUNC it can be more than was copied.
    pub count: usize,
    /// The sender's address; empty if it has none, `None` if the kind of socket does not tell.
    pub from: Option<Vec<u8>>,
    pub control: Vec<Control>,
    /// MSG_TRUNC, MSG_EOR and the like.
    pub flags: i32,
}

/// Which way a time limit or a shutdown is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Receive,
    Send,
}

pub trait Socket: File {
    fn options(&self) -> &Options;

    fn bind(&self, cx: &mut Cx<'_>, address: &[u8]) -> Result<()>;

    /// `EAGAIN` the other side has no room yet, `EINPROGRESS` it has begun: wait (`ticket` is in the right queues), and call again.
    fn connect(&self, cx: &mut Cx<'_>, address: &[u8], ticket: Ticket) -> Result<()>;

    fn listen(&self, cx: &mut Cx<'_>, backlog: i32) -> Result<()>;

    /// A new socket and its peer's address. `EAGAIN` none is there.
    fn accept(&self, cx: &mut Cx<'_>) -> Result<(Arc<dyn File>, Vec<u8>)>;

    fn own_address(&self) -> Result<Vec<u8>>;

    fn peer_address(&self) -> Result<Vec<u8>>;

    /// Sends what there is room for. `EAGAIN` none.
    fn send(&self, cx: &mut Cx<'_>, out: &mut Outgoing) -> Result<usize>;

    /// `EAGAIN` nothing is there.
    fn receive(&self, cx: &mut Cx<'_>, to: &mut Buffer, flags: i32) -> Result<Received>;

    /// `how`: SHUT_RD, SHUT_WR or SHUT_RDWR.
    fn shutdown(&self, how: i32) -> Result<()>;

    /// An option's value, at most `room` bytes of it.
    fn option(&self, cx: &mut Cx<'_>, level: i32, name: i32, room: usize) -> Result<Vec<u8>>;

    fn set_option(&self, cx: &mut Cx<'_>, level: i32, name: i32, value: &[u8]) -> Result<()>;

    /// Whether messages keep their bounds; a stream's writes may be split, and go on where they stopped.
    fn keeps_messages(&self) -> bool;
}

/// The socket behind a description. `ENOTSOCK`
pub fn of(description: &Description) -> Result<&dyn Socket> {
    description.file.socket().ok_or(Errno::ENOTSOCK)
}

/// sockfs: what fstat(2) says of a socket.
#[must_use]
pub fn attributes(ino: u64, uid: u32, gid: u32) -> Attributes {
    Attributes {
        dev: 8,
        ino,
        mode: libc::S_IFSOCK | 0o777,
        nlink: 1,
        uid,
        gid,
        blksize: 4096,
        ..Attributes::default()
    }
}

/// The option's value as an int. `EINVAL` too short.
pub fn int(value: &[u8]) -> Result<i32> {
    let bytes = value.get(..4).ok_or(Errno::EINVAL)?;
    Ok(crate::memory::half(bytes, 0).cast_signed())
}
