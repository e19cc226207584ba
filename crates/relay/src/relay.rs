//! The relay's loop: what comes in is one source's, and each source has a file.

mod clients;
mod failure;
mod guest;
mod processes;
mod programs;
mod signals;
mod wait;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use casemate_guest_protocol::{Link, MAX_TO_HOST, ToGuest};
use casemate_host::child;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::agents::Channel;
use crate::cards;
use crate::connection::Connection;
use crate::files::Files;
use crate::hypervisor::Hypervisor;
use crate::streams::{Notices, Written};
use crate::{Config, Given, shell_code, terminal};

use clients::Client;
pub(crate) use failure::Failure;
pub(crate) use processes::Process;
use wait::Source;

const FIRST: u32 = 1;
/// Of a program that is gone with its machine.
const KILLED: i32 = libc::SIGKILL;
/// A guest that was asked and has said nothing for so long is dead: its kernel hangs, which no process of the host's shows. Counted in waits, not by a clock: a
/// machine that is paused pauses its relay, too.
const SILENCE_MS: u64 = 60_000;

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

    pub(crate) fn first_name(&self) -> String {
        self.config.container.clone()
    }

    pub(crate) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }
}
