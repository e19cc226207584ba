//! Connections to the agent that is a container's program (docs/design/agent.md): carried byte by byte, with a program's three streams one way and its
//! terminal the other. Neither leaves its kernel: each is a stream of the link, and the peer on the host gets one of the host's own.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use casemate_guest_protocol::{Allowance, Bytes, CHANNEL, MAX_DATA, Receipt, ToGuest};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, accept_with, recvmsg, sendmsg,
};

use crate::relay::{Failure, Process, Relay};
use crate::terminal;

/// The agent's own bound is the memory of its sandbox; this one is the relay's.
const MAX_CHANNELS: usize = 256;
const STREAMS: usize = 3;
/// Of the relay's jail, which has a devpts of its own.
const MULTIPLEXER: &str = "/dev/pts/ptmx";

#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    /// The number of the streams of a program that is started on it.
    streams: u32,
    has_streams: bool,
    pub(crate) allowance: Allowance,
    receipt: Receipt,
    queue: VecDeque<Packet>,
    is_closing: bool,
}

/// What waits for the peer to take it.
#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    terminal: Option<OwnedFd>,
    /// Not before what the program has said is written.
    after_streams: bool,
}

impl Channel {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn poll_flags(&self, is_congested: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        if self.allowance.left() > 0 && !is_congested && !self.is_closing {
            flags |= PollFlags::IN;
        }
        if self
            .queue
            .front()
            .is_some_and(|packet| !packet.after_streams)
        {
            flags |= PollFlags::OUT;
        }
        flags
    }
}

impl Relay {
    /// Where connections come in, while there is room for more.
    pub(crate) fn agent_to_poll(&self) -> Option<&OwnedFd> {
        self.agent
            .as_ref()
            .filter(|_| self.channels.len() < MAX_CHANNELS)
    }

    pub(crate) fn accept_channel(&mut self) -> Result<(), Failure> {
        let Some(socket) = self
            .agent_to_poll()
            .and_then(|agent| accept_with(agent, SocketFlags::CLOEXEC).ok())
        else {
            return Ok(());
        };
        let (connection, streams) = (self.number(), self.number());
        let channel = Channel {
            socket,
            streams,
            has_streams: false,
            allowance: Allowance::default(),
            receipt: Receipt::default(),
            queue: VecDeque::new(),
            is_closing: false,
        };
        self.channels.insert(connection, channel);
        let container = self.first_name();
        Ok(self.link.send(&ToGuest::Connect {
            connection,
            streams,
            container,
        })?)
    }

    /// Bytes either way.
    pub(crate) fn serve_channel(&mut self, id: u32) -> Result<(), Failure> {
        self.send_packets(id)?;
        let Some(channel) = self.channels.get_mut(&id) else {
            return Ok(());
        };
        if channel.is_closing || channel.allowance.left() == 0 || self.link.is_congested() {
            return Ok(());
        }
        let mut bytes = vec![0; MAX_DATA.min(channel.allowance.left())];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(
            &channel.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            flags,
        );
        let count = match received {
            Ok(message) if message.bytes > 0 => message.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            _ => return self.hang_up(id),
        };
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                descriptors.extend(given);
            }
        }
        bytes.truncate(count);
        let with_streams = !descriptors.is_empty();
        if with_streams && (channel.has_streams || descriptors.len() != STREAMS) {
            // One program for each connection, with all of its streams: no client of ours asks for anything else.
            return self.hang_up(id);
        }
        channel.allowance.spend(count);
        channel.has_streams |= with_streams;
        let streams = channel.streams;
        if with_streams {
            self.attach_streams(streams, descriptors);
        }
        Ok(self.link.send(&ToGuest::Packet {
            connection: id,
            bytes: Bytes(bytes),
            with_streams,
        })?)
    }

    fn attach_streams(&mut self, id: u32, descriptors: Vec<OwnedFd>) {
        let mut process = Process {
            has_started: true,
            ..Process::default()
        };
        self.attach(id, &mut process, descriptors);
        self.processes.insert(id, process);
    }

    /// The peer is gone: the agent hears so. What its program still says is the streams'.
    fn hang_up(&mut self, id: u32) -> Result<(), Failure> {
        self.channels.remove(&id);
        Ok(self.link.send(&ToGuest::Close { connection: id })?)
    }

    /// Bytes from the agent.
    pub(crate) fn packet(
        &mut self,
        id: u32,
        bytes: Vec<u8>,
        with_terminal: bool,
        after_streams: bool,
    ) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(&id) else {
            return Ok(());
        };
        if !channel.receipt.receive(bytes.len()) || (with_terminal && channel.has_streams) {
            return Err(Failure::plain("the guest sent more than was allowed"));
        }
        let streams = channel.streams;
        let mut packet = Packet {
            bytes,
            terminal: None,
            after_streams,
        };
        channel.has_streams |= with_terminal;
        if with_terminal {
            let (master, slave) = terminal::open(MULTIPLEXER)?;
            let copy = rustix::io::fcntl_dupfd_cloexec(&slave, 3)?;
            self.attach_streams(streams, vec![slave, copy]);
            packet.terminal = Some(master);
        }
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.queue.push_back(packet);
        }
        self.send_packets(id)
    }

    /// Sends what the peer takes, as far as nothing of the program's is to come before.
    fn send_packets(&mut self, id: u32) -> Result<(), Failure> {
        loop {
            let Some(channel) = self.channels.get_mut(&id) else {
                return Ok(());
            };
            let Some(packet) = channel.queue.front_mut() else {
                if channel.is_closing {
                    self.channels.remove(&id);
                }
                return Ok(());
            };
            if packet.after_streams
                && self
                    .processes
                    .get(&channel.streams)
                    .is_some_and(Process::is_unwritten)
            {
                return Ok(());
            }
            packet.after_streams = false;
            match send(&channel.socket, packet) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(count) => {
                    packet.bytes.drain(..count);
                    packet.terminal = None;
                    if packet.bytes.is_empty() {
                        channel.queue.pop_front();
                    }
                    if let Some(bytes) = channel.receipt.take(count) {
                        self.link.send(&ToGuest::Credit {
                            process: id,
                            stream: CHANNEL,
                            bytes,
                        })?;
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return self.hang_up(id),
            }
        }
    }

    /// The streams of a program may have become empty: what waits for that goes on, and what is over is forgotten.
    pub(crate) fn settle_streams(&mut self, streams: u32) -> Result<(), Failure> {
        let waiting = self
            .channels
            .iter()
            .find(|(_, channel)| channel.streams == streams)
            .map(|(id, _)| *id);
        if let Some(id) = waiting {
            self.send_packets(id)?;
        }
        Ok(())
    }

    /// The agent is gone: the peer hears what was said before.
    pub(crate) fn channel_closed(&mut self, id: u32) -> Result<(), Failure> {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.is_closing = true;
        }
        self.send_packets(id)
    }
}

fn send(socket: &OwnedFd, packet: &Packet) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let terminal = packet.terminal.as_ref().map(|master| [master.as_fd()]);
    if let Some(descriptors) = &terminal {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(
        socket,
        &[IoSlice::new(&packet.bytes)],
        &mut ancillary,
        flags,
    )
}
