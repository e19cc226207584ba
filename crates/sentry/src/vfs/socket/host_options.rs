//! What of sockets reaches the host: options by level, control messages, addresses, rtnetlink's questions. All else is answered as if there were no such thing.

use casemate_platform::socket::{READABLE, SETTABLE};

use super::Control;
use crate::errno::{Errno, Result};
use crate::kernel::credentials::Credentials;
use crate::memory::{half, word};
use crate::syscalls::Cx;

/// The longest value of an option, either way.
pub const LONGEST: usize = 512;
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_ADMIN: u32 = 12;

fn lists(list: &[(i32, &[i32])], level: i32, name: i32) -> bool {
    list.iter()
        .any(|(listed, names)| *listed == level && names.contains(&name))
}

pub fn may_get(level: i32, name: i32) -> Result<()> {
    if lists(READABLE, level, name) {
        Ok(())
    } else {
        Err(Errno::ENOPROTOOPT)
    }
}

pub fn may_set(level: i32, name: i32) -> Result<()> {
    if lists(SETTABLE, level, name) {
        Ok(())
    } else {
        Err(Errno::ENOPROTOOPT)
    }
}

/// socket(7), SO_PRIORITY.
pub fn may_set_priority(who: &Credentials, priority: i32) -> Result<()> {
    if (0..=6).contains(&priority) || who.has(CAP_NET_ADMIN) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Low ports are for who may have them: the sentry's own right is not the program's. `EACCES`
pub fn may_bind(cx: &Cx<'_>, address: &[u8]) -> Result<()> {
    let Some(family) = address.get(..2) else {
        return Ok(());
    };
    let family = i32::from(u16::from_le_bytes([family[0], family[1]]));
    if family != libc::AF_INET && family != libc::AF_INET6 {
        return Ok(());
    }
    let port = address
        .get(2..4)
        .map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    if port == 0 || cx.task()?.credentials.has(CAP_NET_BIND_SERVICE) || port >= first_free_port(cx)
    {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

fn first_free_port(cx: &Cx<'_>) -> u16 {
    use rustix::fs::{Mode, OFlags};
    let name = "sys/net/ipv4/ip_unprivileged_port_start";
    let read = || -> Option<u16> {
        let fd = crate::host::openat(
            &cx.kernel.host_proc,
            name,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        let mut text = [0; 16];
        let len = crate::host::read(&fd, &mut text).ok()?;
        std::str::from_utf8(&text[..len]).ok()?.trim().parse().ok()
    };
    read().unwrap_or(1024)
}

/// rtnetlink's requests that only ask: RTM_GET*. `EPERM` any other. What follows a message that cannot be one, the host passes over: netlink_rcv_skb().
pub fn may_send_netlink(bytes: &[u8]) -> Result<()> {
    const HEADER: usize = 16;
    const FIRST: u16 = 16;
    const GET: u16 = 2;
    let mut rest = bytes;
    while rest.len() >= HEADER {
        let len = half(rest, 0) as usize;
        let kind = half(rest, 4) as u16;
        if len < HEADER || len > rest.len() {
            break;
        }
        if kind >= FIRST && kind % 4 != GET {
            return Err(Errno::EPERM);
        }
        rest = rest.get((len + 3) & !3..).unwrap_or_default();
    }
    Ok(())
}

/// Control data in the host's layout; of the levels that mean something to the host only what shapes one packet. cmsg(3).
pub fn control_bytes(control: &[Control]) -> Result<Vec<u8>> {
    let allowed = [
        (libc::IPPROTO_IP, libc::IP_PKTINFO),
        (libc::IPPROTO_IP, libc::IP_TTL),
        (libc::IPPROTO_IP, libc::IP_TOS),
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO),
        (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    ];
    let mut bytes = Vec::new();
    for item in control {
        // Descriptors and credentials mean nothing here, and are passed over as Linux does: __sock_cmsg_send().
        let Control::Raw(level, kind, data) = item else {
            continue;
        };
        if !allowed.contains(&(*level, *kind)) {
            return Err(Errno::EINVAL);
        }
        append(&mut bytes, *level, *kind, data);
    }
    Ok(bytes)
}

/// One `struct cmsghdr` and its data, aligned.
pub fn append(bytes: &mut Vec<u8>, level: i32, kind: i32, data: &[u8]) {
    bytes.extend((16 + data.len() as u64).to_le_bytes());
    bytes.extend(level.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

/// The inverse; what is cut short ends it. Descriptors cannot come from these sockets, and would be left out.
#[must_use]
pub fn parse_control(bytes: &[u8]) -> Vec<Control> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 16 {
        let len = word(rest, 0) as usize;
        let (level, kind) = (half(rest, 8).cast_signed(), half(rest, 12).cast_signed());
        let Some(data) = rest.get(16..len) else {
            break;
        };
        if (level, kind) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            found.push(Control::Raw(level, kind, data.to_vec()));
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    found
}
