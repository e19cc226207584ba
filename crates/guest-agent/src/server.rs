//! The agent's loop: the host's messages, the processes' streams and reports, the ends of children. One thread, and no call but poll(2) waits.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use casemate_guest_protocol::network::Network;
use casemate_guest_protocol::{
    CHANNEL, FILES, Limits, Link, LinkError, MAX_TO_GUEST, STDIN, ToGuest, ToHost, VERSION,
};
use casemate_host::child;
use rustix::event::{PollFd, PollFlags, poll};

use crate::boot;
use crate::cgroup::Cgroup;
use crate::channel::{Channel, Heard};
use crate::error::{About, Error, Result};
use crate::files::Files;
use crate::launch::{ALL, Next, Place, Report, Reports, launch};
use crate::process::Process;
use crate::processes;

pub(crate) struct Server {
    link: Link,
    children: OwnedFd,
    processes: BTreeMap<u32, Process>,
    containers: BTreeMap<String, Cgroup>,
    /// Connections to containers' agents.
    channels: BTreeMap<u32, Channel>,
    /// The machine's first container, whose namespaces others may share.
    first: Option<String>,
    is_shared: bool,
    /// Until the host says that it is not.
    is_narrow: bool,
    /// The host's directories, where they come over the link.
    files: Option<Files>,
}

/// What a descriptor that is polled belongs to.
enum Source {
    Link,
    Children,
    Reports(u32),
    Input(u32),
    Output(u32, u8),
    Channel(u32),
    Files,
}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        Self::new(format!("the host: {error}"), libc::EPROTO)
    }
}

impl Server {
    pub(crate) fn new(link: OwnedFd) -> Result<Self> {
        Ok(Self {
            link: Link::new(link, MAX_TO_GUEST),
            children: child::child_events().about("signalfd")?,
            processes: BTreeMap::new(),
            containers: BTreeMap::new(),
            channels: BTreeMap::new(),
            first: None,
            is_shared: false,
            is_narrow: true,
            files: None,
        })
    }

    /// Serves until the host is gone.
    pub(crate) fn run(mut self) -> Result<()> {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        self.link.send(&ToHost::Hello {
            version: VERSION,
            release,
        })?;
        loop {
            for source in self.wait()? {
                match source {
                    Source::Link => match self.link.receive() {
                        Ok(()) => {
                            if self.is_narrow
                                && let Some(bytes) = self.link.acknowledge()
                            {
                                self.link.send(&ToHost::Received { bytes })?;
                            }
                        }
                        Err(LinkError::Closed) => return Ok(()),
                        Err(error) => return Err(error.into()),
                    },
                    Source::Children => self.reap()?,
                    Source::Reports(id) => self.follow(id)?,
                    Source::Input(id) => {
                        if let Some(process) = self.processes.get_mut(&id) {
                            process.write_input(&mut self.link)?;
                        }
                    }
                    Source::Output(id, stream) => {
                        if let Some(process) = self.processes.get_mut(&id) {
                            process.read_output(stream, &mut self.link)?;
                        }
                    }
                    Source::Channel(id) => self.serve_channel(id)?,
                    Source::Files => {
                        if let Some(files) = &mut self.files {
                            files.ask(&mut self.link)?;
                        }
                    }
                }
            }
            while let Some(message) = self.link.take()? {
                self.obey(message)?;
            }
            self.report_ends()?;
            self.link.flush()?;
        }
    }

