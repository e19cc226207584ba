//! What this thread's network namespace has, as far as a guest can be given it.

use std::net::{Ipv4Addr, Ipv6Addr};

use casemate_guest_protocol::network::{
    Address, Interface, Ip, MAX_INTERFACES, Neighbour, Network, Route,
};

use crate::error::{About, Error, Result};
use crate::kernel::{
    AF_INET, AF_INET6, ARPHRD_ETHER, IFA_ADDRESS, IFA_BROADCAST, IFA_F_NOPREFIXROUTE,
    IFA_F_PERMANENT, IFA_FLAGS, IFA_LOCAL, IFF_LOOPBACK, IFF_UP, IFLA_ADDRESS, IFLA_IFNAME,
    IFLA_MTU, NDA_DST, NDA_LLADDR, NUD_PERMANENT, OTHERS_PROTOCOLS, REFUSING, RT_SCOPE_LINK,
    RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_MULTIPATH, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY,
    RTA_TABLE, RTA_VIA, RTM_F_CLONED, RTM_GETADDR, RTM_GETLINK, RTM_GETNEIGH, RTM_GETROUTE,
    RTN_UNICAST, RTNH_F_ONLINK,
};
use crate::netlink::{Answer, Body, Netlink, i32_at, u16_at, u32_at};
use crate::tap::is_tap_name;

const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const NEIGHBOUR_HEADER: usize = 12;
const MAX_NAME: usize = 15;

/// An interface of the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) index: i32,
    pub(crate) name: String,
    /// None: it is no Ethernet.
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) mtu: u32,
    pub(crate) flags: u32,
}

/// The namespace's network, and the indices of its interfaces there.
///
/// # Errors
/// The kernel refuses, or there is something that no guest can be given: it would be missed without a word.
pub fn read() -> Result<(Network, Vec<i32>)> {
    let mut netlink = Netlink::open().about("rtnetlink")?;
    let Guests { links, others } = guests(&mut netlink)?;
    let addresses = addresses(&mut netlink)?;
    let has_address = |link: &&Found| addresses.iter().any(|(index, _)| *index == link.index);
    if let Some(link) = others.iter().find(has_address) {
        return Err(Error::new(format!(
            "interface {} is no Ethernet, which is all that a guest can be given",
            link.name
        )));
    }
    let indices: Vec<i32> = links.iter().map(|link| link.index).collect();
    let interfaces = links
        .into_iter()
        .map(|link| Interface {
            addresses: addresses
                .iter()
                .filter(|(index, _)| *index == link.index)
                .map(|(_, address)| address.clone())
                .collect(),
            name: link.name,
            mac: link.mac.unwrap_or_default(),
            mtu: link.mtu,
        })
        .collect();
    let network = Network {
        interfaces,
        routes: routes(&mut netlink, &indices)?,
        neighbours: neighbours(&mut netlink, &indices)?,
    };
    Ok((network, indices))
}

/// The interfaces that are a guest's: up, not the loopback, and not a machine's own tap.
pub(crate) struct Guests {
    pub(crate) links: Vec<Found>,
    /// That would be, but are no Ethernet.
    pub(crate) others: Vec<Found>,
}

/// Those of this thread's network namespace.
pub(crate) fn guests(netlink: &mut Netlink) -> Result<Guests> {
    let is_guests = |link: &Found| {
        link.flags & IFF_UP != 0 && link.flags & IFF_LOOPBACK == 0 && !is_tap_name(&link.name)
    };
    let (links, others): (Vec<_>, Vec<_>) = all_links(netlink)?
        .into_iter()
        .filter(is_guests)
        .partition(|link| link.mac.is_some());
    if links.len() > MAX_INTERFACES {
        return Err(Error::new(format!(
            "the network namespace has {} interfaces, a guest at most {MAX_INTERFACES}",
            links.len()
        )));
    }
    Ok(Guests { links, others })
}

pub(crate) fn all_links(netlink: &mut Netlink) -> Result<Vec<Found>> {
    let answers = netlink
        .dump(RTM_GETLINK, &Body::new(&[&[0; LINK_HEADER]]))
        .about("list the interfaces")?;
    Ok(answers.iter().filter_map(link).collect())
}

fn link(answer: &Answer) -> Option<Found> {
    let attributes = answer.attributes(LINK_HEADER);
    let name = attributes.find(IFLA_IFNAME)?;
    let name = std::str::from_utf8(name.strip_suffix(b"\0").unwrap_or(name)).ok()?;
    let kind = u16_at(&answer.body, 2)?;
    let mac = attributes.find(IFLA_ADDRESS);
    Some(Found {
        index: i32_at(&answer.body, 4)?,
        name: (name.len() <= MAX_NAME).then(|| name.to_owned())?,
        mac: mac
            .filter(|_| kind == ARPHRD_ETHER)
            .and_then(|mac| mac.try_into().ok()),
        mtu: attributes.number(IFLA_MTU)?,
        flags: u32_at(&answer.body, 8)?,
    })
}

fn addresses(netlink: &mut Netlink) -> Result<Vec<(i32, Address)>> {
    let answers = netlink
        .dump(RTM_GETADDR, &Body::new(&[&[0; ADDRESS_HEADER]]))
        .about("list the addresses")?;
    Ok(answers.iter().filter_map(address).collect())
}

