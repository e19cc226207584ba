//! The guest's processes as the host sees them: their streams, and how far each is.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use casemate_guest_protocol::{Bytes, MAX_DATA, STDERR, STDIN, STDOUT, ToGuest};
use rustix::termios::tcgetwinsize;

use super::{FIRST, Failure, Phase, Relay};
use crate::messages::Event;
use crate::streams::{Reader, Writer, Written};

/// A process in the guest, as the host sees it.
#[derive(Default)]
pub(crate) struct Process {
    pub(crate) input: Option<Reader>,
    pub(crate) outputs: BTreeMap<u8, Writer>,
    pub(crate) client: Option<u32>,
    pub(crate) has_started: bool,
    pub(crate) status: Option<i32>,
}

impl Process {
    /// Whether something that it has said is still to be written.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.outputs.values().any(|writer| writer.pending > 0)
    }
}

impl Relay {
    /// Three descriptors are the streams; two are a terminal's slave for reading and for writing.
    pub(crate) fn attach(&self, id: u32, process: &mut Process, descriptors: Vec<OwnedFd>) {
        let streams: &[u8] = if descriptors.len() == 2 {
            &[STDIN]
        } else {
            &[STDOUT, STDERR]
        };
        let mut descriptors = descriptors.into_iter();
        process.input = descriptors.next().map(Reader::new);
        for (stream, fd) in streams.iter().zip(descriptors) {
            let writer = Writer::start(id, *stream, fd, self.notices.clone());
            process.outputs.insert(*stream, writer);
        }
    }

    pub(super) fn resize(&mut self, process: u32) -> Result<(), Failure> {
        if let Ok(size) = tcgetwinsize(std::io::stdin()) {
            self.link.send(&ToGuest::Resize {
                process,
                columns: size.ws_col,
                rows: size.ws_row,
            })?;
        }
        Ok(())
    }

    /// A container waits for `start`: whoever creates it is told.
    pub(super) fn is_created(&mut self, id: u32) {
        let Some(container) = self.containers.get_mut(&id) else {
            return;
        };
        if container.phase != Phase::IsCreated {
            return;
        }
        container.phase = Phase::Waits;
        let stand_in = container.stand_in;
        if let Some(mut starter) = container.starter.take() {
            starter.send(&Event::Ready);
        }
        if let Some(client) = stand_in {
            self.tell(client, &Event::Ready);
        }
    }

    pub(super) fn started(&mut self, id: u32, pid: i32) {
        if let Some(process) = self.processes.get_mut(&id) {
            process.has_started = true;
        }
        if let Some(container) = self.containers.get_mut(&id) {
            container.phase = Phase::Runs;
            // Its end tells who said `start` that the program runs; and nothing more of this process is anybody's stream but the program's.
            container.starter = None;
        } else if let Some(client) = self.client_of(id) {
            client.connection.send(&Event::Started { pid });
        }
    }

    /// A program that will not run: whoever waits for it is told why.
    pub(super) fn failed(&mut self, id: u32, event: &Event) {
        self.processes.remove(&id);
        if let Some(container) = self.containers.remove(&id)
            && let Some(mut starter) = container.starter
        {
            starter.send(event);
        }
        if let Some(client) = self.client_of(id) {
            client.connection.send(event);
            client.process = None;
        }
    }

    pub(super) fn exited(&mut self, id: u32, status: i32) {
        if id == FIRST {
            self.is_over = Some(status);
            return;
        }
        // Nobody may connect there any more, and whoever waits for its start learns that it has ended by the end of the connection.
        self.containers.remove(&id);
        if let Some(process) = self.processes.get_mut(&id) {
            process.status = Some(status);
            process.input = None;
        }
        if let Some(client) = self.client_of(id) {
            client.process = None;
        }
        self.settle(id);
    }

    /// The client of an ended process hears of it when all that the process has said is written. What others of its streams' holders say comes after.
    pub(super) fn settle(&mut self, id: u32) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let Some(status) = process.status else {
            // Streams of a program that a container's agent started: its end is told there.
            if process.client.is_none()
                && id != FIRST
                && process.outputs.values().all(Writer::has_finished)
            {
                self.processes.remove(&id);
            }
            return;
        };
        if process.is_unwritten() {
            return;
        }
        let is_over = process.outputs.values().all(Writer::has_finished);
        if let Some(client) = process.client.take() {
            self.tell(client, &Event::Exited { status });
        }
        if is_over {
            self.processes.remove(&id);
        }
    }

    pub(super) fn writer(&mut self, process: u32, stream: u8) -> Option<&mut Writer> {
        self.processes.get_mut(&process)?.outputs.get_mut(&stream)
    }

    pub(super) fn take_notices(&mut self) -> Result<(), Failure> {
        let mut count = [0; 8];
        // Only that something is there matters.
        let _ = rustix::io::read(self.notices.fd(), &mut count);
        while let Ok(written) = self.written.try_recv() {
            let Written {
                process,
                stream,
                bytes,
                has_failed,
            } = written;
            let Some(writer) = self.writer(process, stream) else {
                continue;
            };
            writer.pending = writer.pending.saturating_sub(bytes);
            if has_failed {
                writer.end();
                self.link.send(&ToGuest::End { process, stream })?;
            }
            let Some(writer) = self.writer(process, stream) else {
                continue;
            };
            if let Some(bytes) = writer.receipt.take(bytes) {
                self.link.send(&ToGuest::Credit {
                    process,
                    stream,
                    bytes,
                })?;
            }
            if process != FIRST {
                self.settle(process);
                self.settle_streams(process)?;
            }
        }
        Ok(())
    }

    pub(super) fn read_input(&mut self, id: u32) -> Result<(), Failure> {
        let Some(process) = self.processes.get_mut(&id) else {
            return Ok(());
        };
        let Some(reader) = &mut process.input else {
            return Ok(());
        };
        match reader.read(MAX_DATA) {
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => self.link.send(&ToGuest::Data {
                process: id,
                stream: STDIN,
                bytes: Bytes(bytes),
            })?,
            None => {
                process.input = None;
                self.link.send(&ToGuest::End {
                    process: id,
                    stream: STDIN,
                })?;
            }
        }
        Ok(())
    }
}
