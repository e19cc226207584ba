//! A network card (virtio 1.2 §5.1): frames between the guest and a tap interface of the host, and the metadata service on the way.
//!
//! The virtual CPU that rings sends; the loop receives, or the virtual CPU that brings new buffers. A frame is read from the tap into a
//! buffer of ours and then spread over the driver's: how many of those it needs is only known when its length is.
mod frame;
mod link;
mod receive;
mod transmit;

use std::io;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};
use virtio_queue::Queue;

pub use self::link::{Link, Unplugged, adopt_tap, open_tap};
use self::receive::Incoming;
use super::{Broken, Device, Worked};
use crate::Memory;
use crate::devices::limiter::{Level, Limits, RateLimiter};
use crate::devices::mmds::Service;
use crate::devices::state::{DeviceState, StateError};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

// Feature bits of §5.1.3.
const CSUM: u64 = 1 << 0;
const GUEST_CSUM: u64 = 1 << 1;
const MTU: u64 = 1 << 3;
const MAC: u64 = 1 << 5;
const GUEST_TSO4: u64 = 1 << 7;
const GUEST_TSO6: u64 = 1 << 8;
const GUEST_UFO: u64 = 1 << 10;
const HOST_TSO4: u64 = 1 << 11;
const HOST_TSO6: u64 = 1 << 12;
const HOST_UFO: u64 = 1 << 14;
const MERGEABLE: u64 = 1 << 15;
const OFFLOADS: u64 = CSUM
    | GUEST_CSUM
    | GUEST_TSO4
    | GUEST_TSO6
    | GUEST_UFO
    | HOST_TSO4
    | HOST_TSO6
    | HOST_UFO
    | MERGEABLE;

/// Version of its state.
const STATE: u16 = 1;

/// What the driver reads in the configuration space (§5.1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub mac: Option<[u8; 6]>,
    pub mtu: Option<u16>,
}

/// For the metrics, with Firecracker's names.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counts {
    activate_fails: u64,
    rx_queue_event_count: u64,
    rx_event_rate_limiter_count: u64,
    rx_rate_limiter_throttled: u64,
    rx_tap_event_count: u64,
    rx_bytes_count: u64,
    rx_packets_count: u64,
    rx_fails: u64,
    rx_count: u64,
    no_rx_avail_buffer: u64,
    tap_read_fails: u64,
    tap_write_fails: u64,
    tx_bytes_count: u64,
    tx_malformed_frames: u64,
    tx_fails: u64,
    tx_count: u64,
    tx_packets_count: u64,
    tx_queue_event_count: u64,
    tx_rate_limiter_throttled: u64,
    tx_spoofed_mac_count: u64,
}

/// Everything of it that a copy needs.
#[derive(Serialize, Deserialize)]
struct Content {
    frame: Vec<u8>,
    is_paid: bool,
    levels: [[Option<Level>; 2]; 2],
}

#[derive(Debug)]
pub struct Net {
    identity: Identity,
    link: Box<dyn Link>,
    features: u64,
    incoming: Incoming,
    receive_limiter: RateLimiter,
    transmit_limiter: RateLimiter,
    service: Option<Service>,
    pub(crate) counts: Counts,
}

impl Net {
    /// # Errors
    /// If the kernel has no timer left.
    pub fn new(
        link: Box<dyn Link>,
        identity: Identity,
        receive: Option<&Limits>,
        transmit: Option<&Limits>,
    ) -> io::Result<Net> {
        Ok(Net {
            identity,
            link,
            features: 0,
            incoming: Incoming::default(),
            receive_limiter: RateLimiter::new(receive)?,
            transmit_limiter: RateLimiter::new(transmit)?,
            service: None,
            counts: Counts::default(),
        })
    }

    /// Puts the metadata service on this card.
    pub fn serve(&mut self, service: Service) {
        self.service = Some(service);
    }

