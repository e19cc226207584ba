//! The host's side: the listening socket, the `CONNECT` line, and the sockets behind guest-made connections.
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// `CONNECT 4294967295\n` has 19.
const LINE: usize = 32;
const LISTENER: u64 = 0;

/// A host program that has not said yet which port it wants.
#[derive(Debug)]
struct Greeting {
    socket: UnixStream,
    line: Vec<u8>,
}

/// What happened on a host socket.
#[derive(Debug)]
pub(super) enum Event {
    /// A host program wants the guest's port; its socket keeps the number under which it is watched.
    Connect {
        id: u64,
        port: u32,
        socket: UnixStream,
    },
    /// The socket with this number can be read or written.
    Socket(u64),
}

#[derive(Debug)]
pub(super) struct Host {
    path: PathBuf,
    listener: UnixListener,
    epoll: OwnedFd,
    greetings: std::collections::BTreeMap<u64, Greeting>,
    next_id: u64,
}

impl Host {
    /// Listens on `path`. A socket that a killed monitor left there is replaced; one that answers is refused.
    pub(super) fn listen(path: &Path) -> io::Result<Host> {
        let listener = crate::api::socket::listen(path)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        Ok(Host {
            path: path.to_owned(),
            listener,
            epoll,
            greetings: Default::default(),
            next_id: LISTENER + 1,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Connects to the program that listens on `<path>_<port>` for the guest.
    pub(super) fn connect(&mut self, port: u32) -> io::Result<(u64, UnixStream)> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!("_{port}"));
        let socket = crate::api::socket::connect_at_once(Path::new(&name))?;
        let id = self.watch(&socket)?;
        Ok((id, socket))
    }

    /// Watches for edges: who handles a socket reads and writes it until it would block.
    fn watch(&mut self, socket: &UnixStream) -> io::Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(id), flags)?;
        Ok(id)
    }

    /// Everything that happened since the last call. `nr_open` connections exist; at `limit` new ones are turned away.
    pub(super) fn events(&mut self, nr_open: usize, limit: usize) -> Vec<Event> {
        let mut found = Vec::new();
        for id in self.poll() {
            if id == LISTENER {
                self.accept(nr_open, limit, &mut found);
            } else if self.greetings.contains_key(&id) {
                found.extend(self.greet(id));
            } else {
                found.push(Event::Socket(id));
            }
        }
        found
    }

    fn poll(&self) -> Vec<u64> {
        let mut ready = Vec::new();
        loop {
            let mut batch = Vec::with_capacity(64);
            let none = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let buffer = rustix::buffer::spare_capacity(&mut batch);
            let count = epoll::wait(&self.epoll, buffer, Some(&none)).unwrap_or(0);
            ready.extend(batch.iter().map(|event| event.data.u64()));
            // The listener is watched by level, so a full batch with only it in it must not repeat for ever.
            if count < 64 || ready.len() > 1024 {
                return ready;
            }
        }
    }

    fn accept(&mut self, nr_open: usize, limit: usize, found: &mut Vec<Event>) {
        while let Ok((socket, _)) = self.listener.accept() {
            if nr_open + self.greetings.len() >= limit || socket.set_nonblocking(true).is_err() {
                continue;
            }
            if let Ok(id) = self.watch(&socket) {
                self.greetings.insert(
                    id,
                    Greeting {
                        socket,
                        line: Vec::new(),
                    },
                );
                found.extend(self.greet(id));
            }
        }
    }

    /// Reads the line byte by byte: what follows it belongs to the guest.
    fn greet(&mut self, id: u64) -> Option<Event> {
        let greeting = self.greetings.get_mut(&id)?;
        let mut byte = [0];
        loop {
            match greeting.socket.read(&mut byte) {
                Ok(1) if byte == *b"\n" => break,
                Ok(1) if greeting.line.len() < LINE => greeting.line.extend(byte),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => {
                    self.greetings.remove(&id);
                    return None;
                }
            }
        }
        let Greeting { socket, line } = self.greetings.remove(&id)?;
        let text = str::from_utf8(&line).ok()?;
        // Firecracker takes the word in any case.
        let (word, port) = text.split_once(' ')?;
        let port = port
            .trim()
            .parse()
            .ok()
            .filter(|_| word.eq_ignore_ascii_case("connect"))?;
        Some(Event::Connect { id, port, socket })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
