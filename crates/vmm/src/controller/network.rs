//! /network-interfaces/{iface_id}.
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{Controller, Placed, check_id, with_device};
use crate::api::model::{NetworkInterface, NetworkUpdate};
use crate::api::{Fault, Reply};
use crate::devices::mmds::{self, Service};
use crate::virtio::Device;
use crate::virtio::net::{Identity, Link, Net, Unplugged, open_tap};

/// IFNAMSIZ without its zero.
const MAX_NAME: usize = 15;
/// The smallest that IPv4 allows (RFC 791 §3.2).
const MIN_MTU: u16 = 68;
const TOPIC: &str = "Network config";

impl Controller {
    /// Keeps the configuration and opens the tap, so that a wrong name is answered here.
    pub(crate) fn put_network(
        &mut self,
        id: &str,
        network: NetworkInterface,
    ) -> Result<Reply, Fault> {
        check_id(id, &network.iface_id)?;
        self.add_network(network).map_err(Fault::about(TOPIC))
    }

    fn add_network(&mut self, network: NetworkInterface) -> Result<Reply, Fault> {
        let id = network.iface_id.clone();
        let name = &network.host_dev_name;
        if name.len() > MAX_NAME || name.contains(['/', '\0']) {
            return Err(Fault(format!(
                "Could not create the network device: invalid host_dev_name {name:?}."
            )));
        }
        if network.mtu.is_some_and(|mtu| mtu < MIN_MTU) {
            return Err(Fault(format!(
                "Could not create the network device: the smallest mtu is {MIN_MTU}."
            )));
        }
        if let Some(mac) = &network.guest_mac {
            if parse_mac(mac).is_none() {
                return Err(Fault(format!("Invalid MAC address: {mac}.")));
            }
            let others = self
                .config
                .network_interfaces
                .iter()
                .filter(|other| other.iface_id != id);
            if others
                .filter_map(|other| other.guest_mac.as_ref())
                .any(|other| other.eq_ignore_ascii_case(mac))
            {
                return Err(Fault(format!("The MAC address is already in use: {mac}")));
            }
        }
        // A tap has one user: the earlier one of this id makes room.
        self.links.remove(&id);
        let link = self.open_link(&id, name).map_err(|error| {
            Fault(format!(
                "Could not create the network device: Open tap device failed: {error}. Invalid TUN/TAP Backend provided by {name}."
            ))
        })?;
        self.links.insert(id.clone(), link);
        let networks = &mut self.config.network_interfaces;
        match networks.iter_mut().find(|other| other.iface_id == id) {
            Some(earlier) => *earlier = network,
            None => networks.push(network),
        }
        Ok(Reply::Done)
    }

    /// The tap of this name. Without a name: the one that was given for the card as a descriptor, else nothing.
    fn open_link(&mut self, id: &str, name: &str) -> io::Result<Box<dyn Link>> {
        if !name.is_empty() {
            return open_tap(name);
        }
        Ok(match self.taps.remove(id) {
            Some(tap) => tap,
            None => Box::new(Unplugged::new()?),
        })
    }

    /// Taps for the cards of these ids, which were there before the monitor.
    pub(crate) fn adopt_taps(&mut self, taps: BTreeMap<String, Box<dyn Link>>) {
        self.taps = taps;
    }

    /// A card that a tap was given for, and that the machine does not have.
    pub(crate) fn card_of_nobody(&self) -> Option<&str> {
        self.taps.keys().next().map(String::as_str)
    }

    /// The links become devices, some with the metadata service on them.
    pub(super) fn take_networks(&mut self) -> io::Result<Vec<(Placed, Box<dyn Device>)>> {
        let mut devices: Vec<(Placed, Box<dyn Device>)> = Vec::new();
        for network in &self.config.network_interfaces {
            let Some(link) = self.links.remove(&network.iface_id) else {
                continue;
            };
            let identity = Identity {
                mac: network.guest_mac.as_deref().and_then(parse_mac),
                mtu: network.mtu,
            };
            let receive = network.rx_rate_limiter.as_ref();
            let transmit = network.tx_rate_limiter.as_ref();
            let mut net = Net::new(link, identity, receive, transmit)?;
            let mmds = self.config.mmds_config.as_ref();
            if let Some(mmds) =
                mmds.filter(|mmds| mmds.network_interfaces.contains(&network.iface_id))
            {
                let address = mmds.ipv4_address.unwrap_or(mmds::DEFAULT_ADDRESS);
                net.serve(Service::new(address, Arc::clone(&self.mmds))?);
            }
            devices.push((Placed::Network(network.iface_id.clone()), Box::new(net)));
        }
        Ok(devices)
    }

    pub(crate) fn patch_network(
        &mut self,
        id: &str,
        update: &NetworkUpdate,
    ) -> Result<Reply, Fault> {
        check_id(id, &update.iface_id)?;
        self.change_network(update).map_err(Fault::about(TOPIC))
    }

    fn change_network(&mut self, update: &NetworkUpdate) -> Result<Reply, Fault> {
        let id = &update.iface_id;
        let place = self.place(&Placed::Network(id.clone()));
        let networks = &mut self.config.network_interfaces;
        let network = networks.iter_mut().find(|network| network.iface_id == *id);
        let (Some(place), Some(network)) = (place, network) else {
            return Err(Fault(format!(
                "Unable to update the network device: Device {id} not found."
            )));
        };
        let (receive, transmit) = (&update.rx_rate_limiter, &update.tx_rate_limiter);
        for (own, new) in [
            (&mut network.rx_rate_limiter, receive),
            (&mut network.tx_rate_limiter, transmit),
        ] {
            if let Some(new) = new {
                own.get_or_insert_default().merge(new);
            }
        }
        with_device(self.machine.as_ref(), place, |net: &mut Net| {
            net.limit(receive.as_ref(), transmit.as_ref());
        });
        Ok(Reply::Done)
    }
}

/// Six pairs of digits with colons between them.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let byte = |part: &str| {
        let is_pair = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_pair.then(|| u8::from_str_radix(part, 16).ok()).flatten()
    };
    let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_mac;

    #[test]
    fn a_mac_has_six_pairs() {
        assert_eq!(parse_mac("06:00:aC:10:00:01"), Some([6, 0, 0xac, 16, 0, 1]));
        for wrong in [
            "",
            "06:00:ac:10:00",
            "6:0:ac:10:0:1",
            "06:00:ac:10:00:01:02",
            "06:00:ac:10:00:+1",
        ] {
            assert_eq!(parse_mac(wrong), None);
        }
    }
}
