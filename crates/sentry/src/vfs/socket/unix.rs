//! Local sockets: what one is, its life, and what poll(2) says of it. unix(7). Connecting, sending and receiving have files of their own.
//!
//! Each socket's state has its own lock, and no two are ever held together. A socket outlives its last descriptor where messages or a peer still name it:
//! the descriptor's end (`UnixFile`) releases it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::options::Options;
use super::rights::Rights;
use super::unix_names::Name;
use super::{Control, Direction, Outgoing, Received, Socket};
use crate::errno::{Errno, Result};
use crate::fast::lines::{Line, Lined};
use crate::kernel::wake::{Ticket, WaitQueue};
use crate::memory::{Address, Buffer};
use crate::syscalls::Cx;
use crate::vfs::attributes::Attributes;
use crate::vfs::description::Description;
use crate::vfs::fasync::{self, Band};
use crate::vfs::file::{FIONREAD, File, READABLE};

const SIOCOUTQ: u32 = 0x5411;
/// Messages that wait in a datagram socket. Linux: net.unix.max_dgram_qlen.
pub const MOST_DATAGRAMS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Stream,
    Datagram,
    Packets,
}

#[derive(Debug)]
pub struct Message {
    pub bytes: Vec<u8>,
    /// How much of it a stream's reader has had.
    pub read: usize,
    pub from: Name,
    pub rights: Rights,
    /// pid, uid, gid; `None` if neither side asked for them when it was sent.
    pub credentials: Option<[u32; 3]>,
    pub sender: Arc<UnixSocket>,
    /// What it takes of the sender's buffer.
    pub charge: usize,
}

impl Message {
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.read.min(self.bytes.len())..]
    }
}

#[derive(Debug)]
pub enum Phase {
    Unconnected,
    /// Connections that wait to be accepted, and how many may.
    Listening(VecDeque<Arc<UnixSocket>>, usize),
    /// A stream that has, or had, a peer.
    Connected,
}

#[derive(Debug)]
pub struct State {
    pub name: Name,
    pub phase: Phase,
    pub peer: Option<Arc<UnixSocket>>,
    pub messages: VecDeque<Message>,
    pub is_shut_for_receiving: bool,
    pub is_shut_for_sending: bool,
    pub is_released: bool,
    /// SO_ERROR.
    pub error: Option<Errno>,
    /// SO_PEERCRED: of whoever connected, or listened.
    pub peer_credentials: [u32; 3],
}

#[derive(Debug)]
pub struct UnixSocket {
    pub kind: Kind,
    state: Mutex<State>,
    pub queue: WaitQueue,
    pub fasync: fasync::List,
    /// A send, or poll(2), found no room: that there is some again is told. Linux: SOCKWQ_ASYNC_NOSPACE.
    wants_room: AtomicBool,
    pub options: Options,
    /// What its unread messages take, at their receivers.
    pub sent: AtomicUsize,
    attributes: Attributes,
    line: Line,
}

/// No process: what SO_PEERCRED says before there is a peer.
pub const NOBODY: [u32; 3] = [0, u32::MAX, u32::MAX];

impl UnixSocket {
    #[must_use]
    pub fn new(kind: Kind, attributes: Attributes) -> Arc<Self> {
        Arc::new(Self {
            kind,
            state: Mutex::new(State {
                name: Name::Unnamed,
                phase: Phase::Unconnected,
                peer: None,
                messages: VecDeque::new(),
                is_shut_for_receiving: false,
                is_shut_for_sending: false,
                is_released: false,
                error: None,
                peer_credentials: NOBODY,
            }),
            queue: WaitQueue::default(),
            fasync: fasync::List::default(),
            wants_room: AtomicBool::new(false),
            options: Options::default(),
            sent: AtomicUsize::new(0),
            attributes,
            line: Line::default(),
        })
    }

