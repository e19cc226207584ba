//! Frames of the guest.
use virtio_queue::{Queue, QueueT};

use super::Net;
use super::frame::{ETHERNET, HEADER, MAX_FRAME, SOURCE};
use crate::Memory;
use crate::devices::mmds;
use crate::virtio::{Broken, Chain, Outcome, Worked, drain_with};

impl Net {
    /// Sends what the driver offers, as long as there are tokens.
    pub(super) fn transmit(
        &mut self,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Worked, Broken> {
        if !queue.ready() || self.transmit_limiter.is_closed() {
            return Ok(Worked::default());
        }
        drain_with(queue, memory, |chain| self.send(chain, memory))
    }

    fn send(&mut self, chain: Chain, memory: &Memory) -> Result<Outcome, Broken> {
        let length = chain.readable_len();
        if !(HEADER + ETHERNET..=MAX_FRAME).contains(&length) {
            self.counts.tx_malformed_frames += 1;
            return Ok(Outcome::Done(chain, 0));
        }
        if !self.transmit_limiter.take(length as u64) {
            return Ok(Outcome::NotNow);
        }
        self.counts.tx_count += 1;
        let mut start = [0; mmds::ENOUGH];
        let read = chain.read(memory, HEADER, &mut start)?;
        let start = start.get(..read).unwrap_or_default();
        if self
            .identity
            .mac
            .as_ref()
            .is_some_and(|mac| start.get(SOURCE) != Some(mac))
        {
            self.counts.tx_spoofed_mac_count += 1;
        }
        if let Some(service) = self.service.as_mut().filter(|service| service.wants(start)) {
            let mut frame = vec![0; length - HEADER];
            chain.read(memory, HEADER, &mut frame)?;
            service.take(frame);
            return Ok(Outcome::Done(chain, 0));
        }
        let pieces = chain.readable(memory, 0, length)?;
        match self.link.write(&pieces) {
            Ok(_) => {
                self.counts.tx_packets_count += 1;
                self.counts.tx_bytes_count += length as u64;
            }
            // As on a wire: what cannot be sent is lost.
            Err(_) => {
                self.counts.tap_write_fails += 1;
                self.counts.tx_fails += 1;
            }
        }
        drop(pieces);
        Ok(Outcome::Done(chain, 0))
    }
}
