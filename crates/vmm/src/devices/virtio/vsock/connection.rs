//! One stream between a guest's port and a Unix socket, with virtio's credit on one side and the socket's buffer on the other.
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::packet::{Header, NO_RECEIVE, NO_SEND, Operation};

/// What we hold for a slow reader on the host. A guest that sends more than this breaks its credit and is reset (§5.10.6.3).
const CAPACITY: u32 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// We asked the guest, on behalf of a host program.
    Asked,
    Open,
    /// Nothing more to do but to forget it.
    Dead,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) host_port: u32,
    pub(super) guest_port: u32,
    pub(super) state: State,
    socket: UnixStream,
    /// Bytes of the guest that the socket did not take yet.
    backlog: VecDeque<u8>,
    forwarded: u32,
    forwarded_told: u32,
    guest_capacity: u32,
    guest_forwarded: u32,
    sent: u32,
    /// Edges seen and not used up.
    is_readable: bool,
    host_ended: bool,
    guest_sends_no_more: bool,
    guest_takes_no_more: bool,
}

impl Connection {
    pub(super) fn new(
        socket: UnixStream,
        host_port: u32,
        guest_port: u32,
        state: State,
    ) -> Connection {
        Connection {
            host_port,
            guest_port,
            state,
            socket,
            backlog: VecDeque::new(),
            forwarded: 0,
            forwarded_told: 0,
            guest_capacity: 0,
            guest_forwarded: 0,
            sent: 0,
            // Data may have come before the connection existed.
            is_readable: true,
            host_ended: false,
            guest_sends_no_more: false,
            guest_takes_no_more: false,
        }
    }

    pub(super) fn capacity(&self) -> u32 {
        CAPACITY
    }

    /// The count that the next packet carries.
    pub(super) fn tell_forwarded(&mut self) -> u32 {
        self.forwarded_told = self.forwarded;
        self.forwarded
    }

    /// Every packet of the guest carries its credit.
    pub(super) fn learn_credit(&mut self, header: &Header) {
        self.guest_capacity = header.capacity;
        self.guest_forwarded = header.forwarded;
    }

    /// The guest said yes: tell the host program, with the port that it has on the host's side.
    pub(super) fn accepted(&mut self) {
        self.state = State::Open;
        let line = format!("OK {}\n", self.host_port);
        if self.socket.write_all(line.as_bytes()).is_err() {
            self.state = State::Dead;
        }
    }

    pub(super) fn socket_event(&mut self) -> io::Result<()> {
        self.is_readable = true;
        self.flush()
    }

    /// Takes data of the guest. False if it has no credit for that much.
    pub(super) fn receive(&mut self, data: &[u8]) -> bool {
        let limit = usize::try_from(CAPACITY).unwrap_or(usize::MAX);
        if self.guest_sends_no_more || self.backlog.len() + data.len() > limit {
            return false;
        }
        self.backlog.extend(data);
        self.flush().is_ok()
    }

    /// Writes the backlog as far as the socket takes it.
    fn flush(&mut self) -> io::Result<()> {
        while !self.backlog.is_empty() {
            let (first, _) = self.backlog.as_slices();
            match self.socket.write(first) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(done) => {
                    self.backlog.drain(..done);
                    self.forwarded = self
                        .forwarded
                        .wrapping_add(u32::try_from(done).unwrap_or(0));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.guest_sends_no_more {
            // A host program that is gone needs no end of file.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// The guest closes one or both directions.
    pub(super) fn shut(&mut self, flags: u32) {
        self.guest_takes_no_more |= flags & NO_RECEIVE != 0;
        self.guest_sends_no_more |= flags & NO_SEND != 0;
        if self.flush().is_err() {
            self.state = State::Dead;
        }
    }

    /// Both directions are done and nothing waits: the device answers with a reset, which frees the guest's port.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Dead
            || self.guest_takes_no_more && self.guest_sends_no_more && self.backlog.is_empty()
    }

    /// Half of what we can hold was taken since the guest last heard of it.
    pub(super) fn owes_credit(&self) -> bool {
        self.state == State::Open
            && self.forwarded.wrapping_sub(self.forwarded_told) >= CAPACITY / 2
    }

    fn credit(&self) -> u32 {
        self.guest_capacity
            .saturating_sub(self.sent.wrapping_sub(self.guest_forwarded))
    }

    /// Whether [`Connection::next`] may have a packet.
    pub(super) fn wants_to_send(&self) -> bool {
        self.state == State::Open
            && self.is_readable
            && !self.host_ended
            && !self.guest_takes_no_more
            && self.credit() > 0
    }

    /// Reads what the host program sent into `buffer` and says what to tell the guest.
    pub(super) fn next(&mut self, buffer: &mut [u8]) -> Option<(Operation, u32, usize)> {
        let room = buffer
            .len()
            .min(usize::try_from(self.credit()).unwrap_or(usize::MAX));
        let into = buffer.get_mut(..room).filter(|into| !into.is_empty())?;
        loop {
            match self.socket.read(into) {
                Ok(0) => {
                    self.host_ended = true;
                    return Some((Operation::Shutdown, NO_SEND, 0));
                }
                Ok(done) => {
                    self.sent = self.sent.wrapping_add(u32::try_from(done).unwrap_or(0));
                    return Some((Operation::Data, 0, done));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_readable = false;
                    return None;
                }
                Err(_) => {
                    self.state = State::Dead;
                    return None;
                }
            }
        }
    }
}
