//! What the agent waits for.

use rustix::event::{PollFd, PollFlags, poll};

use super::Server;
use crate::error::{About, Result};

/// What a descriptor that is polled belongs to.
pub(super) enum Source {
    Link,
    Children,
    Reports(u32),
    Input(u32),
    Output(u32, u8),
    Channel(u32),
    Files,
}

impl Server {
    /// Sleeps until something is to be done.
    pub(super) fn wait(&self) -> Result<Vec<Source>> {
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
}
