//! Local sockets: names, listening, connecting, accepting. unix(7), bind(2), connect(2).

use std::collections::VecDeque;
use std::sync::Arc;

use rustix::fs::{FileType, Mode};

use super::unix::{Kind, Phase, UnixSocket};
use super::unix_names::Name;
use crate::errno::{Errno, Result};
use crate::kernel::credentials::MAY_WRITE;
use crate::kernel::wake::Ticket;
use crate::syscalls::Cx;
use crate::syscalls::open::{may_write_directory, own_in};
use crate::vfs::attributes::Attributes;
use crate::vfs::fasync::Band;

/// Linux: net.core.somaxconn.
const MOST_PENDING: i32 = 4096;

/// pid, uid and gid of the caller, as SCM_CREDENTIALS tells them.
pub fn credentials(cx: &Cx<'_>) -> Result<[u32; 3]> {
    let task = cx.task()?;
    let who = &task.credentials;
    Ok([task.pid.cast_unsigned(), who.euid, who.egid])
}

impl UnixSocket {
    pub fn bind(self: &Arc<Self>, cx: &mut Cx<'_>, address: &[u8]) -> Result<()> {
        let name = Name::parse(address)?;
        let is_bound = self.lock().name != Name::Unnamed;
        let name = match name {
            Name::Unnamed if is_bound => return Ok(()),
            Name::Unnamed => Name::Abstract(cx.kernel.member.pod.names().add_automatic(self)?),
            Name::Abstract(_) if is_bound => return Err(Errno::EINVAL),
            Name::Abstract(name) => {
                cx.kernel.member.pod.names().add_name(&name, self)?;
                Name::Abstract(name)
            }
            Name::Path(path) => {
                self.bind_path(cx, &path, is_bound)?;
                Name::Path(path)
            }
        };
        self.lock().name = name;
        Ok(())
    }

    /// A socket file in the host's tree: its device and inode are the name that connecting looks for.
    fn bind_path(self: &Arc<Self>, cx: &mut Cx<'_>, path: &[u8], is_bound: bool) -> Result<()> {
        let parent = cx.resolve_parent(libc::AT_FDCWD, path)?;
        let context = cx.fs()?;
        if [b"" as &[u8], b".", b".."].contains(&&parent.name[..]) {
            return Err(Errno::EADDRINUSE);
        }
        match cx.walker(&context)?.step(&parent.directory, &parent.name) {
            Ok(_) => return Err(Errno::EADDRINUSE),
            Err(Errno::ENOENT) if parent.wants_directory => return Err(Errno::ENOENT),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        may_write_directory(cx, &parent.directory)?;
        if is_bound {
            return Err(Errno::EINVAL);
        }
        let host = parent.directory.host()?.clone();
        let mode = Mode::from_raw_mode(0o777 & !context.umask);
        let made = rustix::fs::mknodat(&*host, &parent.name, FileType::Socket, mode, 0);
        cx.kernel
            .files
            .entry_changed(&parent.directory, &parent.name);
        made.map_err(|error| {
            if error == rustix::io::Errno::EXIST {
                Errno::EADDRINUSE
            } else {
                error.into()
            }
        })?;
        let made = cx.walker(&context)?.step(&parent.directory, &parent.name)?;
        own_in(cx, made.host()?, &parent.directory)?;
        let attributes = made.attributes(cx.kernel)?;
        cx.kernel
            .member
            .pod
            .names()
            .add_file((attributes.dev, attributes.ino), self);
        Ok(())
    }

    pub fn listen(self: &Arc<Self>, cx: &mut Cx<'_>, backlog: i32) -> Result<()> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let credentials = credentials(cx)?;
        // A negative backlog is a large one, as an unsigned number.
        let backlog = if backlog < 0 {
            MOST_PENDING
        } else {
            backlog.min(MOST_PENDING)
        } as usize;
        {
            let mut state = self.lock();
            if state.name == Name::Unnamed {
                return Err(Errno::EINVAL);
            }
            match &mut state.phase {
                Phase::Connected => return Err(Errno::EINVAL),
                Phase::Listening(_, most) => *most = backlog,
                phase @ Phase::Unconnected => *phase = Phase::Listening(VecDeque::new(), backlog),
            }
            state.peer_credentials = credentials;
        }
        self.queue.wake();
        Ok(())
    }

    pub fn accept(self: &Arc<Self>) -> Result<Arc<Self>> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let accepted = {
            let mut state = self.lock();
            let is_shut = state.is_shut_for_receiving;
            let Phase::Listening(pending, _) = &mut state.phase else {
                return Err(Errno::EINVAL);
            };
            match pending.pop_front() {
                Some(accepted) => accepted,
                None if is_shut => return Err(Errno::EINVAL),
                None => return Err(Errno::EAGAIN),
            }
        };
        // Whoever waits for a place in the backlog looks again.
        self.queue.wake();
        Ok(accepted)
    }

