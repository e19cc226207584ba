//! Sockets of the host, with addresses, options and control messages as plain bytes: what those mean, and which are allowed, the sentry decides.
//! The kernel checks every byte of them; no memory is shared.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::check;

pub use crate::socket_options::{READABLE, SETTABLE};

/// The longest queue of a listening socket.
const MOST_WAITING: i32 = 0xFFFF;
/// Bytes that any socket address fits. struct sockaddr_storage.
pub const ADDRESS_MAX: usize = 128;
/// Control bytes that one received message can bring; what is longer is cut (MSG_CTRUNC).
pub const CONTROL_MAX: usize = 1024;

fn new_fd(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result.into())?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call returned a new descriptor, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn len_of(bytes: &[u8]) -> libc::socklen_t {
    bytes.len() as libc::socklen_t
}

/// A new socket, close-on-exec and non-blocking: the sentry never waits in a call.
///
/// # Errors
/// As socket(2).
pub fn open(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is passed. Not the library's: musl's tries again without the flags where the kernel does not know the kind.
    let raw = check(unsafe { libc::syscall(libc::SYS_socket, domain, kind, protocol) })?;
    new_fd(i32::try_from(raw).map_err(io::Error::other)?)
}

/// # Errors
/// As bind(2).
pub fn bind(fd: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads `len` bytes of `address`.
    let result = unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr().cast(), len_of(address)) };
    check(result.into()).map(drop)
}

/// # Errors
/// As connect(2); `EINPROGRESS` it has begun.
pub fn connect(fd: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads `len` bytes of `address`.
    let result = unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr().cast(), len_of(address)) };
    check(result.into()).map(drop)
}

/// # Errors
/// As listen(2).
pub fn listen(fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // Any more are cut by the host anyway (somaxconn); a negative number means as many as there may be.
    let backlog = if backlog < 0 {
        MOST_WAITING
    } else {
        backlog.min(MOST_WAITING)
    };
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }.into()).map(drop)
}

/// # Errors
/// As shutdown(2).
pub fn shutdown(fd: BorrowedFd<'_>, how: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), how) }.into()).map(drop)
}

/// The next connection and its peer's address.
///
/// # Errors
/// As accept(2); `EAGAIN` there is none.
pub fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, Vec<u8>)> {
    let mut address = [0_u8; ADDRESS_MAX];
    let mut len = ADDRESS_MAX as libc::socklen_t;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the kernel writes at most `len` bytes to `address`, and its length to `len`.
    let result = unsafe {
        libc::accept4(
            fd.as_raw_fd(),
            address.as_mut_ptr().cast(),
            &raw mut len,
            flags,
        )
    };
    Ok((new_fd(result)?, cut(&address, len)))
}

fn cut(bytes: &[u8], len: libc::socklen_t) -> Vec<u8> {
    bytes[..bytes.len().min(len as usize)].to_vec()
}

/// # Errors
/// As getsockname(2).
pub fn own_address(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut address = [0_u8; ADDRESS_MAX];
    let mut len = ADDRESS_MAX as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `address`, and its length to `len`.
    let result =
        unsafe { libc::getsockname(fd.as_raw_fd(), address.as_mut_ptr().cast(), &raw mut len) };
    check(result.into())?;
    Ok(cut(&address, len))
}

/// Reads an option of at most `room` bytes.
///
/// # Errors
/// As getsockopt(2).
pub fn option(fd: BorrowedFd<'_>, level: i32, name: i32, room: usize) -> io::Result<Vec<u8>> {
    let mut value = vec![0_u8; room];
    let mut len = len_of(&value);
    // SAFETY: the kernel writes at most `len` bytes to `value`, and its length to `len`. The caller's options hold no pointers.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    check(result.into())?;
    Ok(cut(&value, len))
}

/// # Errors
/// As setsockopt(2).
pub fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    // Options whose value is a pointer into our own memory (a BPF program) are no sockets' business here.
    if level == libc::SOL_SOCKET
        && [libc::SO_ATTACH_FILTER, libc::SO_ATTACH_REUSEPORT_CBPF].contains(&name)
    {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // SAFETY: the kernel reads `len` bytes of `value`; options with pointers in them were refused.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            len_of(value),
        )
    };
    check(result.into()).map(drop)
}

