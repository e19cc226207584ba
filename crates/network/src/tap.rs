//! Tap devices for a machine, which is given them as open files and nothing else. They are gone with the last of these.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;

use crate::error::{About, Error, Result};
use crate::kernel::{
    ADDR_GEN_NONE, AF_INET6, IFF_UP, IFLA_AF_SPEC, IFLA_INET6_ADDR_GEN_MODE, IFLA_MTU, RTM_NEWLINK,
};
use crate::netlink::{Body, Netlink};
use crate::read::guests;
use rustix::io::Errno;

const DEVICE: &str = "/dev/net/tun";
const PREFIX: &str = "casemate";
const USUAL_MTU: u32 = 1500;

#[derive(Debug)]
pub struct Tap {
    pub fd: OwnedFd,
    pub name: String,
    pub mtu: u32,
}

pub(crate) fn is_tap_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|character| character.is_ascii_digit())
    })
}

/// A tap for each interface of this thread's network namespace that a guest will be given; one where there is none yet. `has_header`: frames come with what is
/// left to the other side of checksums and segments (virtio_net_hdr).
///
/// # Errors
/// There are more interfaces than a guest can have; this host has no such device, or this process may not make one here, unless there is no interface yet.
pub fn make_taps(has_header: bool) -> Result<Vec<Tap>> {
    let mut netlink = Netlink::open().about("rtnetlink")?;
    let links = guests(&mut netlink)?.links;
    if links.is_empty() {
        // One that cannot be made is missed by nobody, until an interface comes: `connect` says so then.
        let tap = make(&mut netlink, has_header, USUAL_MTU);
        return Ok(tap.into_iter().collect());
    }
    links
        .iter()
        .map(|link| make(&mut netlink, has_header, link.mtu))
        .collect()
}

/// The device belongs to the network namespace that its file was opened in, so nobody else can open it for this one.
fn make(netlink: &mut Netlink, has_header: bool, mtu: u32) -> Result<Tap> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(|error| Error::of(DEVICE, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let fd = OwnedFd::from(file);
    let name = casemate_host::tap::make(&fd, PREFIX, has_header)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .about("make a tap device in the network namespace")?;
    let index = netlink.index_of(&name).about(&name)?;
    silence(netlink, index).about(&name)?;
    bring_up(netlink, index, mtu).about(&name)?;
    Ok(Tap { fd, name, mtu })
}

/// An address of the host's own on it would speak to the guest.
fn silence(netlink: &mut Netlink, index: i32) -> std::result::Result<(), Errno> {
    let mut body = Body::new(&[&link_header(index, 0, 0)]);
    body.nest(IFLA_AF_SPEC, |families| {
        families.nest(AF_INET6.into(), |inner| {
            inner.attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_NONE]);
        });
    });
    match netlink.change(RTM_NEWLINK, 0, &body) {
        // A host without IPv6.
        Err(Errno::AFNOSUPPORT | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

pub(crate) fn bring_up(
    netlink: &mut Netlink,
    index: i32,
    mtu: u32,
) -> std::result::Result<(), Errno> {
    let mut body = Body::new(&[&link_header(index, IFF_UP, IFF_UP)]);
    body.number(IFLA_MTU, mtu);
    netlink.change(RTM_NEWLINK, 0, &body)
}

/// struct ifinfomsg.
pub(crate) fn link_header(index: i32, flags: u32, changed: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&changed.to_ne_bytes());
    header
}