    /// For whoever looks at it, by whatever call: all that was sent to it is here then.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        loop {
            let state = self.peek();
            // A line is opened with this held.
            if !self.line.is_open() {
                return state;
            }
            drop(state);
            self.cut();
        }
    }

    /// For who looks at nothing that a line to it could change.
    pub(super) fn peek(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty_stream(&self, state: &State) -> bool {
        self.kind == Kind::Stream
            && matches!(state.phase, Phase::Connected)
            && state.messages.is_empty()
            && state.error.is_none()
            && !state.is_shut_for_receiving
    }

    /// Whether all that a read has to tell are bytes, however long they take.
    fn tells_nothing(&self) -> bool {
        let peer = self.peek().peer.clone();
        let is_plain = |socket: &Self| !socket.options.lock().passes_credentials;
        is_plain(self)
            && self.options.limit(Direction::Receive).is_none()
            && peer.is_some_and(|peer| {
                let state = peer.peek();
                is_plain(&peer) && !state.is_released && !state.is_shut_for_sending
            })
    }

    /// Both of a stream's directions are looked at by the sentry from now on.
    fn cut_both(&self) {
        self.cut();
        let peer = self.peek().peer.clone();
        if let Some(peer) = peer {
            peer.cut();
        }
    }

    #[must_use]
    pub fn is_released(&self) -> bool {
        self.lock().is_released
    }

    #[must_use]
    pub fn take_error(&self) -> Option<Errno> {
        self.lock().error.take()
    }

    #[must_use]
    pub fn send_room(&self) -> usize {
        usize::try_from(self.options.lock().send_buffer).unwrap_or(0)
    }

    /// Gives the sender its room back.
    pub fn uncharge(&self, charge: usize) {
        self.sent.fetch_sub(charge, Ordering::Relaxed);
        self.queue.wake();
        if self.is_writable() && self.wants_room.swap(false, Ordering::Relaxed) {
            self.fasync.tell(Band::Out);
        }
    }

    pub(super) fn note_no_room(&self) {
        if !self.fasync.is_empty() {
            self.wants_room.store(true, Ordering::Relaxed);
        }
    }

    /// The last descriptor is gone: whoever is connected learns it, and what was not read is lost.
    fn release(self: &Arc<Self>) {
        let (messages, pending, peer) = {
            let mut state = self.lock();
            state.is_released = true;
            let pending = match std::mem::replace(&mut state.phase, Phase::Unconnected) {
                Phase::Listening(pending, _) => pending,
                _ => VecDeque::new(),
            };
            (
                std::mem::take(&mut state.messages),
                pending,
                state.peer.take(),
            )
        };
        let has_lost = !messages.is_empty();
        for message in messages {
            message.sender.uncharge(message.charge);
        }
        if let Some(peer) = peer {
            self.leave(&peer, has_lost);
        }
        for waiting in pending {
            let client = waiting.lock().peer.clone();
            waiting.release();
            if let Some(client) = client {
                client.lock().error = Some(Errno::ECONNRESET);
                client.queue.wake();
            }
        }
        self.queue.wake();
    }

    fn leave(self: &Arc<Self>, peer: &Arc<Self>, has_lost: bool) {
        if self.kind != Kind::Datagram {
            let mut state = peer.lock();
            state.is_shut_for_receiving = true;
            state.is_shut_for_sending = true;
            if has_lost {
                state.error = Some(Errno::ECONNRESET);
            }
        }
        peer.queue.wake();
        if self.kind != Kind::Datagram {
            peer.fasync.tell(Band::HangUp);
        }
    }

    /// Whether a sender that is not its own peer has to wait. Linux: unix_recvq_full().
    #[must_use]
    pub fn is_full(&self, state: &State) -> bool {
        self.kind != Kind::Stream && state.messages.len() > MOST_DATAGRAMS
    }
}

impl Lined for UnixSocket {
    fn line(&self) -> &Line {
        &self.line
    }

