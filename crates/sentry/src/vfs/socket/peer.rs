//! Whom a socket of the host is connected to: kept here, since it is known, and the jail is a call shorter for it. getpeername(2).

use std::os::fd::BorrowedFd;

use casemate_platform::socket;

const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;
const AF_NETLINK: u16 = libc::AF_NETLINK as u16;
/// include/net/tcp_states.h.
const TCP_SYN_SENT: u8 = 2;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

/// The address as the host shows it once connect(2) took it. `None`: that ended a connection (AF_UNSPEC).
/// The unspecified address means the host itself: the socket's own address, or loopback's. Linux: ip_route_connect(), tcp_v6_connect().
pub fn after_connect(address: &[u8], own: impl FnOnce() -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let family = u16::from_le_bytes(address.get(..2)?.try_into().ok()?);
    match family {
        AF_INET => {
            let mut shown = address.get(..16)?.to_vec();
            shown[8..].fill(0);
            if shown[4..8] == [0; 4] {
                let own = own().filter(|own| own.len() == 16 && own[4..8] != [0; 4]);
                let place = own.map_or(vec![127, 0, 0, 1], |own| own[4..8].to_vec());
                shown[4..8].copy_from_slice(&place);
            }
            Some(shown)
        }
        AF_INET6 => {
            let mut shown = address.get(..24)?.to_vec();
            let scope = address.get(24..28).unwrap_or(&[0; 4]);
            let is_link_local = shown[8] == 0xFE && shown[9] & 0xC0 == 0x80;
            shown.extend(if is_link_local { scope } else { &[0; 4] });
            if shown[8..24] == [0; 16] {
                shown[23] = 1;
            }
            // A flow label is not shown unless it was asked for.
            shown[4..8].fill(0);
            Some(shown)
        }
        AF_NETLINK => Some(address.get(..12)?.to_vec()),
        _ => None,
    }
}

/// Whom an unconnected socket of rtnetlink talks to.
pub fn the_kernel() -> Vec<u8> {
    let mut address = AF_NETLINK.to_le_bytes().to_vec();
    address.resize(12, 0);
    address
}

/// Whether a stream has a peer. Linux: inet_getname().
pub fn is_connected(fd: BorrowedFd<'_>) -> bool {
    let state = socket::option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, 1);
    state.is_ok_and(|state| ![TCP_SYN_SENT, TCP_CLOSE, TCP_LISTEN].contains(&state[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(address: [u8; 4]) -> Vec<u8> {
        let mut bytes = AF_INET.to_le_bytes().to_vec();
        bytes.extend([0, 80]);
        bytes.extend(address);
        bytes.extend([9; 8]);
        bytes
    }

    #[test]
    fn padding_is_not_shown() {
        let shown = after_connect(&inet([10, 0, 0, 1]), || None).unwrap_or_default();
        assert_eq!(shown[4..], [10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn no_address_is_loopback_or_the_sockets_own() {
        let shown = after_connect(&inet([0; 4]), || None).unwrap_or_default();
        assert_eq!(shown[4..8], [127, 0, 0, 1]);
        let shown = after_connect(&inet([0; 4]), || Some(inet([10, 0, 0, 7]))).unwrap_or_default();
        assert_eq!(shown[4..8], [10, 0, 0, 7]);
    }

    #[test]
    fn what_is_short_or_unspecified_has_no_peer() {
        assert_eq!(after_connect(&[0; 16], || None), None);
        assert_eq!(after_connect(&[2, 0, 0], || None), None);
        assert_eq!(after_connect(&[], || None), None);
    }
}
