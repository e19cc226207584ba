//! The agent's loop: the host's messages, the processes' streams and reports, the ends of children. One thread, and no call but poll(2) waits.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use casemate_guest_protocol::{Limits, Link, LinkError, MAX_TO_GUEST, ToGuest, ToHost, VERSION};
use casemate_host::child;
use rustix::event::{PollFd, PollFlags, poll};

use crate::boot;
use crate::cgroup::Cgroup;
use crate::error::{About, Error, Result};
use crate::launch::{Next, Place, Report, Reports, launch};
use crate::process::Process;
use crate::processes;

pub(crate) struct Server {
    link: Link,
    children: OwnedFd,
    processes: BTreeMap<u32, Process>,
    containers: BTreeMap<String, Cgroup>,
    is_shared: bool,
}

/// What a descriptor that is polled belongs to.
enum Source {
    Link,
    Children,
    Reports(u32),
    Input(u32),
    Output(u32, u8),
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
            is_shared: false,
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
                            if let Some(bytes) = self.link.acknowledge() {
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
            ToGuest::Nudge {} => {}
            ToGuest::Configure {
                time_ns,
                entropy,
                share,
            } => {
                if let Some(share) = share.filter(|_| !self.is_shared) {
                    boot::mount_share(share)?;
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
            } => {
                let created = self.create(process, container, &plan.0, terminal, limits);
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
            ToGuest::End { process, .. } => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.end_input();
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
            ToGuest::Freeze { container, frozen } => {
                if let Some(cgroup) = self.containers.get(&container) {
                    cgroup.freeze(frozen)?;
                }
            }
            ToGuest::Remove { container } => drop(self.containers.remove(&container)),
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
    ) -> Result<()> {
        let cgroup = Cgroup::create(&container, limits)?;
        let directory = cgroup.open()?;
        let path = format!("/run/start-{id}.sock");
        let listener = UnixListener::bind(&path).about(&path)?;
        let (mut process, streams) = Process::new(id, container.clone(), true, terminal)?;
        let place = Place {
            cgroup: Some(directory),
            listener: Some(&listener),
            join: None,
        };
        process.reports = Some(launch(plan, place, streams)?);
        process.waiting = Some(listener);
        self.containers.insert(container, cgroup);
        self.processes.insert(id, process);
        Ok(())
    }

    fn exec(&mut self, id: u32, container: String, plan: &[u8], terminal: bool) -> Result<()> {
        let gone = || Error::new("the container has ended", libc::ESRCH);
        let first = self
            .processes
            .values()
            .find(|process| process.is_first && process.container == container)
            .and_then(|process| process.pid.filter(|_| process.status.is_none()))
            .ok_or_else(gone)?;
        let cgroup = self.containers.get(&container).ok_or_else(gone)?.open()?;
        let (mut process, streams) = Process::new(id, container, false, terminal)?;
        let place = Place {
            cgroup: Some(cgroup),
            listener: None,
            join: Some(first),
        };
        process.reports = Some(launch(plan, place, streams)?);
        self.processes.insert(id, process);
        Ok(())
    }

    /// Says `start` to a process that waits for it; its reports come on that connection from now on.
    fn start(&mut self, id: u32) -> Result<()> {
        let path = format!("/run/start-{id}.sock");
        let Some(process) = self.processes.get_mut(&id) else {
            return Err(Error::new("no such process", libc::ESRCH));
        };
        let stream = UnixStream::connect(&path).about("start")?;
        std::fs::remove_file(&path).about("start")?;
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
                Err(error) => return self.report_failure(id, Err(error)),
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
                self.link.send(&ToHost::Failed {
                    process: id,
                    op,
                    index,
                    errno,
                    message,
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
        self.link.send(&ToHost::Failed {
            process: id,
            op: String::new(),
            index: -1,
            errno: error.errno,
            message: error.message,
        })?;
        Ok(())
    }

    fn reap(&mut self) -> Result<()> {
        // A child is named before it runs, and one that has ended is looked up by that name.
        let starting: Vec<u32> = self
            .processes
            .values()
            .filter(|process| process.pid.is_none())
            .map(|process| process.id)
            .collect();
        for id in starting {
            self.follow(id)?;
        }
        let mut drained = [0; 1280];
        // What the signals say is not needed: all children that have ended are reaped.
        let _ = rustix::io::read(self.children.as_fd(), &mut drained);
        while let Ok(Some(ended)) = child::reap() {
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

    /// Tells the ends of processes, each after all that it has said.
    fn report_ends(&mut self) -> Result<()> {
        let ended: Vec<u32> = self
            .processes
            .values()
            .filter(|process| process.status.is_some() && !process.has_exited)
            .map(|process| process.id)
            .collect();
        for id in ended {
            // `child` may still be unread, and what it failed with.
            self.follow(id)?;
            if let Some(process) = self.processes.get_mut(&id) {
                let mut streams: Vec<u8> =
                    process.outputs.iter().map(|output| output.stream).collect();
                let mut all = true;
                for stream in streams.drain(..) {
                    all &= process.read_output(stream, &mut self.link)?;
                }
                if all {
                    self.end(id)?;
                }
            }
        }
        self.processes.retain(|_, process| !process.is_over());
        Ok(())
    }

    fn end(&mut self, id: u32) -> Result<()> {
        let Some(process) = self.processes.get_mut(&id) else {
            return Ok(());
        };
        process.has_exited = true;
        let status = process.status.unwrap_or_default();
        if process.is_first {
            self.containers.remove(&process.container);
        }
        // The host looks at the files next, and may end this machine without a word.
        rustix::fs::sync();
        self.link.send(&ToHost::Exited {
            process: id,
            status,
        })?;
        Ok(())
    }
}

/// signal(7): ignored or continues by default.
const IGNORED_BY_DEFAULT: [i32; 5] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
    0,
];
