//! Programs that clients bring: another in a container, and further containers.

use std::os::fd::OwnedFd;

use casemate_guest_protocol::{Bytes, Limits, ToGuest};
use rustix::fs::{OFlags, fcntl_setfl};

use super::{Container, Failure, Phase, Process, Relay};
use crate::messages::Request;

impl Relay {
    pub(super) fn exec(
        &mut self,
        id: u32,
        container: String,
        plan: Bytes,
        terminal: bool,
    ) -> Result<(), Failure> {
        let Some(descriptors) = self.take_streams(id, terminal, 0)? else {
            return Ok(());
        };
        let process = self.begin_process(id, descriptors);
        Ok(self.link.send(&ToGuest::Exec {
            process,
            container,
            plan,
            terminal,
        })?)
    }

    /// A further container: the client stands for it on the host.
    pub(super) fn join(&mut self, id: u32, request: Request) -> Result<(), Failure> {
        let Request::Join {
            container,
            plan,
            terminal,
            memory,
            pids,
            shared,
        } = request
        else {
            return Ok(());
        };
        let Some(mut descriptors) = self.take_streams(id, terminal, 1)? else {
            return Ok(());
        };
        let listen = descriptors.remove(0);
        fcntl_setfl(&listen, OFlags::NONBLOCK)?;
        let process = self.begin_process(id, descriptors);
        let joined = Container {
            name: container.clone(),
            listen,
            phase: Phase::IsCreated,
            starter: None,
            stand_in: Some(id),
        };
        self.containers.insert(process, joined);
        Ok(self.link.send(&ToGuest::Create {
            process,
            container,
            plan,
            terminal,
            limits: Limits { memory, pids },
            default_action: false,
            shared,
        })?)
    }

    /// The descriptors that came with a request for a program in a container that runs, `further` of them before its streams; a client that sent others is
    /// dropped. A terminal's slave is there twice: for reading and for writing.
    fn take_streams(
        &mut self,
        id: u32,
        terminal: bool,
        further: usize,
    ) -> Result<Option<Vec<OwnedFd>>, Failure> {
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(None);
        };
        let mut descriptors = std::mem::take(&mut client.connection.descriptors);
        let runs = self
            .containers
            .get(&client.container)
            .is_some_and(|container| container.phase == Phase::Runs);
        let wanted = further + if terminal { 1 } else { 3 };
        if !runs || client.process.is_some() || descriptors.len() != wanted {
            client.connection.is_closed = true;
            return Ok(None);
        }
        if terminal && let Some(slave) = descriptors.last() {
            let copy = rustix::io::fcntl_dupfd_cloexec(slave, 3)?;
            descriptors.push(copy);
        }
        Ok(Some(descriptors))
    }

    /// A process that the client stands for; returns its number.
    fn begin_process(&mut self, id: u32, streams: Vec<OwnedFd>) -> u32 {
        let number = self.number();
        if let Some(client) = self.clients.get_mut(&id) {
            client.process = Some(number);
        }
        let mut process = Process {
            client: Some(id),
            ..Process::default()
        };
        self.attach(number, &mut process, streams);
        self.processes.insert(number, process);
        number
    }
}
