//! The monitor's main thread: waits for the API, the guest's end, host sockets of devices and standard input.
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::api::model::Metrics;
use crate::api::server::Server;
use crate::api::{Fault, routes, socket};
use crate::cli::Options;
use crate::config::VmConfig;
use crate::controller::Controller;
use crate::devices::lock;
use crate::log::{self, Level, Log, Settings};
use crate::machine::{self, Machine, Preparation};
use crate::raw;
use crate::terminal::RawTerminal;
use crate::virtio::net::{Link, adopt_tap};

// What an event is about. Devices and connections have their number added.
const LISTENER: u64 = 0;
const GUEST_ENDED: u64 = 1;
const INPUT: u64 = 2;
const INPUT_EMPTIED: u64 = 3;
const OUTPUT: u64 = 4;
const DEVICES: u64 = 1 << 32;
const CONNECTIONS: u64 = 1 << 33;

/// Runs a monitor until its guest ends.
pub(crate) fn run(options: &Options) -> Result<(), Fault> {
    let log = Arc::new(open_log(options)?);
    settle_signals().map_err(|error| failed("signals", &error))?;
    let (_socket, server) = listen(options)?;
    let kvm = options.kvm_fd.map(given).transpose()?.map(raw::kvm);
    let console = options.console_fd.map(given).transpose()?;
    let taps = taps(options)?;
    // Before the filter: the C library sets a signal up with the first thread. It closes itself.
    let preparation = Preparation::begin(options.filters.clone(), kvm)?;
    // Before anything of a client's is read.
    options
        .filters
        .close_loop()
        .map_err(|error| failed("seccomp", &error))?;
    let mut controller = Controller::new(options, Some(preparation), log);
    if let Some(stream) = console {
        let adopted = controller.adopt_console(stream.into());
        adopted.map_err(|error| failed("--console-fd", &error))?;
    }
    controller.adopt_taps(taps);
    let mut events = Loop::new(server, controller, options.has_console)?;
    if let Some(metrics_path) = options.metrics_path.clone() {
        events.controller.put_metrics(Metrics { metrics_path })?;
    }
    if let Some(path) = &options.metadata {
        events.controller.put_mmds(read_json(path)?)?;
    }
    if let Some(path) = &options.load_snapshot {
        events.controller.load(&read_json(path)?)?;
    }
    if let Some(path) = &options.config_file {
        let config: VmConfig = read_json(path)?;
        events.controller.start_from(config)?;
    }
    if let (None, Some(id)) = (&options.api_socket, events.controller.card_of_nobody()) {
        return Err(Fault(format!(
            "--tap-fd {id}: the machine has no such network interface without a host_dev_name"
        )));
    }
    events.run()
}

/// What signals do, once and for all: the filter lets nobody change it.
fn settle_signals() -> std::io::Result<()> {
    // Nobody waits for a fork's children: they outlive their parent, and whoever asked for them watches their sockets.
    raw::ignore_ended_children()?;
    raw::name_refused_calls()?;
    machine::allow_kicks()?;
    casemate_host::ids::set_no_new_privs()
}

/// A descriptor that whoever started this process has named on the command line.
fn given(number: i32) -> Result<OwnedFd, Fault> {
    casemate_host::process::take_fd(number)
        .map_err(|error| failed(&format!("descriptor {number}"), &error))
}

/// The taps that whoever started this process has opened.
fn taps(options: &Options) -> Result<BTreeMap<String, Box<dyn Link>>, Fault> {
    let adopt = |(id, number): &(String, i32)| {
        let tap = adopt_tap(given(*number)?);
        let tap = tap.map_err(|error| failed(&format!("--tap-fd {id}"), &error))?;
        Ok((id.clone(), tap))
    };
    options.tap_fds.iter().map(adopt).collect()
}

fn listen(options: &Options) -> Result<(Option<SocketFile>, Option<Server>), Fault> {
    let Some(path) = options.api_socket.as_deref() else {
        return Ok((None, None));
    };
    let socket = SocketFile::listen(path)?;
    let server = Server::new(socket.listener()?, options.max_body)
        .map_err(|error| failed("api socket", &error))?;
    Ok((Some(socket), Some(server)))
}

