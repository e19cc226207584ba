//! Sockets of the internet families and of rtnetlink: the host's, opened in the container's network namespace and never blocking. The watcher wakes their
//! queue on each edge. What a program passes is bounded and checked here and in `host_options`; the host's kernel checks it again.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use casemate_platform::socket::{self, REQUEST_MAX};
use rustix::event::PollFlags;

use super::host_options::{self, may_bind, may_send_netlink};
use super::options::Options;
use super::{Outgoing, Received, Socket, int, peer};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::credentials::Credentials;
use crate::kernel::wake::{Ticket, WaitQueue};
use crate::memory::{Address, Buffer, half, word};
use crate::syscalls::Cx;
use crate::vfs::attributes::Attributes;
use crate::vfs::description::Description;
use crate::vfs::fasync::{self, Band};
use crate::vfs::file::{File, READABLE, WRITABLE};
use crate::watcher::HasQueue;

/// Bytes that one transfer moves through the sentry.
const CHUNK: usize = 256 << 10;
/// No datagram of any family allowed here is longer.
const LARGEST_DATAGRAM: usize = 128 << 10;
const CAP_NET_RAW: u32 = 13;
const SIOCGIFCONF: u32 = 0x8912;
/// struct ifreq.
const INTERFACE: usize = 40;
/// Interfaces that SIOCGIFCONF can list.
const MOST_INTERFACES: usize = 1024;

#[derive(Debug)]
pub struct HostSocket {
    fd: OwnedFd,
    domain: i32,
    is_stream: bool,
    /// What it was connected to last, as getpeername(2) shows it.
    peer: Mutex<Option<Vec<u8>>>,
    queue: WaitQueue,
    fasync: fasync::List,
    /// A send found no room, or a connection is under way: that it can be written to is told.
    wants_room: AtomicBool,
    options: Options,
    attributes: Attributes,
    /// Messages of the sentry's own that are to be read first: mq_notify(2)'s.
    put: Mutex<VecDeque<Vec<u8>>>,
}