fn address(answer: &Answer) -> Option<(i32, Address)> {
    let [family, prefix, flags, scope, ..] = *answer.body.first_chunk::<ADDRESS_HEADER>()?;
    let attributes = answer.attributes(ADDRESS_HEADER);
    let other = ip(family, attributes.find(IFA_ADDRESS)?)?;
    let own = attributes
        .find(IFA_LOCAL)
        .and_then(|bytes| ip(family, bytes))
        .unwrap_or(other);
    let flags = attributes
        .number(IFA_FLAGS)
        .unwrap_or_else(|| u32::from(flags));
    // What a router or a kernel gave an interface, the guest gets in the same way.
    if family == AF_INET6 && (scope == RT_SCOPE_LINK || flags & IFA_F_PERMANENT == 0) {
        return None;
    }
    let address = Address {
        address: own,
        prefix: checked_prefix(own, prefix)?,
        peer: (own != other).then_some(other),
        broadcast: attributes
            .find(IFA_BROADCAST)
            .and_then(|bytes| ip(family, bytes)),
        scope,
        has_no_route: flags & IFA_F_NOPREFIXROUTE != 0,
    };
    Some((i32_at(&answer.body, 4)?, address))
}

fn routes(netlink: &mut Netlink, indices: &[i32]) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for answer in netlink
        .dump(RTM_GETROUTE, &Body::new(&[&[0; ROUTE_HEADER]]))
        .about("list the routes")?
    {
        routes.extend(route(&answer, indices)?);
    }
    // A gateway can be set once there is a route to it.
    routes.sort_by_key(|route| route.gateway.is_some());
    Ok(routes)
}

fn route(answer: &Answer, indices: &[i32]) -> Result<Option<Route>> {
    let Some(header) = answer.body.first_chunk::<ROUTE_HEADER>() else {
        return Ok(None);
    };
    let [family, prefix, _, _, _, protocol, scope, kind, ..] = *header;
    let flags = u32_at(header, 8).unwrap_or_default();
    let attributes = answer.attributes(ROUTE_HEADER);
    let table = attributes
        .number(RTA_TABLE)
        .unwrap_or_else(|| u32::from(header[4]));
    let is_wanted = matches!(family, AF_INET | AF_INET6)
        && table == RT_TABLE_MAIN
        && flags & RTM_F_CLONED == 0
        && !OTHERS_PROTOCOLS.contains(&protocol)
        && (kind == RTN_UNICAST || REFUSING.contains(&kind));
    if !is_wanted {
        return Ok(None);
    }
    let find = |kind| {
        attributes
            .find(kind)
            .and_then(|bytes: &[u8]| ip(family, bytes))
    };
    let destination = find(RTA_DST).unwrap_or_else(|| any(family));
    if attributes.find(RTA_MULTIPATH).is_some() {
        return Err(Error::new(format!(
            "the route to {}/{prefix} has several ways, which a guest is not given",
            destination.0
        )));
    }
    let interface = if kind == RTN_UNICAST {
        let index = attributes
            .find(RTA_OIF)
            .and_then(|bytes| i32_at(bytes, 0))
            .unwrap_or_default();
        let Some(place) = indices.iter().position(|found| *found == index) else {
            return Ok(None);
        };
        u8::try_from(place).ok()
    } else {
        None
    };
    let via = attributes.find(RTA_VIA).and_then(|bytes| {
        let family = u8::try_from(u16_at(bytes, 0)?).ok()?;
        ip(family, bytes.get(2..)?)
    });
    let Some(prefix) = checked_prefix(destination, prefix) else {
        return Ok(None);
    };
    Ok(Some(Route {
        destination,
        prefix,
        interface,
        gateway: find(RTA_GATEWAY).or(via),
        source: find(RTA_PREFSRC),
        metric: attributes.number(RTA_PRIORITY).unwrap_or_default(),
        scope,
        kind,
        is_on_link: flags & RTNH_F_ONLINK != 0,
    }))
}

fn neighbours(netlink: &mut Netlink, indices: &[i32]) -> Result<Vec<Neighbour>> {
    let answers = netlink
        .dump(RTM_GETNEIGH, &Body::new(&[&[0; NEIGHBOUR_HEADER]]))
        .about("list the neighbours")?;
    let neighbour = |answer: &Answer| {
        let attributes = answer.attributes(NEIGHBOUR_HEADER);
        let state = u16_at(&answer.body, 8)?;
        let index = i32_at(&answer.body, 4)?;
        let place = indices.iter().position(|found| *found == index)?;
        Some(Neighbour {
            interface: u8::try_from(place)
                .ok()
                .filter(|_| state & NUD_PERMANENT != 0)?,
            address: ip(*answer.body.first()?, attributes.find(NDA_DST)?)?,
            mac: attributes.find(NDA_LLADDR)?.try_into().ok()?,
        })
    };
    Ok(answers.iter().filter_map(neighbour).collect())
}

fn ip(family: u8, bytes: &[u8]) -> Option<Ip> {
    let address = match family {
        AF_INET => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv4Addr::from(bytes).into()),
        AF_INET6 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    };
    address.map(Ip)
}

fn any(family: u8) -> Ip {
    Ip(if family == AF_INET {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    })
}

fn checked_prefix(address: Ip, prefix: u8) -> Option<u8> {
    let longest = if address.0.is_ipv4() { 32 } else { 128 };
    (prefix <= longest).then_some(prefix)
}
