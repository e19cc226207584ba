//! The relay's loop.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use casemate_guest_protocol::{
    Bytes, CHANNEL, FILES, Limits, Link, LinkError, MAX_DATA, MAX_TO_HOST, STDERR, STDIN, STDOUT,
    ToGuest, ToHost, VERSION,
};
use casemate_host::{child, process};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{OFlags, Timespec, fcntl_setfl};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, accept_with, socketpair};
use rustix::termios::tcgetwinsize;

use crate::agents::Channel;
use crate::cards;
use crate::connection::Connection;
use crate::events::read_signals;
use crate::files::Files;
use crate::hypervisor::Hypervisor;
use crate::messages::{Event, Request, Said};
use crate::streams::{Notices, Reader, Writer, Written};
use crate::{Config, Given, shell_code, terminal};

const FIRST: u32 = 1;
/// Of a program that is gone with its machine.
const KILLED: i32 = libc::SIGKILL;
/// How long an acknowledgement may take before the guest is nudged.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};
/// A guest that has been silent so long is asked for a sign of life.
const HEARTBEAT: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};
/// A guest that was asked and has said nothing for so long is dead: its kernel hangs, which no process of the host's shows. Counted in waits, not by a clock: a
/// machine that is paused pauses its relay, too.
const SILENCE_MS: u64 = 60_000;
const MAX_CLIENTS: usize = 256;

/// Why there is no machine, or no program in it.
#[derive(Debug)]
pub(crate) struct Failure {
    op: String,
    index: i64,
    errno: i32,
    message: String,
}

impl Failure {
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self {
            op: "machine".into(),
            index: -1,
            errno: 0,
            message: message.into(),
        }
    }

    fn event(self) -> Event {
        Event::Error {
            op: self.op,
            index: self.index,
            errno: self.errno,
            message: self.message,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or(0),
            ..Self::plain(error.to_string())
        }
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::plain(format!("the guest: {error}"))
    }
}

/// Runs the machine until its first container's program has ended; returns the code to end with.
#[must_use]
pub fn run(mut config: Config, given: Given) -> i32 {
    let mut starter = Connection::new(given.channel);
    let mut inherit = given.inherit;
    let taps = cards::plug(&mut config, given.taps, &mut inherit);
    match Relay::start(config, given.listen, given.agent, inherit) {
        Ok(mut relay) => {
            relay.report = given.report;
            relay.taps = taps;
            if relay.config.restored.is_some() {
                // Its answer says that the guest runs. If it cannot be sent, the first turn says so.
                let _ = relay.link.send(&ToGuest::Nudge {});
            }
            if let Some(first) = relay.containers.get_mut(&FIRST) {
                first.starter = Some(starter);
            }
            relay.serve()
        }
        Err(failure) => {
            starter.send(&failure.event());
            1
        }
    }
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Boots,
    IsCreated,
    Waits,
    Starts,
    Runs,
}

pub(crate) struct Relay {
    config: Config,
    pub(crate) link: Link,
    hypervisor: Hypervisor,
    signals: OwnedFd,
    pub(crate) notices: Notices,
    written: Receiver<Written>,
    deadline: Instant,
    /// By the numbers of their first processes.
    containers: BTreeMap<u32, Container>,
    pub(crate) processes: BTreeMap<u32, Process>,
    clients: BTreeMap<u32, Client>,
    /// Connections to the agent that is the first container's program, and where they come in.
    pub(crate) channels: BTreeMap<u32, Channel>,
    pub(crate) agent: Option<OwnedFd>,
    report: Option<OwnedFd>,
    taps: Vec<String>,
    pub(crate) files: Option<Files>,
    /// How long the guest has been silent.
    silent_ms: u64,
    /// Numbers of processes and of clients, and tickets: none is used twice.
    next: u32,
    is_over: Option<i32>,
}

