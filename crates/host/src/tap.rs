//! tun(4): the kernel's Documentation/networking/tuntap.rst.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::check;

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;

/// Makes a tap of the open device file: an interface of this thread's network namespace, which is gone when the last copy of `fd` is closed. Returns its name,
/// `prefix` and a number. `has_header`: each frame is preceded by a virtio_net_hdr.
///
/// # Errors
/// As ioctl(2) `TUNSETIFF`: it needs CAP_NET_ADMIN over the namespace.
pub fn make(fd: &OwnedFd, prefix: &str, has_header: bool) -> io::Result<String> {
    // SAFETY: all-zero is a legal ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let wanted = format!("{prefix}%d");
    // One byte stays zero, as the end of the name.
    for (place, byte) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(wanted.bytes())
    {
        *place = byte.cast_signed();
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if has_header {
        flags |= libc::IFF_VNET_HDR;
    }
    request.ifr_ifru.ifru_flags = i16::try_from(flags).unwrap_or_default();
    // SAFETY: TUNSETIFF reads an ifreq, and writes the name that the kernel has chosen into it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    let name = request.ifr_name.map(i8::cast_unsigned);
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}
