//! A local socket of the host's that the sandbox's agent was given: what the SDK connects to (docs/design/agent.md).
//!
//! The agent is a program as any other, and nothing is trusted that it says. What crosses here besides bytes are descriptors: those that come in become
//! descriptions as a program's streams are; those that go out are the host's own behind an open file, a terminal's other side, or a copy of a text of /proc.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, OFlags};
use rustix::io::Errno as HostErrno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, accept_with, recvmsg, sendmsg,
};

use super::options::Options;
use super::{Control, Outgoing, Received, Socket};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::wake::{Ticket, WaitQueue};
use crate::memory::Buffer;
use crate::syscalls::Cx;
use crate::vfs::attributes::Attributes;
use crate::vfs::description::Description;
use crate::vfs::file::File;
use crate::vfs::host::HostFile;
use crate::vfs::host_events::HostEvents;
use crate::vfs::tty::master::Master;
use crate::watcher::HasQueue;

/// Bytes that one transfer moves.
const CHUNK: usize = 64 << 10;
/// Standard input, output and error: the SDK sends no more.
const MOST_DESCRIPTORS: usize = 3;
/// Who is at the other side: no process of the sandbox (pid 0), nor a user of its (the overflow ids). Linux: pid_vnr(), from_kuid_munged().
const OUTSIDE: [u32; 3] = [0, 65534, 65534];

#[derive(Debug)]
pub struct GivenSocket {
    fd: OwnedFd,
    queue: WaitQueue,
    options: Options,
    attributes: Attributes,
}

impl GivenSocket {
    /// The description must be this process's alone: it becomes non-blocking.
    pub fn open(kernel: &mut Kernel, fd: OwnedFd) -> Result<Arc<Self>> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        let made = Arc::new(Self {
            fd,
            queue: WaitQueue::default(),
            options: Options::default(),
            attributes: super::attributes(kernel.new_inode(), 0, 0),
        });
        let weak: Weak<Self> = Arc::downgrade(&made);
        let _ = kernel.watcher.watch_file(made.fd.as_fd(), weak);
        Ok(made)
    }

    fn take(&self, cx: Option<&Cx<'_>>, to: &mut Buffer) -> Result<Received> {
        let mut bytes = vec![0; to.remaining().min(CHUNK)];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(
            &self.fd,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            flags,
        )?;
        let mut rights = Vec::new();
        for message in ancillary.drain() {
            if let (RecvAncillaryMessage::ScmRights(given), Some(cx)) = (message, cx) {
                rights.extend(given.map(|fd| cx.kernel.given_stream(fd)));
            }
        }
        to.put(&bytes[..got.bytes])?;
        Ok(Received {
            count: got.bytes,
            from: Some(Vec::new()),
            control: if rights.is_empty() {
                Vec::new()
            } else {
                vec![Control::Rights(rights)]
            },
            flags: 0,
        })
    }

    fn give(&self, from: &mut Buffer, descriptors: &[OwnedFd]) -> Result<usize> {
        let bytes = from.peek_vec(CHUNK)?;
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
            return Err(Errno::EINVAL);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let count = sendmsg(&self.fd, &[IoSlice::new(&bytes)], &mut ancillary, flags)?;
        from.skip(count);
        Ok(count)
    }
}

/// The host's descriptor that stands for an open file outside of the sandbox. `EOPNOTSUPP`: it is an object of the sentry's alone.
fn export(cx: &mut Cx<'_>, description: &Description) -> Result<OwnedFd> {
    let file = &description.file;
    if let Some(master) = file.downcast_ref::<Master>() {
        return cx.kernel.export_terminal(master);
    }
    if let Some(content) = file.content(cx) {
        return text(&content?);
    }
    // Whoever gets it writes without a call that could be seen, as a mapping does.
    if let Some(file) = file.downcast_ref::<HostFile>() {
        file.was_mapped(description.is_writable());
        // What is opened for reading alone is shared by all who opened it (`vfs::cache`), and with it the host's position, which reads outside move.
        if !description.is_writable()
            && let Some(host) = description.file.host()
            && let Ok(own) = cx.kernel.reopen(host, OFlags::RDONLY)
        {
            return Ok(own);
        }
    }
    let host = file.host().or_else(|| HostEvents::of(description).ok());
    let host = host.ok_or(Errno::EOPNOTSUPP)?;
    Ok(rustix::io::fcntl_dupfd_cloexec(host, 3)?)
}