struct Container {
    name: String,
    listen: OwnedFd,
    phase: Phase,
    /// Who waits for it to be created (the first only: others have a client that does), and later for it to be started.
    starter: Option<Connection>,
    /// The process that stands on the host for a container that joined.
    stand_in: Option<u32>,
}

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

struct Client {
    connection: Connection,
    container: u32,
    process: Option<u32>,
    ticket: Option<u32>,
}

enum Source {
    Link,
    Console,
    Signals,
    Listen(u32),
    Notices,
    Input(u32),
    Client(u32),
    Agent,
    Channel(u32),
    Files,
}

impl Relay {
    fn start(
        config: Config,
        listen: OwnedFd,
        agent: Option<OwnedFd>,
        inherit: Vec<OwnedFd>,
    ) -> Result<Self, Failure> {
        let signals = child::all_signals()?;
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        fcntl_setfl(&ours, OFlags::NONBLOCK)?;
        for socket in [Some(&listen), agent.as_ref()].into_iter().flatten() {
            fcntl_setfl(socket, OFlags::NONBLOCK)?;
        }
        let mut hypervisor = Hypervisor::start(&config, &theirs, inherit)?;
        let files = hypervisor.files.take();
        drop(theirs);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (notices, written) = Notices::new(wake);
        let deadline = Instant::now() + Duration::from_secs(u64::from(config.boot_timeout_s));
        if config.has_terminal {
            terminal::make_raw(std::io::stdin())?;
        }
        let mut link = Link::new(ours, MAX_TO_HOST);
        if config.link_window > 0 {
            link.narrow(config.link_window as usize);
        }
        let first = Container {
            name: config.container.clone(),
            listen,
            phase: Phase::Boots,
            starter: None,
            stand_in: None,
        };
        Ok(Self {
            config,
            link,
            hypervisor,
            signals,
            notices,
            written,
            deadline,
            containers: BTreeMap::from([(FIRST, first)]),
            processes: BTreeMap::new(),
            clients: BTreeMap::new(),
            channels: BTreeMap::new(),
            agent,
            report: None,
            taps: Vec::new(),
            files,
            silent_ms: 0,
            next: FIRST + 1,
            is_over: None,
        })
    }

    /// Runs until the first process has ended, and all that it has said is written.
    fn serve(mut self) -> i32 {
        let code = loop {
            if let Err(failure) = self.turn() {
                break self.fail(failure);
            }
            if let Some(status) = self.is_over {
                break shell_code(status);
            }
        };
        if let Some(first) = self.processes.remove(&FIRST) {
            for (_, writer) in first.outputs {
                writer.finish();
            }
        }
        code
    }

    /// The machine is lost. Whoever waits for the program is told; else the container's standard error.
    fn fail(&mut self, failure: Failure) -> i32 {
        if let Some(first) = self.containers.get_mut(&FIRST)
            && first.phase < Phase::Runs
            && let Some(starter) = &mut first.starter
        {
            starter.send(&failure.event());
            return 1;
        }
        let message = format!("casemate: {}\n", failure.message);
        let _ = rustix::io::write(std::io::stderr(), message.as_bytes());
        shell_code(KILLED)
    }

