//! The connections of the API socket, none of which can make the loop wait.
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::api::http::{self, Parsed, Request};
use crate::api::{Fault, Reply};

/// More clients than this at once are turned away, the one that was silent for longest first.
const MAX_CONNECTIONS: usize = 16;
/// Answers that a client does not read. MMDS is the largest answer, and it is limited.
const MAX_UNREAD: usize = 1 << 20;
const MAX_DISCARDED: usize = 1 << 20;

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    said_continue: bool,
    closes: bool,
    /// The client sends no more.
    ended: bool,
    discarded: usize,
    /// When it last sent something, on a clock that counts events.
    last_heard: u64,
}

#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    connections: BTreeMap<u64, Connection>,
    max_body: usize,
    clock: u64,
}

/// Serves one request.
pub(crate) type Serve<'a> = dyn FnMut(&Request) -> Result<Reply, Fault> + 'a;

impl Server {
    pub(crate) fn new(listener: UnixListener, max_body: usize) -> std::io::Result<Server> {
        listener.set_nonblocking(true)?;
        Ok(Server {
            listener,
            connections: BTreeMap::new(),
            max_body,
            clock: 0,
        })
    }

    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Accepts one client. Returns its number and stream, to be watched for input and for room.
    pub(crate) fn accept(&mut self) -> Option<(u64, &UnixStream)> {
        let (stream, _) = self.listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        if self.connections.len() >= MAX_CONNECTIONS {
            let quietest = self
                .connections
                .iter()
                .min_by_key(|(_, connection)| connection.last_heard);
            let id = quietest.map(|(id, _)| *id)?;
            self.connections.remove(&id);
        }
        self.clock += 1;
        let connection = Connection {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            said_continue: false,
            closes: false,
            ended: false,
            discarded: 0,
            last_heard: self.clock,
        };
        let id = self.clock;
        Some((id, &self.connections.entry(id).or_insert(connection).stream))
    }

    /// Reads, serves and answers on connection `id`.
    pub(crate) fn handle(&mut self, id: u64, serve: &mut Serve<'_>) {
        self.clock += 1;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.last_heard = self.clock;
        if !connection.turn(self.max_body, serve) {
            self.connections.remove(&id);
        }
    }
}

impl Connection {
    /// False when the connection is over.
    fn turn(&mut self, max_body: usize, serve: &mut Serve<'_>) -> bool {
        let mut chunk = [0; 4096];
        while !self.ended && self.output.len() < MAX_UNREAD {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                // Closing a socket with unread input throws the answer away too (RFC 9112 §9.6), so the rest is read, up to a limit.
                Ok(read) if self.closes => {
                    self.discarded += read;
                    if self.discarded > MAX_DISCARDED {
                        return false;
                    }
                }
                Ok(read) => {
                    self.input.extend(chunk.get(..read).unwrap_or_default());
                    self.serve(max_body, serve);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        if !self.flush() {
            return false;
        }
        if self.closes && self.output.is_empty() {
            // A client that is gone needs no end of file.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        !(self.ended && self.output.is_empty())
    }

    /// Serves every whole request of the input.
    fn serve(&mut self, max_body: usize, serve: &mut Serve<'_>) {
        while !self.closes {
            match http::parse(&self.input, max_body) {
                Parsed::Partial { wants_continue } => {
                    if wants_continue && !self.said_continue {
                        self.said_continue = true;
                        self.output.extend(http::CONTINUE);
                    }
                    return;
                }
                Parsed::Request(request) => {
                    self.input.drain(..request.length);
                    self.said_continue = false;
                    self.closes = !request.keeps_open;
                    let result = serve(&request);
                    self.output.extend(http::answer(&result, &request));
                }
                Parsed::Broken { status, message } => {
                    self.closes = true;
                    self.output.extend(http::refusal(status, message));
                }
            }
            if self.input.is_empty() {
                return;
            }
        }
    }

    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}
