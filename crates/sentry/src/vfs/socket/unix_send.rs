//! Local sockets: sending. Linux: unix_stream_sendmsg(), unix_dgram_sendmsg().

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::rights::Rights;
use super::unix::{Kind, Message, Phase, UnixSocket, sort};
use super::unix_connect::credentials;
use super::unix_names::Name;
use super::{Control, Outgoing};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN};
use crate::syscalls::Cx;
use crate::vfs::fasync::Band;
use crate::vfs::file::{POLLPRI, READABLE};

/// Most bytes of one message of a stream: longer writes are split.
const STREAM_CHUNK: usize = 32 << 10;
/// Bytes of a message that lie with its header; the rest are whole pages. Linux: SKB_MAX_ALLOC, SKB_TRUESIZE().
const LINEAR: usize = 4096 - 320;

impl UnixSocket {
    pub fn send(self: &Arc<Self>, cx: &mut Cx<'_>, out: &mut Outgoing) -> Result<usize> {
        if out.flags & libc::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        match self.kind {
            Kind::Stream => self.send_stream(cx, out),
            Kind::Packets => {
                if let Some(error) = self.take_error() {
                    return Err(error);
                }
                if !matches!(self.lock().phase, Phase::Connected) {
                    return Err(Errno::ENOTCONN);
                }
                out.to = None;
                self.send_message(cx, out)
            }
            Kind::Datagram => self.send_message(cx, out),
        }
    }

    fn send_stream(self: &Arc<Self>, cx: &mut Cx<'_>, out: &mut Outgoing) -> Result<usize> {
        let peer = {
            let state = self.peek();
            if out.to.is_some() {
                let is_connected = matches!(state.phase, Phase::Connected);
                return Err(if is_connected {
                    Errno::EISCONN
                } else {
                    Errno::EOPNOTSUPP
                });
            }
            let peer = state.peer.clone().ok_or(Errno::ENOTCONN)?;
            if state.is_shut_for_sending {
                return Err(Errno::EPIPE);
            }
            peer
        };
        if peer.lock().is_shut_for_receiving || peer.is_released() {
            return Err(Errno::EPIPE);
        }
        let mut done = 0;
        while out.data.remaining() > 0 {
            if self.sent.load(Ordering::Relaxed) >= self.send_room() {
                self.note_no_room();
                break;
            }
            let bytes = match out.data.take_vec(self.chunk()) {
                Ok(bytes) => bytes,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            };
            done += bytes.len();
            // Descriptors go with the first bytes, once; `out` is made anew when the call runs again, and the caller leaves them out then.
            let control = std::mem::take(&mut out.control);
            let message = self.message(cx, bytes, &control, &peer)?;
            peer.lock().messages.push_back(message);
            peer.fasync.tell(Band::In);
        }
        if done == 0 && out.data.remaining() > 0 {
            return Err(Errno::EAGAIN);
        }
        peer.queue.wake_for(READABLE | POLLPRI);
        Ok(done)
    }

    /// The longest message of a stream.
    fn chunk(&self) -> usize {
        STREAM_CHUNK
            .min((self.send_room() / 2).saturating_sub(64))
            .max(1)
    }

    /// Whether a write of a stream does not wait for room.
    pub(super) fn takes(&self, count: usize) -> bool {
        count <= self.chunk() && self.sent.load(Ordering::Relaxed) < self.send_room()
    }

