//! What the host says.

use casemate_guest_protocol::network::Network;
use casemate_guest_protocol::{CHANNEL, FILES, STDIN, ToGuest, ToHost};
use casemate_host::child;

use super::Server;
use crate::boot;
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::processes;

/// signal(7): ignored or continues by default.
const IGNORED_BY_DEFAULT: [i32; 5] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
    0,
];

impl Server {
    pub(super) fn obey(&mut self, message: ToGuest) -> Result<()> {
        match message {
            ToGuest::Nudge {} => {
                let bytes = self.link.acknowledge().unwrap_or(0);
                self.link.send(&ToHost::Received { bytes })?;
            }
            ToGuest::Configure {
                time_ns,
                entropy,
                share,
                root,
                is_narrow,
            } => {
                self.is_narrow = is_narrow;
                if let Some(root) = root.filter(|_| !self.is_shared) {
                    boot::mount_root(&root)?;
                }
                if let Some(share) = share.filter(|_| !self.is_shared) {
                    self.files = boot::mount_share(share)?;
                    self.is_shared = true;
                }
                boot::configure(time_ns, &entropy.0)?;
            }
            ToGuest::Create {
                process,
                container,
                plan,
                terminal,
                limits,
                default_action,
                shared,
            } => {
                let created = self.create(process, container, &plan.0, terminal, limits, shared);
                if let Some(process) = self.processes.get_mut(&process) {
                    process.default_action = default_action;
                }
                self.report_failure(process, created)?;
            }
            ToGuest::Exec {
                process,
                container,
                plan,
                terminal,
            } => {
                let started = self.exec(process, container, &plan.0, terminal);
                self.report_failure(process, started)?;
            }
            ToGuest::Start { process } => {
                let started = self.start(process);
                self.report_failure(process, started)?;
            }
            ToGuest::Signal { process, signal } => self.signal(process, signal),
            ToGuest::SignalAll { container, signal } => {
                for pid in self.pids_of(&container) {
                    // One that has just ended needs none.
                    let _ = child::kill(pid, signal);
                }
            }
            ToGuest::Data { process, bytes, .. } => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.take_data(&bytes.0)?;
                    process.write_input(&mut self.link)?;
                }
            }
            ToGuest::End { process, stream } => {
                if let Some(process) = self.processes.get_mut(&process) {
                    if stream == STDIN {
                        process.end_input();
                    } else {
                        process.end_output(stream);
                    }
                }
            }
            ToGuest::Files { bytes } => {
                if let Some(files) = &mut self.files {
                    files.answer(&bytes.0, &mut self.link)?;
                }
            }
            ToGuest::Credit {
                stream: FILES,
                bytes,
                ..
            } => {
                if let Some(files) = &mut self.files {
                    files.allowance.give(bytes);
                }
            }
            ToGuest::Credit {
                process,
                stream: CHANNEL,
                bytes,
            } => {
                if let Some(channel) = self.channels.get_mut(&process) {
                    channel.allowance.give(bytes);
                }
            }
            ToGuest::Credit {
                process,
                stream,
                bytes,
            } => {
                let outputs = self.processes.get_mut(&process);
                for output in outputs.into_iter().flat_map(|process| &mut process.outputs) {
                    if output.stream == stream {
                        output.allowance.give(bytes);
                    }
                }
            }
            ToGuest::Resize {
                process,
                columns,
                rows,
            } => {
                if let Some(process) = self.processes.get(&process) {
                    process.resize(columns, rows);
                }
            }
            ToGuest::Processes { ticket, container } => {
                let rows = processes::rows(&self.pids_of(&container));
                self.link.send(&ToHost::Processes { ticket, rows })?;
            }
            ToGuest::Freeze {
                ticket,
                container,
                frozen,
            } => {
                let done = self
                    .cgroup(&container)
                    .and_then(|cgroup| cgroup.freeze(frozen));
                self.answer(ticket, done)?;
            }
            ToGuest::Limit {
                ticket,
                container,
                limits,
            } => {
                let done = processes::fits(limits.memory)
                    .and_then(|()| self.cgroup(&container))
                    .and_then(|cgroup| cgroup.limit(limits));
                self.answer(ticket, done)?;
            }
            ToGuest::Stats { ticket, container } => match self.cgroup(&container) {
                Ok(cgroup) => {
                    let stats = cgroup.stats();
                    self.link.send(&ToHost::Stats { ticket, stats })?;
                }
                Err(error) => self.answer(ticket, Err(error))?,
            },
            ToGuest::Network { ticket, network } => {
                let done = self.connect_network(&network);
                self.answer(ticket, done)?;
            }
            ToGuest::Connect {
                connection,
                streams,
                container,
            } => self.connect(connection, streams, container)?,
            ToGuest::Packet {
                connection,
                bytes,
                with_streams,
            } => self.packet(connection, bytes.0, with_streams)?,
            ToGuest::Close { connection } => drop(self.channels.remove(&connection)),
            ToGuest::Remove { container } => drop(self.containers.remove(&container)),
        }
        Ok(())
    }

    fn connect_network(&self, network: &Network) -> Result<()> {
        let first = self.first.as_deref().unwrap_or_default();
        let pid = self.first_pid(first)?;
        casemate_network::apply(network, pid)
            .map_err(|error| Error::new(error.message, error.errno))
    }

    fn answer(&mut self, ticket: u32, done: Result<()>) -> Result<()> {
        let (errno, message) = match done {
            Ok(()) => (0, String::new()),
            Err(error) => (error.errno.max(1), error.message),
        };
        Ok(self.link.send(&ToHost::Answered {
            ticket,
            errno,
            message,
        })?)
    }

    fn signal(&mut self, id: u32, signal: i32) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let Some(pid) = process.pid.filter(|_| process.status.is_none()) else {
            return;
        };
        // The kernel spares the first process of a pid namespace a signal's default action.
        if process.default_action
            && !IGNORED_BY_DEFAULT.contains(&signal)
            && !processes::handles(pid, signal)
        {
            process.ended_by = Some(signal);
            let _ = child::kill(pid, libc::SIGKILL);
        } else {
            let _ = child::kill(pid, signal);
        }
    }

    fn pids_of(&self, container: &str) -> Vec<i32> {
        self.containers
            .get(container)
            .map(Cgroup::pids)
            .unwrap_or_default()
    }
}
