//! What a network namespace of the host has, for a guest that takes it over: interfaces with their addresses, routes, neighbours.

use std::net::{AddrParseError, IpAddr};

use serde::{Deserialize, Serialize};

/// As many as a slot of QEMU's PCI bus has functions.
pub const MAX_INTERFACES: usize = 8;

/// An address as text: serde's own form differs between readers, and a message with a tag is read twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ip(pub IpAddr);

impl From<Ip> for String {
    fn from(ip: Ip) -> Self {
        ip.0.to_string()
    }
}

impl TryFrom<String> for Ip {
    type Error = AddrParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The machine's card of an interface is the one of its place in here.
    pub interfaces: Vec<Interface>,
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    pub name: String,
    pub mac: [u8; 6],
    pub mtu: u32,
    pub addresses: Vec<Address>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    pub address: Ip,
    pub prefix: u8,
    /// The other end, if it is not of the same network.
    #[serde(default)]
    pub peer: Option<Ip>,
    #[serde(default)]
    pub broadcast: Option<Ip>,
    /// RT_SCOPE_*, linux/rtnetlink.h; here and below.
    pub scope: u8,
    /// The kernel makes no route to the address's network.
    #[serde(default)]
    pub has_no_route: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub destination: Ip,
    pub prefix: u8,
    /// By its place; none of a route that refuses.
    #[serde(default)]
    pub interface: Option<u8>,
    #[serde(default)]
    pub gateway: Option<Ip>,
    #[serde(default)]
    pub source: Option<Ip>,
    #[serde(default)]
    pub metric: u32,
    pub scope: u8,
    /// RTN_*.
    pub kind: u8,
    /// The gateway is reached though no route says so.
    #[serde(default)]
    pub is_on_link: bool,
}

/// Of those that somebody has set, and no kernel found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    pub interface: u8,
    pub address: Ip,
    pub mac: [u8; 6],
}

/// The address of a machine's card before its network is known, by which the guest finds it.
#[must_use]
pub fn card_mac(place: u8) -> [u8; 6] {
    // Locally administered.
    [0x02, 0x63, 0x6d, 0, 0, place]
}

/// As everybody writes it.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
