//! The console's socket and its client.
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

const EVENTS: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    /// An edge was seen and not used up.
    is_readable: bool,
    is_writable: bool,
}

#[derive(Debug)]
pub(super) struct Host {
    /// Where clients come in, unless there was one from the start.
    socket: Option<(PathBuf, UnixListener)>,
    epoll: OwnedFd,
    client: Option<Client>,
}

impl Host {
    /// Listens on `path`. A socket that a killed monitor left there is replaced; one that answers is refused.
    pub(super) fn listen(path: &Path) -> io::Result<Host> {
        let listener = crate::api::socket::listen(path)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &listener, EventData::new_u64(0), flags)?;
        Ok(Host {
            socket: Some((path.to_owned(), listener)),
            epoll,
            client: None,
        })
    }

    /// Has one client for good.
    pub(super) fn adopt(stream: UnixStream) -> io::Result<Host> {
        let mut host = Host {
            socket: None,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            client: None,
        };
        host.watch(stream)?;
        Ok(host)
    }

    fn watch(&mut self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        epoll::add(&self.epoll, &stream, EventData::new_u64(1), EVENTS)?;
        self.client = Some(Client {
            stream,
            is_readable: true,
            is_writable: true,
        });
        Ok(())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Looks at what happened. Returns whether somebody new is connected.
    pub(super) fn poll(&mut self) -> bool {
        let mut events = Vec::with_capacity(8);
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let buffer = rustix::buffer::spare_capacity(&mut events);
        // Fails only for a signal; the edge stays.
        let _ = epoll::wait(&self.epoll, buffer, Some(&none));
        if let Some(client) = &mut self.client {
            client.is_readable = true;
            client.is_writable = true;
        }
        self.client.is_none() && self.accept()
    }

    fn accept(&mut self) -> bool {
        let Some((_, listener)) = &self.socket else {
            return false;
        };
        let accepted = listener.accept();
        accepted.is_ok_and(|(stream, _)| self.watch(stream).is_ok())
    }

    pub(super) fn has_input(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| client.is_readable)
    }

    /// Reads what is there. At its end, the client is forgotten and the next one is let in.
    pub(super) fn read(&mut self, into: &mut [u8]) -> usize {
        let Some(client) = &mut self.client else {
            return 0;
        };
        match retry(|| client.stream.read(into)) {
            Ok(0) if !into.is_empty() => self.next_client(),
            Ok(read) => return read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => client.is_readable = false,
            Err(_) => self.next_client(),
        }
        0
    }

    /// Writes as much as the client takes now; None if there is no client.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let client = self.client.as_mut()?;
        if !client.is_writable {
            return Some(0);
        }
        match retry(|| client.stream.write(bytes)) {
            Ok(written) => Some(written),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                client.is_writable = false;
                Some(0)
            }
            Err(_) => {
                self.next_client();
                None
            }
        }
    }

    /// Makes a new edge for what is left in the client's socket.
    pub(super) fn come_back(&self) {
        if let Some(client) = &self.client {
            // epoll looks at a descriptor again when its events are set. It is watched, so this cannot fail.
            let _ = epoll::modify(&self.epoll, &client.stream, EventData::new_u64(1), EVENTS);
        }
    }

    fn next_client(&mut self) {
        self.client = None;
        self.accept();
    }
}

/// Repeats what a pause's signal interrupted.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}
