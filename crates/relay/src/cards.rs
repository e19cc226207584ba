//! A machine's network cards: each is a tap that the hypervisor inherits, and nothing else of the network.

use std::os::fd::{AsRawFd, OwnedFd};

use casemate_guest_protocol::network::{card_mac, mac_text};
use casemate_network::Tap;

use crate::Config;

/// A card's frames may be as long as any Ethernet's: what is shorter the guest learns with its network.
const LEAST_MTU: u32 = 1500;

/// Puts a card for each tap into the machine; the taps' descriptors join those that the hypervisor inherits. Returns the taps' names.
pub(crate) fn plug(config: &mut Config, taps: Vec<Tap>, inherit: &mut Vec<OwnedFd>) -> Vec<String> {
    let names = taps.iter().map(|tap| tap.name.clone()).collect();
    let mut words = Vec::new();
    // The last first: the functions of a slot are found when the first is plugged in.
    for (place, tap) in (0u8..).zip(taps).collect::<Vec<_>>().into_iter().rev() {
        words.extend(config.card.iter().map(|word| {
            word.replace("{place}", &place.to_string())
                .replace("{tap}", &tap.fd.as_raw_fd().to_string())
                .replace("{mac}", &mac_text(card_mac(place)))
                .replace("{mtu}", &tap.mtu.max(LEAST_MTU).to_string())
        }));
        inherit.push(tap.fd);
    }
    // Only a monitor that takes orders plugs a card into a machine that is restored.
    match &mut config.restored {
        Some(lines) if !config.orders.is_empty() => lines.extend(words),
        _ => config.command.extend(words),
    }
    names
}
