//! What the relay waits for, and how long.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;

use super::{Failure, Phase, Relay};

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

pub(super) enum Source {
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
    pub(super) fn wait(&self) -> Result<Vec<Source>, Failure> {
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
    pub(super) fn patience(&self) -> Timespec {
        if self.phase() < Phase::Waits || self.link.is_waiting() {
            PATIENCE
        } else {
            HEARTBEAT
        }
    }
}