    /// New limits; those that are not named stay.
    pub fn limit(&mut self, receive: Option<&Limits>, transmit: Option<&Limits>) {
        let update = |limiter: &mut RateLimiter, limits: Option<&Limits>| {
            limits.into_iter().for_each(|limits| limiter.update(limits));
        };
        update(&mut self.receive_limiter, receive);
        update(&mut self.transmit_limiter, transmit);
    }

    fn is_mergeable(&self) -> bool {
        self.features & MERGEABLE != 0
    }

    fn exchange(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        let [receive, transmit, ..] = queues else {
            return Ok(Worked::default());
        };
        let sent = self.transmit(transmit, memory)?;
        Ok(sent.and(self.receive(receive, memory)?))
    }
}

impl Device for Net {
    fn kind(&self) -> u32 {
        1
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 256]
    }

    fn features(&self) -> u64 {
        let mac = self.identity.mac.map_or(0, |_| MAC);
        let mtu = self.identity.mtu.map_or(0, |_| MTU);
        OFFLOADS | mac | mtu
    }

    /// `mac`, `status`, `max_virtqueue_pairs`, `mtu`; the second and third belong to features that are not offered.
    fn config(&self) -> Vec<u8> {
        let mut config = self.identity.mac.unwrap_or_default().to_vec();
        config.extend([0; 4]);
        config.extend(self.identity.mtu.unwrap_or_default().to_le_bytes());
        config
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
        if self.link.set_offload(link::offload(features)).is_err() {
            self.counts.activate_fails += 1;
        }
    }

    fn reset(&mut self) {
        self.features = 0;
        self.incoming.clear();
        if let Some(service) = &mut self.service {
            service.reset();
        }
    }

    fn work(
        &mut self,
        index: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        match index {
            RECEIVE => self.counts.rx_queue_event_count += 1,
            _ => self.counts.tx_queue_event_count += 1,
        }
        match (index, queues) {
            (RECEIVE, [receive, ..]) => self.receive(receive, memory),
            (TRANSMIT, queues) => self.exchange(queues, memory),
            _ => Ok(Worked::default()),
        }
    }

    fn event_fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![
            self.link.fd(),
            self.receive_limiter.fd(),
            self.transmit_limiter.fd(),
        ];
        fds.extend(self.service.as_ref().map(Service::fd));
        fds
    }

    fn ready(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Worked, Broken> {
        self.counts.rx_tap_event_count += 1;
        self.incoming.look_again();
        if let Some(service) = &mut self.service {
            service.tick();
        }
        let worked = self.exchange(queues, memory)?;
        if worked.more {
            // The loop comes back by this timer: what is left in the tap makes no new edge.
            self.receive_limiter.come_back();
        }
        Ok(worked)
    }

    fn save(&self) -> DeviceState {
        let content = Content {
            frame: self.incoming.frame().to_vec(),
            is_paid: self.incoming.is_paid,
            levels: [self.receive_limiter.save(), self.transmit_limiter.save()],
        };
        DeviceState::new(self.kind(), STATE, &content)
    }

    fn restore(&mut self, state: &DeviceState, _memory: &Memory) -> Result<(), StateError> {
        let content: Content = state.read(self.kind(), STATE)?;
        if !self.incoming.take_over(&content.frame, content.is_paid) {
            return Err(StateError::Unfit("a network frame"));
        }
        let [receive, transmit] = content.levels;
        self.receive_limiter.restore(receive);
        self.transmit_limiter.restore(transmit);
        Ok(())
    }

    fn metrics(&mut self) -> Option<serde_json::Value> {
        let mut counts = std::mem::take(&mut self.counts);
        counts.rx_rate_limiter_throttled = std::mem::take(&mut self.receive_limiter.nr_throttled);
        counts.tx_rate_limiter_throttled = std::mem::take(&mut self.transmit_limiter.nr_throttled);
        serde_json::to_value(counts).ok()
    }
}
