//! /network-interfaces/{iface_id}: the configuration. The device itself is not in this version, and InstanceStart says so.
use super::{Controller, check_id};
use crate::api::model::NetworkInterface;
use crate::api::{Fault, Reply};

/// IFNAMSIZ without its zero.
const MAX_NAME: usize = 15;

impl Controller {
    pub(crate) fn put_network(
        &mut self,
        id: &str,
        network: NetworkInterface,
    ) -> Result<Reply, Fault> {
        check_id(id, &network.iface_id)?;
        let name = &network.host_dev_name;
        if name.is_empty() || name.len() > MAX_NAME || name.contains(['/', '\0']) {
            return Err(Fault(format!(
                "Could not create the network device: invalid host_dev_name {name:?}."
            )));
        }
        if let Some(mac) = &network.guest_mac {
            if !is_mac(mac) {
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
        let networks = &mut self.config.network_interfaces;
        match networks.iter_mut().find(|other| other.iface_id == id) {
            Some(earlier) => *earlier = network,
            None => networks.push(network),
        }
        Ok(Reply::Done)
    }
}

fn is_mac(text: &str) -> bool {
    let is_byte =
        |part: &str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(is_byte)
}
