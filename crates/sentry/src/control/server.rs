//! The control thread: accepts, reads, answers, and passes on how programs end.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{SocketFlags, accept_with};

use super::connection::{Connection, Program};
use super::messages::{Event, ProcessRow, Request};
use super::{Report, Reporter, exec};
use crate::boot::{BootError, Config};
use crate::kernel::signals::{Info, SIGKILL};
use crate::kernel::task::{Limits, Process};
use crate::kernel::{Kernel, wait};
use crate::member::{Joining, Member};
use crate::threads::Threads;
use crate::trace;
use crate::vfs::place::Place;
use crate::worker::{self, SharedKernel};

/// More wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 512;
const MAX_COMMAND: usize = 4096;

#[derive(Debug)]
pub struct Server {
    kernel: SharedKernel,
    root: Place,
    limits: Limits,
    listener: OwnedFd,
    wake: Arc<OwnedFd>,
    sender: Sender<(u64, Report)>,
    reports: Receiver<(u64, Report)>,
    connections: BTreeMap<u64, Connection>,
    /// Containers that a connection stands for.
    members: BTreeMap<u64, Member>,
    next: u64,
    /// For further containers; a further one has none itself.
    threads: Threads,
    is_closed: Arc<AtomicBool>,
}

/// Ends a server from outside.
#[derive(Debug)]
pub struct Closing {
    is_closed: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
}

impl Closing {
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let _ = crate::host::write(&*self.wake, &1_u64.to_ne_bytes());
    }
}

/// Set in the number of a client that stands for a container: what is reported of it is never taken for one of this kernel's programs.
const MEMBER: u64 = 1 << 63;

