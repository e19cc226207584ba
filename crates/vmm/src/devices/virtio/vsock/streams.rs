//! All streams of a guest, and the packets that wait for it.
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::BorrowedFd;

use super::connection::{Connection, State};
use super::host::{Event, Host};
use super::packet::{HOST_CID, Header, Operation, STREAM};

/// Each stream costs a descriptor and up to 64 KiB of ours.
const MAX_STREAMS: usize = 256;
/// Answers that wait for a buffer of the guest.
const MAX_ANSWERS: usize = 256;
/// Ports for host programs, above those that Linux hands out itself.
const FIRST_HOST_PORT: u32 = 1 << 30;

#[derive(Debug)]
pub(super) struct Streams {
    guest_cid: u64,
    host: Host,
    open: BTreeMap<u64, Connection>,
    by_ports: HashMap<(u32, u32), u64>,
    answers: VecDeque<Header>,
    next_host_port: u32,
    /// The stream that was served last; the next search starts behind it, so that one cannot starve the others.
    last_served: u64,
    pub(super) nr_packets: u64,
}

impl Streams {
    pub(super) fn new(guest_cid: u64, host: Host) -> Streams {
        Streams {
            guest_cid,
            host,
            open: BTreeMap::new(),
            by_ports: HashMap::new(),
            answers: VecDeque::new(),
            next_host_port: FIRST_HOST_PORT,
            last_served: 0,
            nr_packets: 0,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.host.fd()
    }

    pub(super) fn has_room(&self) -> bool {
        self.answers.len() < MAX_ANSWERS
    }

    pub(super) fn close_all(&mut self) {
        self.open.clear();
        self.by_ports.clear();
        self.answers.clear();
    }

    /// Handles what happened on the host's sockets.
    pub(super) fn poll(&mut self) {
        for event in self.host.events(self.open.len(), MAX_STREAMS) {
            match event {
                Event::Connect { id, port, socket } => {
                    let host_port = self.free_host_port(port);
                    let stream = Connection::new(socket, host_port, port, State::Asked);
                    self.insert(id, stream);
                    self.answer(host_port, port, Operation::Request);
                }
                Event::Socket(id) => {
                    let Some(stream) = self.open.get_mut(&id) else {
                        continue;
                    };
                    if stream.socket_event().is_err() {
                        stream.state = State::Dead;
                    }
                    self.settle(id);
                }
            }
        }
    }

    fn free_host_port(&mut self, guest_port: u32) -> u32 {
        // Ends: there are far more ports than streams.
        loop {
            let port = self.next_host_port;
            self.next_host_port = port
                .checked_add(1)
                .filter(|next| *next < u32::MAX)
                .unwrap_or(FIRST_HOST_PORT);
            if !self.by_ports.contains_key(&(port, guest_port)) {
                return port;
            }
        }
    }

    fn insert(&mut self, id: u64, stream: Connection) {
        self.by_ports
            .insert((stream.host_port, stream.guest_port), id);
        self.open.insert(id, stream);
    }

    /// Takes a packet of the guest.
    pub(super) fn receive(&mut self, header: &Header, data: &[u8]) {
        if header.source_cid != self.guest_cid || header.target_cid != HOST_CID {
            return;
        }
        let (host_port, guest_port) = (header.target_port, header.source_port);
        let known = self.by_ports.get(&(host_port, guest_port)).copied();
        match (header.operation, known) {
            (Some(Operation::Reset), Some(id)) => self.forget(id),
            (Some(Operation::Reset), None) => {}
            (Some(Operation::Request), None) if header.kind == STREAM => self.request(header),
            (Some(operation), Some(id)) if header.kind == STREAM => {
                self.continue_stream(id, operation, header, data)
            }
            // §5.10.6.4.1: an unknown stream or kind is answered with a reset.
            _ => self.answer(host_port, guest_port, Operation::Reset),
        }
    }

    fn request(&mut self, header: &Header) {
        let (host_port, guest_port) = (header.target_port, header.source_port);
        let connected = if self.open.len() < MAX_STREAMS {
            self.host.connect(host_port).ok()
        } else {
            None
        };
        let Some((id, socket)) = connected else {
            self.answer(host_port, guest_port, Operation::Reset);
            return;
        };
        let mut stream = Connection::new(socket, host_port, guest_port, State::Open);
        stream.learn_credit(header);
        self.insert(id, stream);
        self.answer(host_port, guest_port, Operation::Response);
    }

    fn continue_stream(&mut self, id: u64, operation: Operation, header: &Header, data: &[u8]) {
        let Some(stream) = self.open.get_mut(&id) else {
            return;
        };
        stream.learn_credit(header);
        match (operation, stream.state) {
            (Operation::Response, State::Asked) => stream.accepted(),
            (Operation::Data, State::Open) => {
                if !stream.receive(data) {
                    stream.state = State::Dead;
                }
            }
            (Operation::Shutdown, State::Open) => stream.shut(header.flags),
            (Operation::CreditRequest, State::Open) => {
                let (host_port, guest_port) = (stream.host_port, stream.guest_port);
                self.answer(host_port, guest_port, Operation::CreditUpdate);
            }
            (Operation::CreditUpdate, _) => {}
            _ => stream.state = State::Dead,
        }
        self.settle(id);
    }

    /// Ends a stream that is over and tells the guest; asks for an update of its credit where one is due.
    fn settle(&mut self, id: u64) {
        let Some(stream) = self.open.get(&id) else {
            return;
        };
        let (host_port, guest_port) = (stream.host_port, stream.guest_port);
        if stream.is_over() {
            self.forget(id);
            self.answer(host_port, guest_port, Operation::Reset);
        } else if stream.owes_credit() {
            self.answer(host_port, guest_port, Operation::CreditUpdate);
        }
    }

    fn forget(&mut self, id: u64) {
        if let Some(stream) = self.open.remove(&id) {
            self.by_ports.remove(&(stream.host_port, stream.guest_port));
        }
    }

    fn answer(&mut self, host_port: u32, guest_port: u32, operation: Operation) {
        let header = self.header(host_port, guest_port, operation);
        self.answers.push_back(header);
    }

    fn header(&mut self, host_port: u32, guest_port: u32, operation: Operation) -> Header {
        let id = self.by_ports.get(&(host_port, guest_port));
        let stream = id.and_then(|id| self.open.get_mut(id));
        let (capacity, forwarded) = stream.map_or((0, 0), |stream| {
            (stream.capacity(), stream.tell_forwarded())
        });
        Header {
            source_cid: HOST_CID,
            target_cid: self.guest_cid,
            source_port: host_port,
            target_port: guest_port,
            length: 0,
            kind: STREAM,
            operation: Some(operation),
            flags: 0,
            capacity,
            forwarded,
        }
    }

    /// The next packet for the guest; its data goes into `buffer`.
    pub(super) fn next(&mut self, buffer: &mut [u8]) -> Option<Header> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        loop {
            let id = self.next_sender()?;
            let stream = self.open.get_mut(&id)?;
            let (host_port, guest_port) = (stream.host_port, stream.guest_port);
            if let Some((operation, flags, length)) = stream.next(buffer) {
                self.last_served = id;
                let length = u32::try_from(length).unwrap_or(0);
                return Some(Header {
                    flags,
                    length,
                    ..self.header(host_port, guest_port, operation)
                });
            }
            if stream.is_over() {
                self.forget(id);
                return Some(self.header(host_port, guest_port, Operation::Reset));
            }
            if stream.wants_to_send() {
                // A buffer without room for data: nothing to be done with this one.
                return None;
            }
        }
    }

    fn next_sender(&self) -> Option<u64> {
        let wants = |(_, stream): &(&u64, &Connection)| stream.wants_to_send();
        let behind = self.open.range(self.last_served + 1..).find(wants);
        behind
            .or_else(|| self.open.iter().find(wants))
            .map(|(id, _)| *id)
    }
}