    pub fn connect(
        self: &Arc<Self>,
        cx: &mut Cx<'_>,
        address: &[u8],
        ticket: Ticket,
    ) -> Result<()> {
        let family = address.get(..2).ok_or(Errno::EINVAL)?;
        let dissolves = family == (libc::AF_UNSPEC as u16).to_le_bytes();
        if self.kind == Kind::Datagram {
            let peer = if dissolves {
                None
            } else {
                Some(self.find(cx, &parse_target(address)?)?)
            };
            return self.connect_datagrams(cx, peer);
        }
        let target = parse_target(address)?;
        let credentials = credentials(cx)?;
        let listener = self.find(cx, &target)?;
        listener.queue.add(ticket);
        {
            let state = listener.lock();
            let Phase::Listening(pending, most) = &state.phase else {
                return Err(Errno::ECONNREFUSED);
            };
            if state.is_shut_for_receiving {
                return Err(Errno::ECONNREFUSED);
            }
            if pending.len() > *most {
                return Err(Errno::EAGAIN);
            }
        }
        match self.lock().phase {
            Phase::Unconnected => {}
            Phase::Connected => return Err(Errno::EISCONN),
            Phase::Listening(..) => return Err(Errno::EINVAL),
        }
        let attributes = super::attributes(
            cx.kernel.new_inode(),
            cx.task()?.credentials.fsuid,
            cx.task()?.credentials.fsgid,
        );
        self.meet(&listener, attributes, credentials);
        Ok(())
    }

    /// Makes the other end of a connection, and leaves it for `accept`.
    fn meet(self: &Arc<Self>, listener: &Arc<Self>, attributes: Attributes, credentials: [u32; 3]) {
        let server = Self::new(self.kind, attributes);
        let (name, listener_credentials) = {
            let state = listener.lock();
            (state.name.clone(), state.peer_credentials)
        };
        {
            let mut state = server.lock();
            state.name = name;
            state.phase = Phase::Connected;
            state.peer = Some(self.clone());
            state.peer_credentials = credentials;
        }
        server.options.lock().passes_credentials = listener.options.lock().passes_credentials;
        {
            let mut state = self.lock();
            state.phase = Phase::Connected;
            state.peer = Some(server.clone());
            state.peer_credentials = listener_credentials;
        }
        if let Phase::Listening(pending, _) = &mut listener.lock().phase {
            pending.push_back(server);
        }
        listener.queue.wake();
        listener.fasync.tell(Band::In);
        self.queue.wake();
    }

    fn connect_datagrams(self: &Arc<Self>, cx: &mut Cx<'_>, peer: Option<Arc<Self>>) -> Result<()> {
        if let Some(peer) = &peer {
            self.may_send_to(peer)?;
            self.autobind(cx)?;
        }
        let old = {
            let mut state = self.lock();
            state.phase = if peer.is_some() {
                Phase::Connected
            } else {
                Phase::Unconnected
            };
            std::mem::replace(&mut state.peer, peer)
        };
        if let Some(old) = old {
            old.queue.wake();
        }
        self.queue.wake();
        Ok(())
    }

    /// A socket that asks for credentials gets a name when it connects or sends, so that it can be answered. Linux: unix_autobind().
    pub fn autobind(self: &Arc<Self>, cx: &mut Cx<'_>) -> Result<()> {
        let wants = self.options.lock().passes_credentials && self.lock().name == Name::Unnamed;
        if wants {
            let name = cx.kernel.member.pod.names().add_automatic(self)?;
            self.lock().name = Name::Abstract(name);
        }
        Ok(())
    }

    /// Linux: unix_may_send(): one that is connected hears only its peer. `EPERM`
    pub fn may_send_to(self: &Arc<Self>, peer: &Arc<Self>) -> Result<()> {
        let state = peer.lock();
        match &state.peer {
            Some(other) if !Arc::ptr_eq(other, self) => Err(Errno::EPERM),
            _ => Ok(()),
        }
    }

    /// The bound socket at an address. `ECONNREFUSED`, `EPROTOTYPE` it is of another type.
    pub fn find(&self, cx: &Cx<'_>, name: &Name) -> Result<Arc<Self>> {
        let found = match name {
            Name::Unnamed => return Err(Errno::ECONNREFUSED),
            Name::Abstract(name) => cx.kernel.member.pod.names().named(self.kind, name),
            Name::Path(path) => {
                let place = cx.resolve(libc::AT_FDCWD, path, true)?;
                let attributes = place.attributes(cx.kernel)?;
                let who = &cx.task()?.credentials;
                if !who.may(MAY_WRITE, attributes.mode, attributes.uid, attributes.gid) {
                    return Err(Errno::EACCES);
                }
                if attributes.kind() != libc::S_IFSOCK {
                    return Err(Errno::ECONNREFUSED);
                }
                cx.kernel
                    .member
                    .pod
                    .names()
                    .at((attributes.dev, attributes.ino))
            }
        };
        let found = found.ok_or(Errno::ECONNREFUSED)?;
        if found.kind == self.kind {
            Ok(found)
        } else {
            Err(Errno::EPROTOTYPE)
        }
    }
}

fn parse_target(address: &[u8]) -> Result<Name> {
    match Name::parse(address)? {
        Name::Unnamed => Err(Errno::EINVAL),
        name => Ok(name),
    }
}

/// Two sockets that are each other's peers. socketpair(2).
pub fn pair(cx: &mut Cx<'_>, kind: Kind) -> Result<[Arc<UnixSocket>; 2]> {
    let credentials = credentials(cx)?;
    let who = cx.task()?.credentials.clone();
    let mut make = || {
        UnixSocket::new(
            kind,
            super::attributes(cx.kernel.new_inode(), who.fsuid, who.fsgid),
        )
    };
    let sockets = [make(), make()];
    for (index, socket) in sockets.iter().enumerate() {
        let mut state = socket.lock();
        state.phase = Phase::Connected;
        state.peer = Some(sockets[1 - index].clone());
        state.peer_credentials = credentials;
    }
    Ok(sockets)
}