    fn cut(&self) -> bool {
        if !self.line.is_open() {
            return false;
        }
        let sender = self.peek().peer.clone();
        let from = sender.as_ref().map(|sender| sender.peek().name.clone());
        let mut state = self.peek();
        let rest = self.line.cut();
        if let (Some(bytes), Some(sender), Some(from)) = (rest.message, sender, from) {
            state.messages.push_back(sender.plain_message(bytes, from));
        }
        rest.has_reader
    }

    fn open(&self, begin: &mut dyn FnMut()) {
        {
            let state = self.lock();
            if self.is_empty_stream(&state) && self.queue.is_quiet() && self.fasync.is_empty() {
                begin();
            }
        }
        // What could have changed meanwhile, and cut a line that was not open yet.
        if self.line.is_open() && !self.tells_nothing() {
            self.cut();
        }
    }
}

/// A socket's description end: dropped with the last descriptor.
#[derive(Debug)]
pub struct UnixFile(pub Arc<UnixSocket>);

impl Drop for UnixFile {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl File for UnixFile {
    fn read(&self, _description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        self.0.receive(to, 0).map(|received| received.count)
    }

    fn is_at_once(&self, writes: Option<usize>, may_wait: bool) -> bool {
        if self.0.kind != Kind::Stream {
            return false;
        }
        let is_ready = match writes {
            None => self.0.poll() & READABLE != 0,
            Some(count) => self.0.takes(count),
        };
        is_ready || !may_wait
    }

    fn poll(&self) -> u32 {
        self.0.poll()
    }

    fn queue(&self) -> Option<&WaitQueue> {
        // For whoever waits, or watches.
        if self.0.line.is_open() {
            self.0.cut();
        }
        Some(&self.0.queue)
    }

    fn fasync(&self) -> [Option<&fasync::List>; 2] {
        [Some(&self.0.fasync), None]
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.0.attributes)
    }

    fn ioctl(
        &self,
        cx: &mut Cx<'_>,
        _description: &Description,
        request: u32,
        argument: Address,
    ) -> Result<i64> {
        let count = match request {
            FIONREAD => self.0.readable_bytes()?,
            SIOCOUTQ => {
                self.0.cut_both();
                self.0.sent.load(Ordering::Relaxed)
            }
            _ => return super::host::interface_request(cx, request, argument),
        };
        cx.memory()
            .write_i32(argument, i32::try_from(count).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    fn name(&self) -> Vec<u8> {
        format!("socket:[{}]", self.0.attributes.ino).into_bytes()
    }

    fn socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }

    fn lined(&self, writes: bool) -> Option<Arc<dyn Lined>> {
        let receiver = if writes {
            self.0.peek().peer.clone()?
        } else {
            self.0.clone()
        };
        (self.0.kind == Kind::Stream).then_some(receiver as Arc<dyn Lined>)
    }
}

impl Socket for UnixFile {
    fn options(&self) -> &Options {
        &self.0.options
    }

    fn bind(&self, cx: &mut Cx<'_>, address: &[u8]) -> Result<()> {
        self.0.bind(cx, address)
    }

    fn connect(&self, cx: &mut Cx<'_>, address: &[u8], ticket: Ticket) -> Result<()> {
        self.0.connect(cx, address, ticket)
    }

    fn listen(&self, cx: &mut Cx<'_>, backlog: i32) -> Result<()> {
        self.0.listen(cx, backlog)
    }

    fn accept(&self, _cx: &mut Cx<'_>) -> Result<(Arc<dyn File>, Vec<u8>)> {
        let accepted = self.0.accept()?;
        let peer = accepted.peer_name().unwrap_or(Name::Unnamed).to_bytes();
        Ok((Arc::new(Self(accepted)), peer))
    }

    fn own_address(&self) -> Result<Vec<u8>> {
        Ok(self.0.lock().name.to_bytes())
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        self.0
            .peer_name()
            .map(|name| name.to_bytes())
            .ok_or(Errno::ENOTCONN)
    }