impl Server {
    /// `limits`: what a program has that is told nothing else.
    ///
    /// # Errors
    /// As eventfd(2).
    pub fn new(
        kernel: SharedKernel,
        root: Place,
        listener: OwnedFd,
        limits: Limits,
        threads: &Threads,
    ) -> rustix::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            threads: threads.clone(),
            ..Self::of(kernel, root, listener, limits, wake)?
        })
    }

    /// As `new`, with a non-blocking eventfd that somebody made who may.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn of(
        kernel: SharedKernel,
        root: Place,
        listener: OwnedFd,
        limits: Limits,
        wake: OwnedFd,
    ) -> rustix::io::Result<Self> {
        let (sender, reports) = channel();
        // A connection that was given up before it was accepted must not hold the thread.
        rustix::io::ioctl_fionbio(&listener, true)?;
        Ok(Self {
            kernel,
            root,
            limits,
            listener,
            wake: Arc::new(wake),
            sender,
            reports,
            connections: BTreeMap::new(),
            members: BTreeMap::new(),
            next: 0,
            threads: Threads::default(),
            is_closed: Arc::default(),
        })
    }

    #[must_use]
    pub fn closing(&self) -> Closing {
        Closing {
            is_closed: self.is_closed.clone(),
            wake: self.wake.clone(),
        }
    }

    /// Serves as long as the container lives.
    pub fn run(mut self) {
        while !self.is_closed.load(Ordering::Acquire) {
            let (keys, ready) = self.wait();
            if ready[1].intersects(PollFlags::IN) {
                let _ = crate::host::read(&*self.wake, &mut [0; 8]);
                self.pass_reports();
            }
            for (key, events) in keys.into_iter().zip(&ready[2..]) {
                self.serve(key, *events);
            }
            if ready[0].intersects(PollFlags::IN) {
                self.accept();
            }
            self.drop_closed();
        }
    }

    /// What is ready: the listener, the wake-up, then the connections of these keys.
    fn wait(&self) -> (Vec<u64>, Vec<PollFlags>) {
        let accepts = if self.connections.len() < MAX_CONNECTIONS {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut polled = vec![
            PollFd::new(&self.listener, accepts),
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
        ];
        for connection in self.connections.values() {
            let mut wanted = PollFlags::IN;
            wanted.set(PollFlags::OUT, connection.has_unsent());
            polled.push(PollFd::from_borrowed_fd(connection.fd(), wanted));
        }
        let is_ready = poll(&mut polled, None).is_ok();
        let events = |fd: &PollFd<'_>| {
            if is_ready {
                fd.revents()
            } else {
                PollFlags::empty()
            }
        };
        let keys = self.connections.keys().copied().collect();
        (keys, polled.iter().map(events).collect())
    }

    fn accept(&mut self) {
        if let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC) {
            self.next += 1;
            self.connections.insert(self.next, Connection::new(socket));
        }
    }

    fn serve(&mut self, key: u64, events: PollFlags) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        if events.contains(PollFlags::OUT) {
            connection.flush();
        }
        if !events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        connection.receive();
        while let Some(request) = self.connections.get_mut(&key).and_then(Connection::next) {
            let (event, descriptor) = self.answer(key, request);
            let Some(connection) = self.connections.get_mut(&key) else {
                return;
            };
            if let Some(event) = event {
                connection.send(&event, descriptor.as_ref().map(AsFd::as_fd));
            }
        }
    }

    fn answer(&mut self, key: u64, request: Request) -> (Option<Event>, Option<OwnedFd>) {
        match request {
            Request::Exec {
                program,
                terminal,
                descriptors,
            } => match self.exec(key, *program, terminal, &descriptors) {
                Ok(master) => (master.is_some().then_some(Event::Console), master),
                Err(error) => (
                    Some(Event::Error {
                        errno: error.errno,
                        message: error.message,
                    }),
                    None,
                ),
            },
            Request::Join(joining) => match self.join(key, *joining) {
                Ok(()) => (None, None),
                Err(error) => (
                    Some(Event::Error {
                        errno: error.errno,
                        message: error.message,
                    }),
                    None,
                ),
            },
            Request::Signal { signal, pid, code } => {
                if let (None, Some(member)) = (pid, self.members.get(&key)) {
                    member.signal(signal, code);
                    return (None, None);
                }
                (self.signal(key, signal, pid), None)
            }
            Request::Syscalls {} => {
                let calls = worker::lock(&self.kernel).trace.counts.rows();
                let unseen = trace::unseen().into_iter().map(str::to_owned);
                let unseen = unseen.collect();
                (Some(Event::Syscalls { calls, unseen }), None)
            }
            Request::Debug {} => {
                let report = trace::report::report(&self.kernel);
                (Some(Event::Debug(Box::new(report))), None)
            }
            Request::Ps {} => {
                let kernel = worker::lock(&self.kernel);
                let processes = kernel
                    .processes
                    .values()
                    .map(|process| row(&kernel, process));
                (
                    Some(Event::Ps {
                        processes: processes.collect(),
                    }),
                    None,
                )
            }
        }
    }

    /// Returns the terminal's master, if one was asked for.
    fn exec(
        &mut self,
        key: u64,
        program: Config,
        terminal: Option<(u16, u16)>,
        numbers: &[i32],
    ) -> Result<Option<OwnedFd>, BootError> {
        let refused = |message: &str| BootError {
            errno: libc::EINVAL,
            message: message.to_owned(),
        };
        let connection = self
            .connections
            .get_mut(&key)
            .ok_or_else(|| refused("no connection"))?;
        if connection.program != Program::None {
            return Err(refused("this connection has a program already"));
        }
        let given = std::mem::take(&mut connection.descriptors);
        if given.len() != numbers.len() {
            return Err(refused("descriptors are missing"));
        }
        let descriptors: Vec<(i32, OwnedFd)> = numbers.iter().copied().zip(given).collect();
        let (mut master, mut slave) = (None, None);
        if let Some(size) = terminal {
            let (console, stream) = super::terminal(&self.root, size)
                .map_err(|errno| BootError::new("terminal", errno))?;
            (master, slave) = (Some(console), Some(stream));
        }
        let wanted = exec::Wanted {
            program,
            descriptors,
            limits: self.limits.clone(),
            terminal: slave,
        };
        let reporter = Reporter {
            client: key,
            reports: self.sender.clone(),
            wake: self.wake.clone(),
        };
        exec::start(
            &mut worker::lock(&self.kernel),
            &self.root,
            wanted,
            reporter,
        )?;
        connection.program = Program::Starting;
        Ok(master)
    }

    fn join(&mut self, key: u64, joining: Joining) -> Result<(), BootError> {
        let refused = |message: &str| BootError {
            errno: libc::EINVAL,
            message: message.to_owned(),
        };
        let connection = self.connections.get_mut(&key);
        let connection = connection.ok_or_else(|| refused("no connection"))?;
        if connection.program != Program::None || self.members.contains_key(&key) {
            return Err(refused("this connection has a program already"));
        }
        let given = std::mem::take(&mut connection.descriptors);
        if given.len() != joining.parts.len() {
            return Err(refused("descriptors are missing"));
        }
        let reporter = Reporter::new(key | MEMBER, self.sender.clone(), self.wake.clone());
        let member = Member::start(
            &self.kernel,
            joining,
            given,
            &self.limits,
            reporter,
            &self.threads,
        )?;
        self.members.insert(key, member);
        Ok(())
    }

    fn signal(&mut self, key: u64, signal: i32, pid: Option<i32>) -> Option<Event> {
        let own = match self.connections.get(&key).map(|found| found.program) {
            Some(Program::Running(pid)) => Some(pid),
            _ => None,
        };
        let targets: Vec<i32> = match pid {
            // Its own program's: sent without an answer, for it may have ended meanwhile.
            None => own.into_iter().collect(),
            Some(0) => worker::lock(&self.kernel)
                .processes
                .keys()
                .copied()
                .collect(),
            Some(pid) => vec![pid],
        };
        for target in targets {
            self.send_signal(target, signal);
        }
        pid.map(|_| Event::Done)
    }

    fn send_signal(&self, pid: i32, signal: i32) {
        if !(1..=64).contains(&signal) {
            return;
        }
        let mut kernel = worker::lock(&self.kernel);
        if signal == SIGKILL {
            // Also process 1, which a signal of its own cannot kill.
            kernel.terminate(pid, SIGKILL);
        } else {
            kernel.send_to_process(pid, Info::from_sender(signal, 0, 0, 0));
        }
        worker::run_ready(&mut kernel);
        if kernel.result.is_some() {
            kernel.watcher.finish();
        }
    }

    fn pass_reports(&mut self) {
        while let Ok((client, report)) = self.reports.try_recv() {
            let (key, is_member) = (client & !MEMBER, client & MEMBER != 0);
            let Some(connection) = self.connections.get_mut(&key) else {
                // Nobody waits for it any more.
                if let (Report::Started(pid), false) = (report, is_member) {
                    self.send_signal(pid, SIGKILL);
                }
                continue;
            };
            let event = match report {
                Report::Started(pid) => {
                    if !is_member {
                        connection.program = Program::Running(pid);
                    }
                    Event::Started { pid }
                }
                Report::Exited(status) => {
                    connection.program = Program::None;
                    Event::Exited { status }
                }
                Report::Refused(errno, message) => Event::Error { errno, message },
                Report::Failed(errno) => {
                    connection.program = Program::None;
                    Event::Error {
                        errno,
                        message: "fork".to_owned(),
                    }
                }
            };
            connection.send(&event, None);
        }
    }

    /// A program whose client is gone is killed: the client's process stands for it on the host.
    fn drop_closed(&mut self) {
        let closed: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_closed)
            .map(|(key, _)| *key)
            .collect();
        for key in closed {
            if let Some(member) = self.members.remove(&key) {
                member.end();
            }
            let program = self.connections.remove(&key).map(|found| found.program);
            if let Some(Program::Running(pid)) = program {
                self.send_signal(pid, SIGKILL);
            }
        }
    }
}