    /// One whole message.
    fn send_message(self: &Arc<Self>, cx: &mut Cx<'_>, out: &mut Outgoing) -> Result<usize> {
        self.autobind(cx)?;
        let target = match &out.to {
            Some(address) => {
                let name = Name::parse(address)?;
                if name == Name::Unnamed {
                    return Err(Errno::EINVAL);
                }
                Some(name)
            }
            None => None,
        };
        if target.is_none() && self.lock().peer.is_none() {
            return Err(Errno::ENOTCONN);
        }
        let len = out.data.remaining();
        if len > self.send_room().saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        if let Some(error) = self.take_error() {
            return Err(error);
        }
        if self.lock().is_shut_for_sending {
            return Err(Errno::EPIPE);
        }
        if self.sent.load(Ordering::Relaxed) >= self.send_room() {
            self.note_no_room();
            return Err(Errno::EAGAIN);
        }
        let peer = match &target {
            Some(name) => self.find(cx, name)?,
            None => self.living_peer()?,
        };
        self.may_send_to(&peer)?;
        peer.queue.add(out.ticket);
        {
            let state = peer.lock();
            if state.is_shut_for_receiving {
                return Err(Errno::EPIPE);
            }
            let is_mutual = state
                .peer
                .as_ref()
                .is_some_and(|other| Arc::ptr_eq(other, self));
            if !is_mutual && !Arc::ptr_eq(self, &peer) && peer.is_full(&state) {
                return Err(Errno::EAGAIN);
            }
        }
        let mut bytes = vec![0; len];
        if out.data.take(&mut bytes)? != len {
            return Err(Errno::EFAULT);
        }
        let message = self.message(cx, bytes, &out.control, &peer)?;
        peer.lock().messages.push_back(message);
        peer.queue.wake_for(READABLE | POLLPRI);
        peer.fasync.tell(Band::In);
        Ok(len)
    }

    /// The peer; one that is gone refuses, and is forgotten.
    fn living_peer(self: &Arc<Self>) -> Result<Arc<Self>> {
        let peer = self.lock().peer.clone().ok_or(Errno::ENOTCONN)?;
        if !peer.is_released() {
            return Ok(peer);
        }
        if self.kind == Kind::Packets {
            return Err(Errno::EPIPE);
        }
        let mut state = self.lock();
        state.peer = None;
        state.phase = Phase::Unconnected;
        Err(Errno::ECONNREFUSED)
    }

    fn message(
        self: &Arc<Self>,
        cx: &Cx<'_>,
        bytes: Vec<u8>,
        control: &[Control],
        peer: &Arc<Self>,
    ) -> Result<Message> {
        let (rights, given) = sort(control);
        let rights = Rights::new(rights, cx.fd_limit()?)?;
        let wants =
            self.options.lock().passes_credentials || peer.options.lock().passes_credentials;
        let credentials = match given {
            Some(given) => Some(given),
            None if wants => Some(real_credentials(cx)?),
            None => None,
        };
        let charge = charge(bytes.len());
        self.sent.fetch_add(charge, Ordering::Relaxed);
        Ok(Message {
            bytes,
            read: 0,
            from: self.peek().name.clone(),
            rights,
            credentials,
            sender: self.clone(),
            charge,
        })
    }
}

impl UnixSocket {
    /// What a line brought: bytes and nothing else.
    pub(super) fn plain_message(self: &Arc<Self>, bytes: Vec<u8>, from: Name) -> Message {
        let charge = charge(bytes.len());
        self.sent.fetch_add(charge, Ordering::Relaxed);
        Message {
            bytes,
            read: 0,
            from,
            rights: Rights::default(),
            credentials: None,
            sender: self.clone(),
            charge,
        }
    }
}

/// What a message takes of the sender's buffer: as Linux's allocator rounds it, since programs can count the messages that fit.
fn charge(len: usize) -> usize {
    let pages = len.saturating_sub(LINEAR).next_multiple_of(4096);
    256 + (len.min(LINEAR) + 320).next_power_of_two().max(512) + pages
}

/// What is sent unasked holds the real ids. Linux: unix_maybe_add_creds().
fn real_credentials(cx: &Cx<'_>) -> Result<[u32; 3]> {
    let task = cx.task()?;
    Ok([
        task.pid.cast_unsigned(),
        task.credentials.uid,
        task.credentials.gid,
    ])
}

/// Whether the caller may say that it is this one. Linux: scm_check_creds(). `EPERM`
pub fn check_credentials(cx: &Cx<'_>, ids: [u32; 3]) -> Result<()> {
    let own = credentials(cx)?;
    let who = &cx.task()?.credentials;
    let [pid, uid, gid] = ids;
    let is_pid = pid == own[0] || who.has(CAP_SYS_ADMIN);
    let is_uid = [who.uid, who.euid, who.suid].contains(&uid) || who.has(CAP_SETUID);
    let is_gid = [who.gid, who.egid, who.sgid].contains(&gid) || who.has(CAP_SETGID);
    if !(is_pid && is_uid && is_gid) {
        return Err(Errno::EPERM);
    }
    if pid != own[0] && cx.kernel.process(pid.cast_signed()).is_err() {
        return Err(Errno::ESRCH);
    }
    Ok(())
}
