//! The clients of the control sockets: who starts a container, and who asks something of one that runs.

use casemate_guest_protocol::{Limits, ToGuest};
use rustix::net::{RecvFlags, SocketFlags, accept_with};

use super::{FIRST, Failure, Phase, Relay};
use crate::connection::Connection;
use crate::messages::{Event, Request, Said};

const MAX_CLIENTS: usize = 256;

pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) container: u32,
    pub(super) process: Option<u32>,
    pub(super) ticket: Option<u32>,
}

impl Relay {
    pub(super) fn accept(&mut self, container: u32) {
        while let Some(place) = self.containers.get(&container)
            && let Ok(socket) = accept_with(&place.listen, SocketFlags::CLOEXEC)
        {
            if self.clients.len() < MAX_CLIENTS {
                let client = Client {
                    connection: Connection::new(socket),
                    container,
                    process: None,
                    ticket: None,
                };
                let number = self.number();
                self.clients.insert(number, client);
            }
        }
    }

    pub(super) fn serve_client(&mut self, id: u32) -> Result<(), Failure> {
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        client.connection.receive(RecvFlags::DONTWAIT);
        while let Some(client) = self.clients.get_mut(&id) {
            match client.connection.next::<Said>() {
                Some(Said::Command { command }) => return self.begin(id, &command),
                Some(Said::Request(request)) => self.answer(id, request)?,
                None => break,
            }
        }
        Ok(())
    }

    /// `start`: the connection becomes the starter's channel.
    fn begin(&mut self, id: u32, command: &str) -> Result<(), Failure> {
        let Some(client) = self.clients.remove(&id) else {
            return Ok(());
        };
        let process = client.container;
        if let Some(container) = self.containers.get_mut(&process)
            && command == "start"
            && container.phase == Phase::Waits
        {
            container.phase = Phase::Starts;
            container.starter = Some(client.connection);
            self.link.send(&ToGuest::Start { process })?;
        }
        Ok(())
    }

    fn answer(&mut self, id: u32, request: Request) -> Result<(), Failure> {
        let Some(client) = self.clients.get(&id) else {
            return Ok(());
        };
        let (process, place) = (client.process, client.container);
        let Some(container) = self.containers.get(&place).map(|place| place.name.clone()) else {
            // Of the first process there is always one; a further container's client outlives it only to be told its end.
            return Ok(());
        };
        match request {
            Request::Exec { plan, terminal } => return self.exec(id, container, plan, terminal),
            Request::Join { .. } => return self.join(id, request),
            Request::Signal {
                signal,
                pid: Some(0),
            } => {
                self.link.send(&ToGuest::SignalAll { container, signal })?;
                self.tell(id, &Event::Done);
            }
            Request::Signal { signal, .. } => {
                if let Some(process) = process.filter(|process| self.takes_signals(*process)) {
                    self.link.send(&ToGuest::Signal { process, signal })?;
                }
                self.tell(id, &Event::Done);
            }
            Request::Resize { columns, rows } => {
                if let Some(process) = process {
                    self.link.send(&ToGuest::Resize {
                        process,
                        columns,
                        rows,
                    })?;
                }
            }
            Request::Ps {} => {
                let ticket = self.ticket(id);
                self.link.send(&ToGuest::Processes { ticket, container })?;
            }
            Request::Freeze { frozen } => {
                let ticket = self.ticket(id);
                self.link.send(&ToGuest::Freeze {
                    ticket,
                    container,
                    frozen,
                })?;
            }
            Request::Limits { memory, pids } => {
                let ticket = self.ticket(id);
                self.link.send(&ToGuest::Limit {
                    ticket,
                    container,
                    limits: Limits { memory, pids },
                })?;
            }
            Request::Stats {} => {
                let ticket = self.ticket(id);
                self.link.send(&ToGuest::Stats { ticket, container })?;
            }
            Request::Taps {} => {
                let names = if place == FIRST {
                    self.taps.clone()
                } else {
                    Vec::new()
                };
                self.tell(id, &Event::Taps { names });
            }
            Request::Network { network } => {
                let ticket = self.ticket(id);
                self.link.send(&ToGuest::Network { ticket, network })?;
            }
        }
        Ok(())
    }

    /// A container's first process before its start is like one of a pid namespace: nothing but SIGKILL ends it.
    fn takes_signals(&self, process: u32) -> bool {
        self.containers
            .get(&process)
            .is_none_or(|container| container.phase == Phase::Runs)
    }

    fn ticket(&mut self, id: u32) -> u32 {
        let ticket = self.number();
        if let Some(client) = self.clients.get_mut(&id) {
            client.ticket = Some(ticket);
        }
        ticket
    }

    /// Answers the client that asked with this ticket.
    pub(super) fn reply(&mut self, ticket: u32, event: &Event) {
        let client = self
            .clients
            .values_mut()
            .find(|client| client.ticket == Some(ticket));
        if let Some(client) = client {
            client.ticket = None;
            client.connection.send(event);
        }
    }

    pub(super) fn tell(&mut self, id: u32, event: &Event) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.connection.send(event);
        }
    }

    pub(super) fn client_of(&mut self, process: u32) -> Option<&mut Client> {
        self.clients
            .values_mut()
            .find(|client| client.process == Some(process))
    }

    /// A client that is gone takes its program with it.
    pub(super) fn drop_closed_clients(&mut self) -> Result<(), Failure> {
        let closed: Vec<u32> = self
            .clients
            .iter()
            .filter(|(_, client)| client.connection.is_closed)
            .map(|(id, _)| *id)
            .collect();
        for id in closed {
            if let Some(client) = self.clients.remove(&id)
                && let Some(process) = client.process
            {
                self.link.send(&ToGuest::Signal {
                    process,
                    signal: libc::SIGKILL,
                })?;
            }
        }
        Ok(())
    }
}