    /// Sleeps until something is to be done.
    fn wait(&self) -> Result<Vec<Source>> {
        let mut sources = vec![Source::Link, Source::Children];
        let mut flags = PollFlags::IN;
        if self.link.has_unsent() {
            flags |= PollFlags::OUT;
        }
        let mut polled = vec![
            PollFd::from_borrowed_fd(self.link.fd(), flags),
            PollFd::new(&self.children, PollFlags::IN),
        ];
        for process in self.processes.values() {
            if let Some(reports) = &process.reports {
                sources.push(Source::Reports(process.id));
                polled.push(PollFd::from_borrowed_fd(reports.fd(), PollFlags::IN));
            }
            if let Some(fd) = process.input_waits() {
                sources.push(Source::Input(process.id));
                polled.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
            }
            if !self.link.is_congested() {
                for (stream, fd) in process.readable() {
                    sources.push(Source::Output(process.id, stream));
                    polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                }
            }
        }
        for (id, channel) in &self.channels {
            let mut flags = PollFlags::empty();
            if channel.has_unsent() {
                flags |= PollFlags::OUT;
            }
            let waits_for_streams = self
                .processes
                .get(&channel.streams)
                .is_some_and(|streams| channel.comes_after_streams() && streams.is_held_up());
            if channel.allowance.left() > 0 && !self.link.is_congested() && !waits_for_streams {
                flags |= PollFlags::IN;
            }
            if !flags.is_empty() {
                sources.push(Source::Channel(*id));
                polled.push(PollFd::from_borrowed_fd(channel.fd(), flags));
            }
        }
        if let Some(files) = &self.files
            && files.may_ask()
            && !self.link.is_congested()
        {
            sources.push(Source::Files);
            polled.push(PollFd::from_borrowed_fd(files.fd(), PollFlags::IN));
        }
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).about("poll"),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        sources.retain(|_| ready.next().unwrap_or(false));
        Ok(sources)
    }

    fn obey(&mut self, message: ToGuest) -> Result<()> {
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

    fn cgroup(&self, container: &str) -> Result<&Cgroup> {
        let gone = || Error::new("the container has ended", libc::ESRCH);
        self.containers.get(container).ok_or_else(gone)
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

    fn connect(&mut self, id: u32, streams: u32, container: String) -> Result<()> {
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
    fn packet(&mut self, id: u32, bytes: Vec<u8>, with_streams: bool) -> Result<()> {
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
    fn serve_channel(&mut self, id: u32) -> Result<()> {
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

    fn create(
        &mut self,
        id: u32,
        container: String,
        plan: &[u8],
        terminal: bool,
        limits: Limits,
        shared: u64,
    ) -> Result<()> {
        let cgroup = Cgroup::create(&container, limits)?;
        let directory = cgroup.open()?;
        let path = start_path(id);
        let listener = UnixListener::bind(&path).about(&path)?;
        let (mut process, streams) = Process::new(id, container.clone(), true, terminal)?;
        let join = match (i32::try_from(shared), &self.first) {
            (Ok(kinds), Some(first)) if kinds != 0 => Some((self.first_pid(first)?, kinds)),
            _ => None,
        };
        let place = Place {
            cgroup: Some(directory),
            listener: Some(&listener),
            join,
        };
        process.reports = Some(launch(plan, place, streams)?);
        process.waiting = Some(listener);
        self.first.get_or_insert_with(|| container.clone());
        self.containers.insert(container, cgroup);
        self.processes.insert(id, process);
        Ok(())
    }

    /// The first process of a container that runs.
    fn first_pid(&self, container: &str) -> Result<i32> {
        self.processes
            .values()
            .find(|process| process.is_first && process.container == container)
            .and_then(|process| process.pid.filter(|_| process.status.is_none()))
            .ok_or_else(|| Error::new("the container has ended", libc::ESRCH))
    }

    fn exec(&mut self, id: u32, container: String, plan: &[u8], terminal: bool) -> Result<()> {
        let first = self.first_pid(&container)?;
        let cgroup = self.cgroup(&container)?.open()?;
        let (mut process, streams) = Process::new(id, container, false, terminal)?;
        let place = Place {
            cgroup: Some(cgroup),
            listener: None,
            join: Some((first, ALL)),
        };
        process.reports = Some(launch(plan, place, streams)?);
        self.processes.insert(id, process);
        Ok(())
    }

    /// Says `start` to a process that waits for it; its reports come on that connection from now on.
    fn start(&mut self, id: u32) -> Result<()> {
        let path = start_path(id);
        let Some(process) = self.processes.get_mut(&id) else {
            return Err(Error::new("no such process", libc::ESRCH));
        };
        let stream = UnixStream::connect(&path).about("start")?;
        // The socket stays: a program that is an agent goes on to serve it.
        process.waiting = None;
        let reports = Reports::new(stream.into());
        reports.say("start")?;
        process.reports = Some(reports);
        Ok(())
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

    /// What `init` says of a process.
    fn follow(&mut self, id: u32) -> Result<()> {
        loop {
            let Some(process) = self.processes.get_mut(&id) else {
                return Ok(());
            };
            let Some(reports) = &mut process.reports else {
                return Ok(());
            };
            match reports.next() {
                Ok(Next::Nothing) => return Ok(()),
                Ok(Next::Report(report, descriptor)) => self.heard(id, report, descriptor)?,
                Ok(Next::End) => {
                    process.reports = None;
                    // The channel ends after `ready` too, and the process waits then.
                    if process.waiting.is_none() && !process.has_failed {
                        let pid = process.pid.unwrap_or(0);
                        self.link.send(&ToHost::Started { process: id, pid })?;
                    }
                    return Ok(());
                }
                Err(error) => {
                    process.reports = None;
                    return self.report_failure(id, Err(error));
                }
            }
        }
    }

    fn heard(&mut self, id: u32, report: Report, descriptor: Option<OwnedFd>) -> Result<()> {
        let Some(process) = self.processes.get_mut(&id) else {
            return Ok(());
        };
        match report {
            Report::Child { pid } => process.pid = Some(pid),
            Report::Console => {
                if let Some(master) = descriptor {
                    process.take_terminal(master)?;
                }
            }
            Report::Ready => {
                process.is_ready = true;
                self.link.send(&ToHost::Ready { process: id })?;
            }
            Report::Barrier { name } => {
                let error = Error::new(format!("a barrier {name:?} in a guest"), libc::EINVAL);
                return self.report_failure(id, Err(error));
            }
            Report::SeccompListener => {
                let error = Error::new("a seccomp listener in a guest", libc::EINVAL);
                return self.report_failure(id, Err(error));
            }
            Report::Error {
                op,
                index,
                errno,
                message,
            } => {
                process.has_failed = true;
                let oom_kills = self.oom_kills(id);
                self.link.send(&ToHost::Failed {
                    process: id,
                    op,
                    index,
                    errno,
                    message,
                    oom_kills,
                })?;
            }
        }
        Ok(())
    }

    fn report_failure(&mut self, id: u32, result: Result<()>) -> Result<()> {
        let Err(error) = result else {
            return Ok(());
        };
        if let Some(process) = self.processes.get_mut(&id) {
            process.has_failed = true;
            if let Some(pid) = process.pid {
                let _ = child::kill(pid, libc::SIGKILL);
            }
        }
        let oom_kills = self.oom_kills(id);
        self.link.send(&ToHost::Failed {
            process: id,
            op: String::new(),
            index: -1,
            errno: error.errno,
            message: error.message,
            oom_kills,
        })?;
        Ok(())
    }

    /// Of a container's first process: how often one of the container was killed for its limit of memory.
    fn oom_kills(&self, id: u32) -> u64 {
        self.processes
            .get(&id)
            .filter(|process| process.is_first)
            .and_then(|process| self.containers.get(&process.container))
            .map_or(0, |cgroup| cgroup.stats().oom_kills)
    }

    fn reap(&mut self) -> Result<()> {
        let mut drained = [0; 1280];
        // What the signals say is not needed: all children that have ended are reaped.
        let _ = rustix::io::read(self.children.as_fd(), &mut drained);
        while let Ok(Some(ended)) = child::reap() {
            // A child is named before it runs: now at the latest.
            self.learn_names()?;
            let process = self
                .processes
                .values_mut()
                .find(|process| process.pid == Some(ended.pid) && process.status.is_none());
            if let Some(process) = process {
                process.status = Some(match process.ended_by {
                    Some(signal) if ended.status & 0x7f == libc::SIGKILL => signal,
                    _ => ended.status,
                });
            }
        }
        Ok(())
    }

    /// Reads what there is of processes whose number is not known yet.
    fn learn_names(&mut self) -> Result<()> {
        let unnamed = self
            .processes
            .values()
            .filter(|process| process.pid.is_none());
        for id in unnamed.map(|process| process.id).collect::<Vec<u32>>() {
            self.follow(id)?;
        }
        Ok(())
    }

    /// Tells the ends of processes, each after all that it has said.
    fn report_ends(&mut self) -> Result<()> {
        let ended: Vec<u32> = self
            .processes
            .values()
            .filter(|process| process.status.is_some() && !process.has_exited)
            .map(|process| process.id)
            .collect();
        for id in ended {
            // What it failed with may still be unread; and whoever started it may still have the channel, whose end says that it ran.
            self.follow(id)?;
            if let Some(process) = self.processes.get_mut(&id)
                && process.reports.is_none()
                && process.read_outputs(&mut self.link)?
            {
                self.end(id)?;
            }
        }
        self.processes.retain(|_, process| !process.is_over());
        Ok(())
    }

    fn end(&mut self, id: u32) -> Result<()> {
        let oom_kills = self.oom_kills(id);
        let Some(process) = self.processes.get_mut(&id) else {
            return Ok(());
        };
        process.has_exited = true;
        let status = process.status.unwrap_or_default();
        if process.is_first {
            self.containers.remove(&process.container);
            // A container that failed before has none.
            let _ = std::fs::remove_file(start_path(id));
        }
        // The host looks at the files next, and may end this machine without a word. Files that come over the link are written when the last of the
        // container's processes has closed them, which has happened; to wait here for more would be to wait for this process.
        if self.files.is_none() {
            rustix::fs::sync();
        }
        self.link.send(&ToHost::Exited {
            process: id,
            status,
            oom_kills,
        })?;
        Ok(())
    }
}

/// Where a container's first process waits for `start`.
fn start_path(id: u32) -> String {
    format!("/run/start-{id}.sock")
}

/// signal(7): ignored or continues by default.
const IGNORED_BY_DEFAULT: [i32; 5] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
    0,
];