/// A monitor in a forked child, ready to run.
pub(crate) struct Adopted {
    events: Loop,
    _socket: Option<SocketFile>,
}

/// Makes the child's monitor: its socket, and its machine by `build`.
pub(crate) fn adopt(
    options: &Options,
    log: Arc<Log>,
    build: impl FnOnce(&mut Controller) -> Result<(), Fault>,
) -> Result<Adopted, Fault> {
    let (socket, server) = listen(options)?;
    let mut controller = Controller::new(options, None, log);
    build(&mut controller)?;
    Ok(Adopted {
        events: Loop::new(server, controller, options.has_console)?,
        _socket: socket,
    })
}

impl Adopted {
    pub(crate) fn resume(&mut self) {
        self.events.controller.resume();
    }

    pub(crate) fn run(self) -> Result<(), Fault> {
        self.events.run()
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault(format!("{what}: {error}"))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> Result<T, Fault> {
    let shown = path.display().to_string();
    let text = std::fs::read(path).map_err(|error| failed(&shown, &error))?;
    serde_json::from_slice(&text).map_err(|error| failed(&shown, &error))
}

fn open_log(options: &Options) -> Result<Log, Fault> {
    let level = match &options.level {
        Some(word) => {
            Level::parse(word).ok_or_else(|| Fault(format!("--level {word}: no such level")))?
        }
        None => Level::Info,
    };
    let open = |path: &std::path::PathBuf| {
        log::open(path).map_err(|error| failed(&path.display().to_string(), &error))
    };
    let file = options.log_path.as_ref().map(open).transpose()?;
    // Without a file only what is wrong is told: standard error is often the terminal the guest writes to.
    let level = if file.is_none() && options.level.is_none() {
        Level::Warn
    } else {
        level
    };
    Ok(Log::new(Settings {
        id: options.id.clone(),
        level,
        shows_level: options.shows_level,
        shows_origin: options.shows_origin,
        module: options.module.clone(),
        file,
    }))
}

/// The API socket, removed at the end. After SIGKILL it stays; the next monitor replaces it, because nobody answers on it.
struct SocketFile {
    path: std::path::PathBuf,
    listener: std::os::unix::net::UnixListener,
}

impl SocketFile {
    fn listen(path: &std::path::Path) -> Result<SocketFile, Fault> {
        let listener =
            socket::listen(path).map_err(|error| failed(&path.display().to_string(), &error))?;
        Ok(SocketFile {
            path: path.to_owned(),
            listener,
        })
    }

    fn listener(&self) -> Result<std::os::unix::net::UnixListener, Fault> {
        self.listener
            .try_clone()
            .map_err(|error| failed("api socket", &error))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

struct Loop {
    epoll: OwnedFd,
    server: Option<Server>,
    controller: Controller,
    has_console: bool,
    watches_machine: bool,
    /// Input that the guest had no room for.
    pending: Vec<u8>,
    terminal: Option<RawTerminal>,
}

impl Loop {
    fn new(
        server: Option<Server>,
        controller: Controller,
        has_console: bool,
    ) -> Result<Loop, Fault> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|error| failed("epoll", &error))?;
        let events = Loop {
            epoll,
            server,
            controller,
            has_console,
            watches_machine: false,
            pending: Vec::new(),
            terminal: None,
        };
        if let Some(server) = &events.server {
            events.watch(server.listener(), LISTENER, EventFlags::IN)?;
        }
        Ok(events)
    }

    fn watch(&self, fd: impl AsFd, data: u64, flags: EventFlags) -> Result<(), Fault> {
        epoll::add(&self.epoll, fd, EventData::new_u64(data), flags)
            .map_err(|error| failed("epoll", &error))
    }

    fn run(mut self) -> Result<(), Fault> {
        loop {
            self.watch_machine()?;
            for event in self.wait()? {
                if event == GUEST_ENDED {
                    // What was counted since the last time; a full pipe loses it.
                    let _ = self.controller.flush_metrics();
                    return Ok(());
                }
                self.handle(event)?;
            }
            self.controller.tick();
        }
    }

    fn wait(&self) -> Result<Vec<u64>, Fault> {
        let timeout = self.controller.next_tick().map(|rest| Timespec {
            tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: rest.subsec_nanos().into(),
        });
        let mut found = Vec::with_capacity(32);
        match epoll::wait(&self.epoll, spare_capacity(&mut found), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("epoll", &error)),
        }
        Ok(found.iter().map(|event| event.data.u64()).collect())
    }

    /// Once the machine has started: its end, its devices' sockets, and standard input for its serial port.
    fn watch_machine(&mut self) -> Result<(), Fault> {
        let Some(machine) = self.controller.running().filter(|_| !self.watches_machine) else {
            return Ok(());
        };
        self.watch(&machine.ended, GUEST_ENDED, EventFlags::IN)?;
        self.watch(&machine.input_emptied, INPUT_EMPTIED, EventFlags::IN)?;
        for (number, transport) in (0..).zip(&machine.bus.virtio) {
            let mut transport = lock(transport);
            for fd in transport.device().event_fds() {
                self.watch(fd, DEVICES + number, EventFlags::IN | EventFlags::ET)?;
            }
        }
        self.watches_machine = true;
        if !self.has_console {
            return Ok(());
        }
        // A regular file or /dev/null cannot be watched, and has nothing to say.
        let _ = self.watch(std::io::stdin(), INPUT, EventFlags::IN | EventFlags::ET);
        if let Some(output) = self.controller.serial_output() {
            // A regular file cannot be watched, and never makes anybody wait.
            let _ = self.watch(output.fd(), OUTPUT, EventFlags::OUT | EventFlags::ET);
        }
        self.terminal = Some(RawTerminal::enter());
        Ok(())
    }

    fn handle(&mut self, event: u64) -> Result<(), Fault> {
        match event {
            LISTENER => self.accept()?,
            INPUT | INPUT_EMPTIED => self.feed(event),
            OUTPUT => {
                if let Some(output) = self.controller.serial_output() {
                    output.drain();
                }
            }
            CONNECTIONS.. => {
                if let Some(server) = &mut self.server {
                    let controller = &mut self.controller;
                    server.handle(event - CONNECTIONS, &mut |request| {
                        routes::serve(controller, request)
                    });
                }
            }
            _ => {
                let number = usize::try_from(event - DEVICES).unwrap_or(usize::MAX);
                let machine: Option<&Machine> = self.controller.running();
                if let Some(transport) = machine.and_then(|machine| machine.bus.virtio.get(number))
                {
                    lock(transport).ready();
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Fault> {
        let Some((id, stream)) = self.server.as_mut().and_then(Server::accept) else {
            return Ok(());
        };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(
            &self.epoll,
            stream,
            EventData::new_u64(CONNECTIONS + id),
            flags,
        )
        .map_err(|error| failed("epoll", &error))
    }

    /// Hands standard input to the guest, as much as its port takes; the rest waits until the guest has read that.
    fn feed(&mut self, event: u64) {
        let Some(machine) = self.controller.running() else {
            return;
        };
        if event == INPUT_EMPTIED {
            machine.input_emptied.clear();
        }
        loop {
            let taken = lock(&machine.bus.serial).receive(&self.pending);
            self.pending.drain(..taken);
            if !self.pending.is_empty() || !self.has_console {
                return;
            }
            let mut chunk = [0; 64];
            match read_input(&mut chunk) {
                Some(read) if read > 0 => {
                    self.pending.extend(chunk.get(..read).unwrap_or_default())
                }
                _ => return,
            }
        }
    }
}

/// Reads standard input if it has something; it is never put into non-blocking mode, which its other users would share.
fn read_input(chunk: &mut [u8]) -> Option<usize> {
    let stdin = std::io::stdin();
    let mut poll = [rustix::event::PollFd::new(
        &stdin,
        rustix::event::PollFlags::IN,
    )];
    let none = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if rustix::event::poll(&mut poll, Some(&none)).ok()? == 0 {
        return None;
    }
    std::io::stdin().lock().read(chunk).ok()
}
