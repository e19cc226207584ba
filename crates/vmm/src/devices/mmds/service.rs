//! The service on one network card: smoltcp's TCP between the guest's frames and the requests.
use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::event::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant as Time};
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};

use super::http::{self, MAX_REQUEST, Step};
use super::store::Store;
use crate::devices::lock;

/// Ethernet and IPv4 headers, or Ethernet and ARP: enough to see for whom a frame is.
pub const ENOUGH: usize = 14 + 28;
/// Firecracker's.
const MAC: EthernetAddress = EthernetAddress([0x06, 0x01, 0x23, 0x45, 0x67, 0x01]);
const PORT: u16 = 80;
const MTU: usize = 1514;
/// Connections at once. With one more, the one that was silent for longest ends.
const NR_SOCKETS: usize = 8;
/// A guest that takes no frames stops the service, and not the monitor's memory.
const MAX_FRAMES: usize = 64;
const SEND_BUFFER: usize = 8 << 10;
const SILENCE: Duration = Duration::from_secs(60);

/// Frames between the card and the stack.
#[derive(Debug, Default)]
struct Wire {
    from_guest: VecDeque<Vec<u8>>,
    to_guest: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Incoming(Vec<u8>);
#[derive(Debug)]
struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _now: Time) -> Option<(Incoming, Outgoing<'_>)> {
        if self.to_guest.len() >= MAX_FRAMES {
            return None;
        }
        let frame = self.from_guest.pop_front()?;
        Some((Incoming(frame), Outgoing(&mut self.to_guest)))
    }

    fn transmit(&mut self, _now: Time) -> Option<Outgoing<'_>> {
        (self.to_guest.len() < MAX_FRAMES).then_some(Outgoing(&mut self.to_guest))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU;
        // The guest may leave checksums to the card, and nothing on this way can damage a frame.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

/// One connection's request and answer.
#[derive(Debug)]
struct Connection {
    handle: SocketHandle,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    closes: bool,
    is_open: bool,
    last_heard: u64,
}

pub struct Service {
    address: Ipv4Addr,
    store: Arc<Mutex<Store>>,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    began: Instant,
    timer: OwnedFd,
    clock: u64,
}

impl Service {
    /// # Errors
    /// If the kernel has no timer left.
    pub fn new(address: Ipv4Addr, store: Arc<Mutex<Store>>) -> io::Result<Service> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let mut wire = Wire::default();
        let mut config = Config::new(MAC.into());
        // Sequence numbers and ports: a guest can only fool itself.
        config.random_seed = u64::from(address.to_bits());
        let mut interface = Interface::new(config, &mut wire, Time::ZERO);
        // A guest may have any address: with an empty prefix all are neighbours.
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(address, 0)));
        });
        let mut service = Service {
            address,
            store,
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            began: Instant::now(),
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            clock: 0,
        };
        service.listen();
        Ok(service)
    }

    fn listen(&mut self) {
        for _ in 0..NR_SOCKETS {
            let receive = tcp::SocketBuffer::new(vec![0; MAX_REQUEST]);
            let send = tcp::SocketBuffer::new(vec![0; SEND_BUFFER]);
            let mut socket = tcp::Socket::new(receive, send);
            socket.set_timeout(Some(SILENCE));
            // Fails only for port 0 and for a socket that is open.
            let _ = socket.listen(PORT);
            self.connections.push(Connection {
                handle: self.sockets.add(socket),
                input: Vec::new(),
                output: Vec::new(),
                sent: 0,
                closes: false,
                is_open: false,
                last_heard: 0,
            });
        }
    }

    /// The driver starts again: connections are gone.
    pub(crate) fn reset(&mut self) {
        self.wire = Wire::default();
        self.sockets = SocketSet::new(Vec::new());
        self.connections.clear();
        self.listen();
    }

    /// Becomes readable when [`Service::tick`] has something to do.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Whether a frame that begins with `start` is for this service: ARP for its address, or IPv4 to it.
    pub(crate) fn wants(&self, start: &[u8]) -> bool {
        let address = self.address.octets();
        match start.get(12..14) {
            Some([0x08, 0x06]) => start.get(38..42) == Some(&address),
            Some([0x08, 0x00]) => start.get(30..34) == Some(&address),
            _ => false,
        }
    }

    /// Takes a frame of the guest. One too many is lost, as on a wire.
    pub(crate) fn take(&mut self, frame: Vec<u8>) {
        if self.wire.from_guest.len() < MAX_FRAMES {
            self.wire.from_guest.push_back(frame);
            lock(&self.store).counts.rx_accepted += 1;
        }
        self.work();
    }

    /// The next frame for the guest.
    pub(crate) fn next_frame(&mut self) -> Option<Vec<u8>> {
        if self.wire.to_guest.is_empty() {
            return None;
        }
        let frame = self.wire.to_guest.pop_front()?;
        {
            let mut store = lock(&self.store);
            store.counts.tx_frames += 1;
            store.counts.tx_bytes += frame.len() as u64;
        }
        if self.wire.to_guest.is_empty() {
            // The stack may have more, now that there is room.
            self.work();
        }
        Some(frame)
    }

    /// Retransmissions and time-outs.
    pub(crate) fn tick(&mut self) {
        let mut count = [0; 8];
        if rustix::io::read(&self.timer, &mut count).is_ok() {
            self.work();
        }
    }

    fn now(&self) -> Time {
        Time::from_micros(i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    fn work(&mut self) {
        // Ends: each turn takes frames off the wire, or moves bytes that are there once.
        loop {
            let now = self.now();
            let before = (self.wire.from_guest.len(), self.wire.to_guest.len());
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            let moved = self.serve();
            let after = (self.wire.from_guest.len(), self.wire.to_guest.len());
            if !moved && before == after {
                break;
            }
        }
        self.make_room();
        self.arm();
    }

    /// Moves bytes between sockets and requests. Returns whether any moved.
    fn serve(&mut self) -> bool {
        let mut moved = false;
        for connection in &mut self.connections {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(connection.handle);
            moved |= connection.turn(socket, &self.store, &mut self.clock);
        }
        moved
    }

    /// Keeps one socket listening.
    fn make_room(&mut self) {
        let listens = |connection: &Connection| {
            self.sockets
                .get::<tcp::Socket<'_>>(connection.handle)
                .is_listening()
        };
        if self.connections.iter().any(listens) {
            return;
        }
        let quietest = self
            .connections
            .iter_mut()
            .min_by_key(|connection| connection.last_heard);
        if let Some(connection) = quietest {
            // Its reset goes out with the next poll; then it listens again.
            self.sockets
                .get_mut::<tcp::Socket<'_>>(connection.handle)
                .abort();
        }
    }

    fn arm(&mut self) {
        let now = self.now();
        let rest = match self.interface.poll_delay(now, &self.sockets) {
            // Zero would stop the timer.
            Some(rest) => rest.total_micros().max(1),
            None => 0,
        };
        let time = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(rest / 1_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(rest % 1_000_000 * 1000).unwrap_or(0),
            },
        };
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time);
    }
}

