//! The agent's loop: the host's messages, the processes' streams and reports, the ends of children. One thread, and no call but poll(2) waits.

mod channels;
mod ends;
mod orders;
mod programs;
mod reports;
mod wait;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use casemate_guest_protocol::{Link, LinkError, MAX_TO_GUEST, ToHost, VERSION};
use casemate_host::child;

use crate::cgroup::Cgroup;
use crate::channel::Channel;
use crate::error::{About, Error, Result};
use crate::files::Files;
use crate::process::Process;

use wait::Source;

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

    fn cgroup(&self, container: &str) -> Result<&Cgroup> {
        let gone = || Error::new("the container has ended", libc::ESRCH);
        self.containers.get(container).ok_or_else(gone)
    }
}

/// Where a container's first process waits for `start`.
fn start_path(id: u32) -> String {
    format!("/run/start-{id}.sock")
}