/// Whether the sentry opens such a socket. Linux's errors for what does not exist; `EPERM` raw ones without CAP_NET_RAW.
fn check(who: &Credentials, domain: i32, kind: i32, protocol: i32) -> Result<()> {
    match domain {
        libc::AF_INET | libc::AF_INET6 => {}
        libc::AF_NETLINK if ![libc::SOCK_RAW, libc::SOCK_DGRAM].contains(&kind) => {
            return Err(Errno::ESOCKTNOSUPPORT);
        }
        libc::AF_NETLINK if protocol != libc::NETLINK_ROUTE => return Err(Errno::EPROTONOSUPPORT),
        libc::AF_NETLINK => return Ok(()),
        _ => return Err(Errno::EAFNOSUPPORT),
    }
    let known: &[i32] = match kind {
        libc::SOCK_STREAM => &[0, libc::IPPROTO_TCP],
        libc::SOCK_DGRAM => &[
            0,
            libc::IPPROTO_UDP,
            libc::IPPROTO_UDPLITE,
            libc::IPPROTO_ICMP,
            libc::IPPROTO_ICMPV6,
        ],
        libc::SOCK_RAW if who.has(CAP_NET_RAW) => return Ok(()),
        libc::SOCK_RAW => return Err(Errno::EPERM),
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    if known.contains(&protocol) {
        Ok(())
    } else {
        Err(Errno::EPROTONOSUPPORT)
    }
}

impl HostSocket {
    pub fn open(cx: &mut Cx<'_>, domain: i32, kind: i32, protocol: i32) -> Result<Arc<dyn File>> {
        let who = cx.task()?.credentials.clone();
        check(&who, domain, kind, protocol)?;
        let fd = socket::open(domain, kind, protocol)?;
        Ok(Self::watched(
            cx.kernel,
            fd,
            domain,
            kind == libc::SOCK_STREAM,
            &who,
        ))
    }

    fn watched(
        kernel: &mut Kernel,
        fd: OwnedFd,
        domain: i32,
        is_stream: bool,
        who: &Credentials,
    ) -> Arc<Self> {
        let made = Arc::new(Self {
            fd,
            domain,
            is_stream,
            peer: Mutex::default(),
            queue: WaitQueue::default(),
            fasync: fasync::List::default(),
            wants_room: AtomicBool::new(false),
            options: Options::default(),
            put: Mutex::default(),
            attributes: super::attributes(kernel.new_inode(), who.fsuid, who.fsgid),
        });
        let weak: Weak<Self> = Arc::downgrade(&made);
        let _ = kernel.watcher.watch_file(made.fd.as_fd(), weak);
        made
    }
}

fn interfaces(fd: &OwnedFd, cx: &Cx<'_>, argument: Address) -> Result<i64> {
    let list = cx.memory().read_vec(argument, 16)?;
    let to = Address(word(&list, 8));
    let len = usize::try_from(half(&list, 0).cast_signed()).map_err(|_| Errno::EINVAL)?;
    let room = (!to.is_null()).then_some(len.min(MOST_INTERFACES * INTERFACE));
    let (len, bytes) = socket::interfaces(fd.as_fd(), room)?;
    cx.memory().write(to, &bytes)?;
    cx.memory().write_i32(argument, len as i32)?;
    Ok(0)
}

fn request(fd: &OwnedFd, cx: &Cx<'_>, request: u32, argument: Address) -> Result<i64> {
    if request == SIOCGIFCONF {
        return interfaces(fd, cx, argument);
    }
    if !socket::REQUESTS.contains(&request) {
        return Err(Errno::ENOTTY);
    }
    let len = if is_of_interfaces(request) {
        REQUEST_MAX
    } else {
        4
    };
    let mut bytes = [0; REQUEST_MAX];
    if len == REQUEST_MAX {
        cx.memory().read(argument, &mut bytes)?;
    }
    socket::request(fd.as_fd(), request, &mut bytes)?;
    cx.memory().write(argument, &bytes[..len])?;
    Ok(0)
}

fn is_of_interfaces(request: u32) -> bool {
    request >> 4 >= 0x891
}

/// What any socket, a local one too, can ask about network interfaces. netdevice(7).
pub fn interface_request(cx: &Cx<'_>, number: u32, argument: Address) -> Result<i64> {
    if !is_of_interfaces(number) {
        return Err(Errno::ENOTTY);
    }
    let fd = socket::open(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    request(&fd, cx, number, argument)
}

impl HasQueue for HostSocket {
    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn on_event(&self, _kernel: &mut Kernel) {
        if self.fasync.is_empty() {
            return;
        }
        let ready = self.poll();
        self.fasync.tell_ready(ready);
        if ready & WRITABLE != 0 && self.wants_room.swap(false, Ordering::Relaxed) {
            self.fasync.tell(Band::Out);
        }
    }
}

impl File for HostSocket {
    fn read(&self, _description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        self.take(to, 0).map(|received| received.count)
    }

    fn write(
        &self,
        _description: &Description,
        from: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        self.give(from, &[], &[], 0)
    }

    fn poll(&self) -> u32 {
        let own = if self.own_messages().is_empty() {
            0
        } else {
            READABLE
        };
        let ready = crate::host::ready(&self.fd, PollFlags::from_bits_retain(0x23FF));
        own | u32::from(ready.bits())
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn fasync(&self) -> [Option<&fasync::List>; 2] {
        [Some(&self.fasync), None]
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes)
    }

    fn ioctl(
        &self,
        cx: &mut Cx<'_>,
        _description: &Description,
        request: u32,
        argument: Address,
    ) -> Result<i64> {
        self::request(&self.fd, cx, request, argument)
    }

    fn name(&self) -> Vec<u8> {
        format!("socket:[{}]", self.attributes.ino).into_bytes()
    }

    fn socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
}

impl HostSocket {
    #[must_use]
    pub fn is_netlink(&self) -> bool {
        self.domain == libc::AF_NETLINK
    }

    fn own_messages(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the socket's reader receive a message of the sentry's, as from the kernel.
    pub fn put(&self, message: Vec<u8>) {
        self.own_messages().push_back(message);
        self.queue.wake_for(READABLE);
    }

    fn lock_peer(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, to: &mut Buffer, flags: i32) -> Result<Received> {
        let own = self.own_messages().pop_front();
        if let Some(message) = own {
            let count = to.put(&message[..message.len().min(to.remaining())])?;
            return Ok(Received {
                count,
                ..Received::default()
            });
        }
        let limit = if self.is_stream {
            CHUNK
        } else {
            LARGEST_DATAGRAM
        };
        let mut bytes = vec![0; to.remaining().min(limit)];
        let got = socket::receive(self.fd.as_fd(), &mut bytes, flags)?;
        let throws_away = self.is_stream && flags & libc::MSG_TRUNC != 0;
        let copied = if throws_away {
            0
        } else {
            got.count.min(bytes.len())
        };
        if to.put(&bytes[..copied])? < copied {
            return Err(Errno::EFAULT);
        }
        Ok(Received {
            count: got.count,
            from: Some(got.address),
            control: host_options::parse_control(&got.control),
            flags: got.flags & !libc::MSG_CMSG_CLOEXEC,
        })
    }

    fn give(&self, from: &mut Buffer, to: &[u8], control: &[u8], flags: i32) -> Result<usize> {
        let limit = if self.is_stream {
            CHUNK
        } else {
            LARGEST_DATAGRAM
        };
        if !self.is_stream && from.remaining() > limit {
            return Err(Errno::EMSGSIZE);
        }
        let wanted = from.remaining().min(limit);
        let bytes = from.peek_vec(limit)?;
        if !self.is_stream && bytes.len() < wanted {
            return Err(Errno::EFAULT);
        }
        if self.domain == libc::AF_NETLINK {
            may_send_netlink(&bytes)?;
        }
        let sent = socket::send(self.fd.as_fd(), &bytes, to, control, flags);
        if sent.as_ref().map_or(true, |count| *count < wanted) {
            self.wants_room.store(true, Ordering::Relaxed);
        }
        let count = sent?;
        from.skip(count);
        Ok(count)
    }
}

impl Socket for HostSocket {
    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, cx: &mut Cx<'_>, address: &[u8]) -> Result<()> {
        may_bind(cx, address)?;
        Ok(socket::bind(self.fd.as_fd(), address)?)
    }

    fn connect(&self, _cx: &mut Cx<'_>, address: &[u8], _ticket: Ticket) -> Result<()> {
        let result = socket::connect(self.fd.as_fd(), address);
        let has_begun = |error: &std::io::Error| error.raw_os_error() == Some(libc::EINPROGRESS);
        if result.as_ref().is_err_and(has_begun) {
            self.wants_room.store(true, Ordering::Relaxed);
        }
        if result.as_ref().err().is_none_or(has_begun) {
            *self.lock_peer() = peer::after_connect(address, || self.own_address().ok());
        }
        Ok(result?)
    }

    fn listen(&self, _cx: &mut Cx<'_>, backlog: i32) -> Result<()> {
        Ok(socket::listen(self.fd.as_fd(), backlog)?)
    }

    fn accept(&self, cx: &mut Cx<'_>) -> Result<(Arc<dyn File>, Vec<u8>)> {
        let (fd, peer) = socket::accept(self.fd.as_fd())?;
        let who = cx.task()?.credentials.clone();
        let made = Self::watched(cx.kernel, fd, self.domain, self.is_stream, &who);
        *made.lock_peer() = Some(peer.clone());
        Ok((made, peer))
    }

    fn own_address(&self) -> Result<Vec<u8>> {
        Ok(socket::own_address(self.fd.as_fd())?)
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        let is_connected = !self.is_stream || peer::is_connected(self.fd.as_fd());
        match self.lock_peer().clone().filter(|_| is_connected) {
            Some(address) => Ok(address),
            None if self.domain == libc::AF_NETLINK => Ok(peer::the_kernel()),
            None => Err(Errno::ENOTCONN),
        }
    }

    fn send(&self, _cx: &mut Cx<'_>, out: &mut Outgoing) -> Result<usize> {
        const KNOWN: i32 = libc::MSG_OOB
            | libc::MSG_DONTROUTE
            | libc::MSG_EOR
            | libc::MSG_CONFIRM
            | libc::MSG_MORE
            | libc::MSG_FASTOPEN;
        let control = host_options::control_bytes(&out.control)?;
        let to = out.to.clone().unwrap_or_default();
        self.give(&mut out.data, &to, &control, out.flags & KNOWN)
    }

    fn receive(&self, _cx: &mut Cx<'_>, to: &mut Buffer, flags: i32) -> Result<Received> {
        const KNOWN: i32 = libc::MSG_OOB | libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_ERRQUEUE;
        // A stream's MSG_TRUNC throws bytes away, which the host does for us without copying.
        self.take(to, flags & KNOWN)
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        socket::shutdown(self.fd.as_fd(), how)?;
        self.queue.wake();
        Ok(())
    }

    fn option(&self, _cx: &mut Cx<'_>, level: i32, name: i32, room: usize) -> Result<Vec<u8>> {
        if level == libc::SOL_SOCKET
            && let Some(limit) = self.options.show_limit(name)
        {
            return Ok(limit);
        }
        host_options::may_get(level, name)?;
        Ok(socket::option(
            self.fd.as_fd(),
            level,
            name,
            room.min(host_options::LONGEST),
        )?)
    }

    fn set_option(&self, cx: &mut Cx<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level == libc::SOL_SOCKET
            && let Some(result) = self.options.set_limit(name, value)
        {
            return result;
        }
        host_options::may_set(level, name)?;
        if (level, name) == (libc::SOL_SOCKET, libc::SO_PRIORITY) {
            host_options::may_set_priority(&cx.task()?.credentials, int(value)?)?;
        }
        Ok(socket::set_option(self.fd.as_fd(), level, name, value)?)
    }

    fn keeps_messages(&self) -> bool {
        !self.is_stream
    }
}