    fn phase(&self) -> Phase {
        self.containers
            .get(&FIRST)
            .map_or(Phase::Runs, |first| first.phase)
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let sources = self.wait()?;
        // Seen once in some hundred boots: User Mode Linux' edge-triggered line misses an edge. The next byte is one.
        if sources.is_empty() {
            let waited = self.patience();
            self.silent_ms +=
                u64::try_from(waited.tv_sec * 1000 + waited.tv_nsec / 1_000_000).unwrap_or(0);
            let is_booting = self.phase() == Phase::Boots && self.config.restored.is_none();
            let has_moved = is_booting || (self.link.is_waiting() && self.link.nudge()?);
            if !has_moved {
                self.link.send(&ToGuest::Nudge {})?;
            }
        }
        if self.silent_ms > SILENCE_MS && self.phase() >= Phase::Waits {
            let words = self.hypervisor.last_words();
            return Err(Failure::plain(format!(
                "the guest does not answer: {words}"
            )));
        }
        for source in sources {
            match source {
                Source::Link => self.hear()?,
                Source::Console => self.hypervisor.read_console(),
                Source::Signals => self.take_signals()?,
                Source::Listen(container) => self.accept(container),
                Source::Notices => self.take_notices()?,
                Source::Input(id) => self.read_input(id)?,
                Source::Client(id) => self.serve_client(id)?,
                Source::Agent => self.accept_channel()?,
                Source::Channel(id) => self.serve_channel(id)?,
                Source::Files => self.serve_files()?,
            }
        }
        self.drop_closed_clients()?;
        // Until the container waits for `start` nothing of it is anybody's program: it takes a bounded time or will not come.
        if self.phase() < Phase::Waits && Instant::now() > self.deadline {
            let words = self.hypervisor.last_words();
            let limit = self.config.boot_timeout_s;
            let what = if self.phase() == Phase::Boots {
                "come up"
            } else {
                "create the container"
            };
            return Err(Failure::plain(format!(
                "the guest did not {what} within {limit} s: {words}"
            )));
        }
        Ok(self.link.flush()?)
    }