fn row(kernel: &Kernel, process: &Process) -> ProcessRow {
    let usage = if process.is_zombie() {
        process.usage.clone()
    } else {
        wait::host_usage(process.host_pid)
    };
    let is_waiting = |tid: &i32| kernel.task(*tid).is_ok_and(|task| task.blocked.is_some());
    let state = if process.is_zombie() {
        'Z'
    } else if process.is_stopped {
        'T'
    } else if process.threads.iter().all(is_waiting) {
        'S'
    } else {
        'R'
    };
    let name = kernel.leader(process).map(|task| task.name.clone());
    ProcessRow {
        pid: process.pid,
        ppid: process.parent,
        pgid: process.group,
        sid: process.session,
        uid: process.uid,
        threads: process.threads.len(),
        state,
        started_ms: process.started.elapsed().as_millis() as u64,
        cpu_ms: (usage.user_us + usage.system_us) / 1000,
        command: command(&process.arguments, &name.unwrap_or_default()),
    }
}

/// The arguments with spaces between, or the name in brackets. All of it is the program's to choose: control characters are not passed on.
fn command(arguments: &[u8], name: &[u8]) -> String {
    let joined = if arguments.is_empty() {
        format!("[{}]", String::from_utf8_lossy(name))
    } else {
        let end = arguments.len().min(MAX_COMMAND);
        let text = arguments[..end]
            .strip_suffix(b"\0")
            .unwrap_or(&arguments[..end]);
        String::from_utf8_lossy(text).replace('\0', " ")
    };
    joined
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}