    fn send(&self, cx: &mut Cx<'_>, out: &mut Outgoing) -> Result<usize> {
        self.0.send(cx, out)
    }

    fn receive(&self, _cx: &mut Cx<'_>, to: &mut Buffer, flags: i32) -> Result<Received> {
        self.0.receive(to, flags)
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        self.0.shutdown(how)
    }

    fn option(&self, _cx: &mut Cx<'_>, level: i32, name: i32, _room: usize) -> Result<Vec<u8>> {
        if level != libc::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let state = self.0.lock();
        let number = match name {
            libc::SO_TYPE => match self.0.kind {
                Kind::Stream => libc::SOCK_STREAM,
                Kind::Datagram => libc::SOCK_DGRAM,
                Kind::Packets => libc::SOCK_SEQPACKET,
            },
            libc::SO_DOMAIN => libc::AF_UNIX,
            libc::SO_PROTOCOL => 0,
            libc::SO_ACCEPTCONN => i32::from(matches!(state.phase, Phase::Listening(..))),
            libc::SO_ERROR => {
                drop(state);
                self.0.take_error().map_or(0, |error| error.0)
            }
            libc::SO_PEERCRED => {
                let words = state.peer_credentials;
                return Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect());
            }
            _ => return self.0.options.get(name),
        };
        Ok(number.to_le_bytes().to_vec())
    }

    fn set_option(&self, _cx: &mut Cx<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level != libc::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        self.0.options.set(name, value)?;
        self.0.cut_both();
        self.0.queue.wake();
        Ok(())
    }

    fn keeps_messages(&self) -> bool {
        self.0.kind != Kind::Stream
    }
}

impl UnixSocket {
    /// Ends one or both directions; a connected peer sees the other side of it. Linux: unix_shutdown().
    pub fn shutdown(&self, how: i32) -> Result<()> {
        let receiving = how != libc::SHUT_WR;
        let sending = how != libc::SHUT_RD;
        let peer = {
            let mut state = self.lock();
            state.is_shut_for_receiving |= receiving;
            state.is_shut_for_sending |= sending;
            state.peer.clone()
        };
        if let Some(peer) = peer {
            if self.kind != Kind::Datagram {
                let mut state = peer.lock();
                state.is_shut_for_receiving |= sending;
                state.is_shut_for_sending |= receiving;
            }
            peer.queue.wake();
            if self.kind != Kind::Datagram && sending {
                peer.fasync
                    .tell(if receiving { Band::HangUp } else { Band::In });
            }
        }
        self.queue.wake();
        Ok(())
    }

    #[must_use]
    pub fn peer_name(&self) -> Option<Name> {
        let peer = self.lock().peer.clone()?;
        let name = peer.lock().name.clone();
        Some(name)
    }

    /// FIONREAD: all of a stream's bytes, or the next message's.
    fn readable_bytes(&self) -> Result<usize> {
        let state = self.lock();
        if matches!(state.phase, Phase::Listening(..)) {
            return Err(Errno::EINVAL);
        }
        Ok(match self.kind {
            Kind::Stream | Kind::Packets => state
                .messages
                .iter()
                .map(|message| message.rest().len())
                .sum(),
            Kind::Datagram => state
                .messages
                .front()
                .map_or(0, |message| message.bytes.len()),
        })
    }
}

/// The parts of a message's control data that a local socket knows. `EINVAL` another level's.
pub fn sort(control: &[Control]) -> (Vec<Arc<Description>>, Option<[u32; 3]>) {
    let (mut rights, mut credentials) = (Vec::new(), None);
    for item in control {
        match item {
            Control::Rights(descriptions) => rights.extend(descriptions.iter().cloned()),
            Control::Credentials(ids) => credentials = Some(*ids),
            Control::Raw(..) => {}
        }
    }
    (rights, credentials)
}