    fn wait(&self) -> Result<Vec<Source>, Failure> {
        let mut sources = vec![Source::Link, Source::Signals, Source::Notices];
        let mut link_flags = PollFlags::IN;
        if self.link.has_unsent() {
            link_flags |= PollFlags::OUT;
        }
        let mut polled = vec![
            PollFd::from_borrowed_fd(self.link.fd(), link_flags),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(self.notices.fd(), PollFlags::IN),
        ];
        for (id, container) in &self.containers {
            sources.push(Source::Listen(*id));
            polled.push(PollFd::new(&container.listen, PollFlags::IN));
        }
        if let Some(agent) = self.agent_to_poll() {
            sources.push(Source::Agent);
            polled.push(PollFd::new(agent, PollFlags::IN));
        }
        for (id, channel) in &self.channels {
            let flags = channel.poll_flags(self.link.is_congested());
            if !flags.is_empty() {
                sources.push(Source::Channel(*id));
                polled.push(PollFd::from_borrowed_fd(channel.fd(), flags));
            }
        }
        if let Some(files) = &self.files {
            let flags = files.poll_flags(self.link.is_congested());
            if !flags.is_empty() {
                sources.push(Source::Files);
                polled.push(PollFd::from_borrowed_fd(files.fd(), flags));
            }
        }
        if let Some(console) = self.hypervisor.console() {
            sources.push(Source::Console);
            polled.push(PollFd::from_borrowed_fd(console, PollFlags::IN));
        }
        for (id, process) in &self.processes {
            if let Some(reader) = &process.input
                && process.has_started
                && reader.allowance.left() > 0
                && !self.link.is_congested()
            {
                sources.push(Source::Input(*id));
                polled.push(PollFd::new(&reader.fd, PollFlags::IN));
            }
        }
        for (id, client) in &self.clients {
            sources.push(Source::Client(*id));
            polled.push(PollFd::from_borrowed_fd(
                client.connection.fd(),
                PollFlags::IN,
            ));
        }
        match poll(&mut polled, Some(&self.patience())) {
            Ok(0) => return Ok(Vec::new()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        sources.retain(|_| ready.next().unwrap_or(false));
        Ok(sources)
    }

    /// How long to wait for something to happen.
    fn patience(&self) -> Timespec {
        if self.phase() < Phase::Waits || self.link.is_waiting() {
            PATIENCE
        } else {
            HEARTBEAT
        }
    }

    /// What the guest says.
    fn hear(&mut self) -> Result<(), Failure> {
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

    fn machine_ended(&mut self) -> Failure {
        let words = self.hypervisor.last_words();
        Failure::plain(format!("the virtual machine ended: {words}"))
    }

    fn heard(&mut self, message: ToHost) -> Result<(), Failure> {
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

    /// Answers the client that asked with this ticket.
    fn reply(&mut self, ticket: u32, event: &Event) {
        let client = self
            .clients
            .values_mut()
            .find(|client| client.ticket == Some(ticket));
        if let Some(client) = client {
            client.ticket = None;
            client.connection.send(event);
        }
    }

    /// A container waits for `start`: whoever creates it is told.
    fn is_created(&mut self, id: u32) {
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

    /// A program that will not run: whoever waits for it is told why.
    fn failed(&mut self, id: u32, event: &Event) {
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

    fn resize(&mut self, process: u32) -> Result<(), Failure> {
        if let Ok(size) = tcgetwinsize(std::io::stdin()) {
            self.link.send(&ToGuest::Resize {
                process,
                columns: size.ws_col,
                rows: size.ws_row,
            })?;
        }
        Ok(())
    }

    fn started(&mut self, id: u32, pid: i32) {
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

    /// What can be asked no more once the machine has ended.
    fn report(&self, oom_kills: u64) {
        if let Some(file) = &self.report {
            // Best effort: without it the program was killed, and nobody knows for what.
            let _ = rustix::io::write(file, oom_kills.to_string().as_bytes());
        }
    }

    fn exited(&mut self, id: u32, status: i32) {
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
    fn settle(&mut self, id: u32) {
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

    fn writer(&mut self, process: u32, stream: u8) -> Option<&mut Writer> {
        self.processes.get_mut(&process)?.outputs.get_mut(&stream)
    }

    fn client_of(&mut self, process: u32) -> Option<&mut Client> {
        self.clients
            .values_mut()
            .find(|client| client.process == Some(process))
    }

    fn take_notices(&mut self) -> Result<(), Failure> {
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

    fn read_input(&mut self, id: u32) -> Result<(), Failure> {
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

    fn take_signals(&mut self) -> Result<(), Failure> {
        for signal in read_signals(&self.signals) {
            match signal {
                libc::SIGCHLD => {
                    while let Ok(Some(ended)) = child::reap() {
                        if self.hypervisor.is_helper(ended.pid) {
                            let words = self.hypervisor.last_words();
                            return Err(Failure::plain(format!(
                                "the server of the machine's files ended: {words}"
                            )));
                        }
                        if self.hypervisor.is(ended.pid) {
                            // What it has said until then is still in the link.
                            while self.link.receive().is_ok() && self.is_over.is_none() {
                                while let Some(message) = self.link.take()? {
                                    self.heard(message)?;
                                }
                                if !readable(self.link.fd()) {
                                    break;
                                }
                            }
                            if self.is_over.is_none() {
                                return Err(self.machine_ended());
                            }
                        }
                    }
                }
                libc::SIGWINCH if self.config.has_terminal => self.resize(FIRST)?,
                _ if self.phase() == Phase::Runs => self.link.send(&ToGuest::Signal {
                    process: FIRST,
                    signal,
                })?,
                // As the first process of a pid namespace that waits for `start`: nothing but SIGKILL ends it.
                _ => {}
            }
        }
        Ok(())
    }

    fn accept(&mut self, container: u32) {
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

    pub(crate) fn first_name(&self) -> String {
        self.config.container.clone()
    }

    pub(crate) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn serve_client(&mut self, id: u32) -> Result<(), Failure> {
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

    fn exec(
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
    fn join(&mut self, id: u32, request: Request) -> Result<(), Failure> {
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

    fn tell(&mut self, id: u32, event: &Event) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.connection.send(event);
        }
    }

    /// A client that is gone takes its program with it.
    fn drop_closed_clients(&mut self) -> Result<(), Failure> {
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

fn readable(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec::default();
    poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
}
