//! A tap interface of the host's network.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use vm_memory::VolatileSlice;

// linux/if_tun.h.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
// By syscall(2): musl's ioctl(3) takes an int.
const TUNGETIFF: u64 = 0x8004_54d2;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;

/// struct virtio_net_hdr_v1 (virtio 1.2 §5.1.6).
pub(crate) const HEADER: usize = 12;
const HEADER_SIZE: libc::c_int = 12;

/// Of every tap of ours.
const FLAGS: i16 = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

/// struct ifreq: a name, then a union of which TUNSETIFF and TUNGETIFF have a short.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

impl Request {
    fn new(flags: i16) -> Request {
        Request {
            name: [0; libc::IFNAMSIZ],
            flags,
            rest: [0; 22],
        }
    }
}

/// One queue of a tap interface. Every frame carries a header of [`HEADER`] bytes before it.
#[derive(Debug)]
pub(crate) struct Tap(File);

impl Tap {
    /// Opens the interface `name`, and makes it if there is none and we may.
    pub(crate) fn open(name: &str) -> io::Result<Tap> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        let mut request = Request::new(FLAGS);
        // The last byte stays zero.
        if name.len() >= request.name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        request
            .name
            .iter_mut()
            .zip(name.bytes())
            .for_each(|(to, from)| *to = from);
        // SAFETY: TUNSETIFF reads and writes one struct ifreq, which `Request` is: 16 + 24 bytes.
        check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
        Tap(file).with_header()
    }

    /// A tap that somebody else has opened, with a header before each frame.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Tap> {
        let mut request = Request::new(0);
        // SAFETY: TUNGETIFF writes one struct ifreq, which `Request` is.
        check(unsafe {
            libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), TUNGETIFF, &raw mut request)
        })?;
        if request.flags & FLAGS != FLAGS {
            let wrong = "no tap whose frames have a virtio header";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
        }
        rustix::io::ioctl_fionbio(&fd, true)?;
        Tap(fd.into()).with_header()
    }

    fn with_header(self) -> io::Result<Tap> {
        let size: libc::c_int = HEADER_SIZE;
        // SAFETY: TUNSETVNETHDRSZ reads one int.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), TUNSETVNETHDRSZ, &raw const size) })?;
        Ok(self)
    }

    /// Says what the reader of the tap can take: TUN_F_* bits.
    pub(crate) fn set_offload(&self, bits: u32) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its bits as a number; no memory is involved.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), TUNSETOFFLOAD, libc::c_ulong::from(bits)) })
    }

    /// Reads one frame with its header; what does not fit is lost.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, into)?)
    }

    /// Writes one frame with its header, straight from guest memory.
    pub(crate) fn write(&self, pieces: &[VolatileSlice<'_, ()>]) -> io::Result<usize> {
        let guards: Vec<_> = pieces.iter().map(VolatileSlice::ptr_guard).collect();
        let vector: Vec<libc::iovec> = guards
            .iter()
            .zip(pieces)
            .map(|(guard, piece)| libc::iovec {
                iov_base: guard.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            })
            .collect();
        let count = libc::c_int::try_from(vector.len()).map_err(io::Error::other)?;
        // SAFETY: the guards keep every piece mapped and readable; the kernel only reads, so a racing guest is no data race of ours.
        let done = unsafe { libc::writev(self.0.as_raw_fd(), vector.as_ptr(), count) };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(result: impl Into<libc::c_long>) -> io::Result<()> {
    if result.into() < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