/// Sends one message; no descriptors: `control` must not hold SCM_RIGHTS, which the caller's own list sees to.
///
/// # Errors
/// As sendmsg(2).
pub fn send(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    address: &[u8],
    control: &[u8],
    flags: i32,
) -> io::Result<usize> {
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // Aligned as cmsghdr wants it.
    let mut words = vec![0_u64; control.len().div_ceil(8)];
    for (word, chunk) in words.iter_mut().zip(control.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(bytes);
    }
    // SAFETY: a msghdr of zeros is a valid one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    if !address.is_empty() {
        header.msg_name = address.as_ptr().cast_mut().cast();
        header.msg_namelen = len_of(address);
    }
    if !control.is_empty() {
        header.msg_control = words.as_mut_ptr().cast();
        header.msg_controllen = control.len() as _;
    }
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header's pointers are to slices that live through the call, with their lengths; the kernel only reads them. Not the library's, nor below:
    // musl's takes 1 KiB of control messages only.
    let count = check(unsafe {
        libc::syscall(libc::SYS_sendmsg, fd.as_raw_fd(), &raw const header, flags)
    })?;
    Ok(count as usize)
}

/// What `receive` got besides the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// The message's length, which can be more than was asked for with MSG_TRUNC.
    pub count: usize,
    pub address: Vec<u8>,
    pub control: Vec<u8>,
    pub flags: i32,
}

/// Receives into `bytes`. Descriptors that somebody sent (none can: these are no local sockets) would be close-on-exec.
///
/// # Errors
/// As recvmsg(2); `EAGAIN` nothing is there.
pub fn receive(fd: BorrowedFd<'_>, bytes: &mut [u8], flags: i32) -> io::Result<Received> {
    let mut address = [0_u8; ADDRESS_MAX];
    let mut control = [0_u64; CONTROL_MAX / 8];
    let mut iov = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: a msghdr of zeros is a valid one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_name = address.as_mut_ptr().cast();
    header.msg_namelen = ADDRESS_MAX as libc::socklen_t;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_MAX as _;
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header's pointers are to buffers of those lengths that live through the call.
    let count =
        check(unsafe { libc::syscall(libc::SYS_recvmsg, fd.as_raw_fd(), &raw mut header, flags) })?;
    let control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(Received {
        count: count as usize,
        address: cut(&address, header.msg_namelen),
        control: control[..CONTROL_MAX.min(header.msg_controllen as _)].to_vec(),
        flags: header.msg_flags,
    })
}

/// `ioctl` requests that read or write at most `REQUEST_MAX` bytes without pointers in them: sockets' counts, and an interface by its name.
pub const REQUESTS: &[u32] = &[
    0x541B, 0x5411, 0x8905, 0x8910, 0x8913, 0x8915, 0x8917, 0x8919, 0x891B, 0x891D, 0x8921, 0x8927,
    0x8933, 0x8942,
];
/// struct ifreq.
pub const REQUEST_MAX: usize = 40;
const SIOCGIFCONF: u64 = 0x8912;

/// One of `REQUESTS`, on a copy of its argument.
///
/// # Errors
/// As the host's; `ENOTTY` for any other request.
pub fn request(
    fd: BorrowedFd<'_>,
    request: u32,
    argument: &mut [u8; REQUEST_MAX],
) -> io::Result<()> {
    if !REQUESTS.contains(&request) {
        return Err(io::Error::from_raw_os_error(libc::ENOTTY));
    }
    // SAFETY: the listed requests touch at most REQUEST_MAX bytes of the argument, and follow no pointer in it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            fd.as_raw_fd(),
            request,
            argument.as_mut_ptr(),
        )
    };
    check(result).map(drop)
}

#[repr(C)]
struct InterfaceList {
    len: i32,
    at: *mut u8,
}

/// SIOCGIFCONF: `struct ifreq` of each interface with an address, in at most `room` bytes; `None` asks for the length alone.
///
/// # Errors
/// As the host's.
pub fn interfaces(fd: BorrowedFd<'_>, room: Option<usize>) -> io::Result<(usize, Vec<u8>)> {
    let mut bytes = vec![0_u8; room.unwrap_or(0)];
    let mut list = InterfaceList {
        len: i32::try_from(bytes.len()).map_err(io::Error::other)?,
        at: if room.is_some() {
            bytes.as_mut_ptr()
        } else {
            ptr::null_mut()
        },
    };
    // SAFETY: the kernel reads the list, writes at most `len` bytes where it points, and the length.
    check(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), SIOCGIFCONF, &raw mut list) })?;
    let len = usize::try_from(list.len).unwrap_or(0);
    bytes.truncate(len);
    Ok((len, bytes))
}
