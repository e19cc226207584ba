//! In the guest: the machine's cards become what the network namespace of the host has.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use casemate_guest_protocol::network::{
    Address, Interface, Ip, Neighbour, Network, Route, card_mac, mac_text,
};
use rustix::io::Errno;

use crate::error::{About, Error, Result};
use crate::kernel::{
    AF_INET, AF_INET6, IFA_ADDRESS, IFA_BROADCAST, IFA_F_NODAD, IFA_F_NOPREFIXROUTE, IFA_FLAGS,
    IFA_LOCAL, IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_NET_NS_PID, NDA_DST, NDA_LLADDR,
    NLM_APPEND, NLM_CREATE, NLM_REPLACE, NUD_PERMANENT, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY,
    RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_VIA, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH,
    RTM_NEWROUTE, RTNH_F_ONLINK, RTPROT_STATIC,
};
use crate::netlink::{Body, Netlink};
use crate::read::{Found, all_links};
use crate::tap::{bring_up, link_header};

const CLONE_NEWNET: i32 = 0x4000_0000;
/// A card of a machine that was restored is plugged in about now.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Moves the cards into the network namespace of process `pid`, and sets there what `network` says.
///
/// # Errors
/// A card is missing, or the guest's kernel refuses.
pub fn apply(network: &Network, pid: i32) -> Result<()> {
    let mut here = Netlink::open().about("rtnetlink")?;
    for (place, interface) in (0..).zip(&network.interfaces) {
        let card = find(&mut here, card_mac(place), PATIENCE)?;
        move_card(&mut here, card.index, interface, pid)
            .about(format!("move {} to {}", card.name, interface.name))?;
    }
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))
        .map_err(|error| Error::new(format!("/proc/{pid}/ns/net: {error}")))?;
    // A thread of its own: this one stays where it is.
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                casemate_host::clone::setns(namespace.as_fd(), CLONE_NEWNET)
                    .map_err(|error| Error::new(format!("join the network namespace: {error}")))?;
                set_up(network)
            })
            .join()
            .unwrap_or_else(|_| Err(Error::new("the network's thread ended")))
    })
}

fn find(netlink: &mut Netlink, mac: [u8; 6], patience: Duration) -> Result<Found> {
    let until = Instant::now() + patience;
    loop {
        let found = all_links(netlink)?
            .into_iter()
            .find(|link| link.mac == Some(mac));
        match found {
            Some(link) => return Ok(link),
            None if Instant::now() < until => std::thread::sleep(PAUSE),
            None => {
                return Err(Error::new(format!(
                    "the machine has no card {}",
                    mac_text(mac)
                )));
            }
        }
    }
}

/// While it is down, for only then do names and addresses change. What one request asks of an interface is done once that has moved (Linux: do_setlink).
fn move_card(
    netlink: &mut Netlink,
    index: i32,
    interface: &Interface,
    pid: i32,
) -> std::result::Result<(), Errno> {
    let mut body = Body::new(&[&link_header(index, 0, 0)]);
    body.attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes())
        .text(IFLA_IFNAME, &interface.name)
        .attribute(IFLA_ADDRESS, &interface.mac)
        .number(IFLA_MTU, interface.mtu);
    netlink.change(RTM_NEWLINK, 0, &body)
}

fn set_up(network: &Network) -> Result<()> {
    let mut netlink = Netlink::open().about("rtnetlink")?;
    let mut indices = Vec::new();
    for interface in &network.interfaces {
        let link = find(&mut netlink, interface.mac, Duration::ZERO)?;
        for address in &interface.addresses {
            add_address(&mut netlink, link.index, address).about(format!(
                "{}: address {}/{}",
                interface.name, address.address.0, address.prefix
            ))?;
        }
        bring_up(&mut netlink, link.index, interface.mtu).about(&interface.name)?;
        indices.push(link.index);
    }
    for neighbour in &network.neighbours {
        add_neighbour(&mut netlink, &indices, neighbour)
            .about(format!("neighbour {}", neighbour.address.0))?;
    }
    for route in &network.routes {
        add_route(&mut netlink, &indices, route)
            .about(format!("route to {}/{}", route.destination.0, route.prefix))?;
    }
    Ok(())
}

fn add_address(
    netlink: &mut Netlink,
    index: i32,
    address: &Address,
) -> std::result::Result<(), Errno> {
    let own = octets(address.address);
    let mut header = [
        family(address.address),
        address.prefix,
        0,
        address.scope,
        0,
        0,
        0,
        0,
    ];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let mut body = Body::new(&[&header]);
    let other = address.peer.map_or_else(|| own.clone(), octets);
    body.attribute(IFA_LOCAL, &own)
        .attribute(IFA_ADDRESS, &other);
    if let Some(broadcast) = address.broadcast {
        body.attribute(IFA_BROADCAST, &octets(broadcast));
    }
    // Whether somebody else has it was asked when the interface got it.
    let mut flags = IFA_F_NODAD;
    if address.has_no_route {
        flags |= IFA_F_NOPREFIXROUTE;
    }
    body.number(IFA_FLAGS, flags);
    netlink.change(RTM_NEWADDR, NLM_CREATE | NLM_REPLACE, &body)
}

fn add_route(
    netlink: &mut Netlink,
    indices: &[i32],
    route: &Route,
) -> std::result::Result<(), Errno> {
    let table = u8::try_from(RT_TABLE_MAIN).unwrap_or_default();
    let mut header = [0; 12];
    header[..8].copy_from_slice(&[
        family(route.destination),
        route.prefix,
        0,
        0,
        table,
        RTPROT_STATIC,
        route.scope,
        route.kind,
    ]);
    if route.is_on_link {
        header[8..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    let mut body = Body::new(&[&header]);
    if route.prefix > 0 {
        body.attribute(RTA_DST, &octets(route.destination));
    }
    if let Some(index) = route
        .interface
        .and_then(|place| indices.get(usize::from(place)))
    {
        body.attribute(RTA_OIF, &index.to_ne_bytes());
    }
    match route.gateway {
        Some(gateway) if gateway.0.is_ipv4() == route.destination.0.is_ipv4() => {
            body.attribute(RTA_GATEWAY, &octets(gateway));
        }
        Some(gateway) => {
            let family = u16::from(family(gateway)).to_ne_bytes();
            body.attribute(RTA_VIA, &[&family[..], &octets(gateway)].concat());
        }
        None => {}
    }
    if let Some(source) = route.source {
        body.attribute(RTA_PREFSRC, &octets(source));
    }
    if route.metric > 0 {
        body.number(RTA_PRIORITY, route.metric);
    }
    match netlink.change(RTM_NEWROUTE, NLM_CREATE | NLM_APPEND, &body) {
        // The kernel has made it for an address.
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn add_neighbour(
    netlink: &mut Netlink,
    indices: &[i32],
    neighbour: &Neighbour,
) -> std::result::Result<(), Errno> {
    let Some(index) = indices.get(usize::from(neighbour.interface)) else {
        return Ok(());
    };
    let mut header = [0; 12];
    header[0] = family(neighbour.address);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    let mut body = Body::new(&[&header]);
    body.attribute(NDA_DST, &octets(neighbour.address))
        .attribute(NDA_LLADDR, &neighbour.mac);
    netlink.change(RTM_NEWNEIGH, NLM_CREATE | NLM_REPLACE, &body)
}

fn family(address: Ip) -> u8 {
    if address.0.is_ipv4() {
        AF_INET
    } else {
        AF_INET6
    }
}

fn octets(address: Ip) -> Vec<u8> {
    match address.0 {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