/// A file of the host's with this content, as it is now.
fn text(content: &[u8]) -> Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("text", MemfdFlags::CLOEXEC)?;
    let mut done = 0;
    while done < content.len() {
        done += crate::host::pwrite(&fd, &content[done..], done as u64)?;
    }
    Ok(fd)
}

impl HasQueue for GivenSocket {
    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }
}

impl File for GivenSocket {
    fn read(&self, _description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        self.take(None, to).map(|received| received.count)
    }

    fn write(
        &self,
        _description: &Description,
        from: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        self.give(from, &[])
    }

    fn poll(&self) -> u32 {
        let ready = crate::host::ready(&self.fd, PollFlags::from_bits_retain(0x23FF));
        u32::from(ready.bits())
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes)
    }

    fn name(&self) -> Vec<u8> {
        format!("socket:[{}]", self.attributes.ino).into_bytes()
    }

    fn socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
}

impl Socket for GivenSocket {
    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, _cx: &mut Cx<'_>, _address: &[u8]) -> Result<()> {
        Err(Errno::EINVAL)
    }

    fn connect(&self, _cx: &mut Cx<'_>, _address: &[u8], _ticket: Ticket) -> Result<()> {
        Err(Errno::EISCONN)
    }

    fn listen(&self, _cx: &mut Cx<'_>, _backlog: i32) -> Result<()> {
        Err(Errno::EINVAL)
    }

    fn accept(&self, cx: &mut Cx<'_>) -> Result<(Arc<dyn File>, Vec<u8>)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = accept_with(&self.fd, flags).map_err(|error| match error {
            HostErrno::CONNABORTED => Errno::EAGAIN,
            other => other.into(),
        })?;
        let made = Self::open(cx.kernel, fd)?;
        Ok((made, unnamed()))
    }

    fn own_address(&self) -> Result<Vec<u8>> {
        Ok(unnamed())
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        Ok(unnamed())
    }

    fn send(&self, cx: &mut Cx<'_>, out: &mut Outgoing) -> Result<usize> {
        let mut descriptors = Vec::new();
        for item in &out.control {
            let Control::Rights(descriptions) = item else {
                return Err(Errno::EINVAL);
            };
            for description in descriptions {
                descriptors.push(export(cx, description)?);
            }
        }
        self.give(&mut out.data, &descriptors)
    }

    fn receive(&self, cx: &mut Cx<'_>, to: &mut Buffer, _flags: i32) -> Result<Received> {
        self.take(Some(cx), to)
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        casemate_platform::socket::shutdown(self.fd.as_fd(), how)?;
        self.queue.wake();
        Ok(())
    }

    fn option(&self, _cx: &mut Cx<'_>, level: i32, name: i32, room: usize) -> Result<Vec<u8>> {
        if (level, name) == (libc::SOL_SOCKET, libc::SO_PEERCRED) {
            // Outside of the sandbox: no process of its, and no user.
            let nobody = OUTSIDE.iter().flat_map(|id| id.to_le_bytes());
            return Ok(nobody.take(room).collect());
        }
        self.options.show_limit(name).ok_or(Errno::ENOPROTOOPT)
    }

    fn set_option(&self, _cx: &mut Cx<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level != libc::SOL_SOCKET {
            return Err(Errno::ENOPROTOOPT);
        }
        let limit = self.options.set_limit(name, value);
        limit.unwrap_or(Err(Errno::ENOPROTOOPT))
    }

    fn keeps_messages(&self) -> bool {
        false
    }
}

/// struct sockaddr_un without a path.
fn unnamed() -> Vec<u8> {
    (libc::AF_UNIX as u16).to_le_bytes().to_vec()
}
