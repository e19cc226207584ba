//! What the guest says: each message is bounded by the protocol, and what it claims is checked against what it was allowed.

use std::time::{SystemTime, UNIX_EPOCH};

use casemate_guest_protocol::{Bytes, CHANNEL, FILES, LinkError, STDIN, ToGuest, ToHost, VERSION};
use casemate_host::process;

use super::{FIRST, Failure, Phase, Process, Relay};
use crate::messages::Event;

impl Relay {
    /// What the guest says.
    pub(super) fn hear(&mut self) -> Result<(), Failure> {
        self.silent_ms = 0;
        match self.link.receive() {
            Ok(()) => {}
            Err(LinkError::Closed) => return Err(self.machine_ended()),
            Err(error) => return Err(error.into()),
        }
        while let Some(message) = self.link.take()? {
            self.heard(message)?;
        }
        Ok(())
    }

    pub(super) fn machine_ended(&mut self) -> Failure {
        let words = self.hypervisor.last_words();
        Failure::plain(format!("the virtual machine ended: {words}"))
    }

    pub(super) fn heard(&mut self, message: ToHost) -> Result<(), Failure> {
        match message {
            ToHost::Hello { version, .. } => {
                if version != VERSION {
                    return Err(Failure::plain(format!(
                        "the guest's agent speaks version {version}, this is {VERSION}: run `casemate kernel install` again"
                    )));
                }
                self.configure()?;
            }
            ToHost::Received { bytes } => {
                self.link.acknowledged(bytes);
                if self.phase() == Phase::Boots
                    && let Some(lines) = &self.config.restored
                {
                    // It runs: from now on the monitor takes orders.
                    self.hypervisor.tell(lines)?;
                    self.configure()?;
                }
            }
            ToHost::Ready { process } => self.is_created(process),
            ToHost::Started { process, pid } => self.started(process, pid),
            ToHost::Failed {
                process,
                op,
                index,
                errno,
                message,
                oom_kills,
            } => {
                if process == FIRST && oom_kills > 0 {
                    self.report(oom_kills);
                }
                let failure = Failure {
                    op,
                    index,
                    errno,
                    message,
                };
                if process == FIRST {
                    return Err(failure);
                }
                self.failed(process, &failure.event());
            }
            ToHost::Exited {
                process,
                status,
                oom_kills,
            } => {
                if process == FIRST && oom_kills > 0 {
                    self.report(oom_kills);
                }
                self.exited(process, status);
            }
            ToHost::Data {
                process,
                stream,
                bytes,
            } => {
                if let Some(writer) = self.writer(process, stream) {
                    if !writer.receipt.receive(bytes.0.len()) {
                        return Err(Failure::plain("the guest sent more than was allowed"));
                    }
                    writer.write(bytes.0);
                }
            }
            ToHost::End { process, stream } => {
                if stream == STDIN
                    && let Some(process) = self.processes.get_mut(&process)
                {
                    process.input = None;
                }
                if let Some(writer) = self.writer(process, stream) {
                    writer.end();
                }
                self.settle(process);
            }
            ToHost::Files { bytes } => self.ask_files(bytes.0)?,
            ToHost::Credit {
                stream: FILES,
                bytes,
                ..
            } => {
                if let Some(files) = &mut self.files {
                    files.allowance.give(bytes);
                }
            }
            ToHost::Credit {
                process,
                stream: CHANNEL,
                bytes,
            } => {
                if let Some(channel) = self.channels.get_mut(&process) {
                    channel.allowance.give(bytes);
                }
            }
            ToHost::Credit { process, bytes, .. } => {
                if let Some(reader) = self
                    .processes
                    .get_mut(&process)
                    .and_then(|process| process.input.as_mut())
                {
                    reader.allowance.give(bytes);
                }
            }
            ToHost::Processes { ticket, rows } => {
                self.reply(ticket, &Event::Ps { processes: rows });
            }
            ToHost::Answered {
                ticket, errno: 0, ..
            } => self.reply(ticket, &Event::Done),
            ToHost::Answered {
                ticket,
                errno,
                message,
            } => self.reply(
                ticket,
                &Failure {
                    errno,
                    ..Failure::plain(message)
                }
                .event(),
            ),
            ToHost::Stats { ticket, stats } => self.reply(ticket, &Event::Stats { stats }),
            ToHost::Packet {
                connection,
                bytes,
                with_terminal,
                after_streams,
            } => self.packet(connection, bytes.0, with_terminal, after_streams)?,
            ToHost::Closed { connection } => self.channel_closed(connection)?,
        }
        Ok(())
    }

    /// The guest is up: it learns the time, gets entropy, and the container.
    fn configure(&mut self) -> Result<(), Failure> {
        if self.phase() != Phase::Boots {
            return Err(Failure::plain("the guest restarted"));
        }
        if let Some(first) = self.containers.get_mut(&FIRST) {
            first.phase = Phase::IsCreated;
        }
        let mut entropy = vec![0; 64];
        rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty())?;
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.link.send(&ToGuest::Configure {
            time_ns: u64::try_from(time.as_nanos()).unwrap_or(0),
            entropy: Bytes(entropy),
            share: self.config.share,
            root: self.config.root.clone(),
            is_narrow: self.config.link_window > 0,
        })?;
        self.link.send(&ToGuest::Create {
            process: FIRST,
            container: self.config.container.clone(),
            plan: Bytes(std::mem::take(&mut self.config.plan)),
            terminal: self.config.has_terminal,
            limits: self.config.limits,
            default_action: self.config.default_action,
            shared: 0,
        })?;
        let mut first = Process::default();
        if self.config.has_terminal {
            let descriptors = vec![process::duplicate(0)?, process::duplicate(0)?];
            self.attach(FIRST, &mut first, descriptors);
            self.resize(FIRST)?;
        } else {
            let descriptors = (0..3)
                .map(process::duplicate)
                .collect::<std::io::Result<Vec<_>>>()?;
            self.attach(FIRST, &mut first, descriptors);
        }
        self.processes.insert(FIRST, first);
        Ok(())
    }

    /// What can be asked no more once the machine has ended.
    fn report(&self, oom_kills: u64) {
        if let Some(file) = &self.report {
            // Best effort: without it the program was killed, and nobody knows for what.
            let _ = rustix::io::write(file, oom_kills.to_string().as_bytes());
        }
    }
}