impl Connection {
    fn turn(
        &mut self,
        socket: &mut tcp::Socket<'_>,
        store: &Mutex<Store>,
        clock: &mut u64,
    ) -> bool {
        if !socket.is_open() {
            if std::mem::take(&mut self.is_open) {
                lock(store).counts.connections_destroyed += 1;
            }
            self.input.clear();
            self.output.clear();
            self.sent = 0;
            self.closes = false;
            return socket.listen(PORT).is_ok();
        }
        if socket.is_active() && !std::mem::replace(&mut self.is_open, true) {
            lock(store).counts.connections_created += 1;
            *clock += 1;
            self.last_heard = *clock;
        }
        let mut moved = false;
        if socket.can_recv() && !self.closes && self.input.len() < MAX_REQUEST {
            let room = MAX_REQUEST - self.input.len();
            let taken = socket.recv(|bytes| {
                let taken = bytes.len().min(room);
                self.input.extend(bytes.get(..taken).unwrap_or_default());
                (taken, taken)
            });
            moved |= taken.is_ok_and(|taken| taken > 0);
            *clock += 1;
            self.last_heard = *clock;
        }
        // One request after the other: the next waits until its predecessor's answer is out.
        if !self.closes && self.output.is_empty() && !self.input.is_empty() {
            if let Step::Answer {
                bytes,
                taken,
                closes,
            } = http::step(&self.input, &mut lock(store))
            {
                self.input.drain(..taken.min(self.input.len()));
                self.output = bytes;
                self.sent = 0;
                self.closes = closes;
                moved = true;
            }
        }
        let rest = self.output.get(self.sent..).unwrap_or_default();
        if !rest.is_empty() && socket.can_send() {
            if let Ok(done) = socket.send_slice(rest) {
                self.sent += done;
                moved |= done > 0;
            }
        }
        if self.sent >= self.output.len() {
            self.output.clear();
            self.sent = 0;
            // The guest sends no more, or the answer was the last.
            if (self.closes || !socket.may_recv())
                && socket.may_send()
                && socket.is_active()
                && self.is_done(socket)
            {
                socket.close();
                moved = true;
            }
        }
        moved
    }

    /// Whether nothing of this connection waits for us: a connection that is being made, or a half request, does not end here.
    fn is_done(&self, socket: &tcp::Socket<'_>) -> bool {
        self.closes || socket.state() == tcp::State::CloseWait && !socket.can_recv()
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Service")
            .field("address", &self.address)
            .field("wire", &self.wire)
            .finish_non_exhaustive()
    }
}
