//! Connections to a container's agent: bytes, a program's streams one way and its terminal the other.

use casemate_guest_protocol::ToHost;

use super::{Server, start_path};
use crate::channel::{Channel, Heard};
use crate::error::Result;
use crate::process::Process;

impl Server {
    pub(super) fn connect(&mut self, id: u32, streams: u32, container: String) -> Result<()> {
        let first = self
            .processes
            .values()
            .find(|process| process.is_first && process.container == container)
            .map(|process| process.id);
        let path = start_path(first.unwrap_or_default());
        match Channel::connect(id, streams, container, &path) {
            Ok(channel) => {
                self.channels.insert(id, channel);
                Ok(())
            }
            Err(_) => Ok(self.link.send(&ToHost::Closed { connection: id })?),
        }
    }

    /// Bytes for a container's agent.
    pub(super) fn packet(&mut self, id: u32, bytes: Vec<u8>, with_streams: bool) -> Result<()> {
        let Some(channel) = self.channels.get_mut(&id) else {
            return Ok(());
        };
        let mut descriptors = Vec::new();
        if with_streams {
            let (process, ends) = Process::foreign(channel.streams, channel.container.clone())?;
            descriptors.extend(ends.0);
            self.processes.insert(channel.streams, process);
        }
        channel.queue(bytes, descriptors)?;
        if !channel.send(&mut self.link)? {
            self.close(id)?;
        }
        Ok(())
    }

    fn close(&mut self, id: u32) -> Result<()> {
        self.channels.remove(&id);
        Ok(self.link.send(&ToHost::Closed { connection: id })?)
    }

    /// What a container's agent says, each frame but the answer to a program's start after what that program has said.
    pub(super) fn serve_channel(&mut self, id: u32) -> Result<()> {
        let Some(channel) = self.channels.get_mut(&id) else {
            return Ok(());
        };
        if !channel.send(&mut self.link)? {
            return self.close(id);
        }
        while !self.link.is_congested() {
            let (bytes, terminal) = if channel.is_held() {
                (channel.release(), None)
            } else {
                match channel.receive() {
                    Heard::Nothing => return Ok(()),
                    Heard::Bytes(bytes, terminal) => (bytes, terminal),
                    Heard::End => return self.close(id),
                }
            };
            let after_streams = channel.comes_after_streams();
            if after_streams
                && let Some(streams) = self.processes.get_mut(&channel.streams)
                && !streams.read_outputs(&mut self.link)?
            {
                channel.hold(bytes);
                return Ok(());
            }
            channel.passed(&bytes);
            let packet = channel.packet(bytes, terminal.is_some(), after_streams);
            if let Some(master) = terminal {
                let container = channel.container.clone();
                let process = Process::on_terminal(channel.streams, container, master)?;
                self.processes.insert(channel.streams, process);
            }
            self.link.send(&packet)?;
        }
        Ok(())
    }
}
