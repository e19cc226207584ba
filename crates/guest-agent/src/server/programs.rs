//! Containers and their programs, started.

use std::os::unix::net::{UnixListener, UnixStream};

use casemate_guest_protocol::Limits;

use super::{Server, start_path};
use crate::cgroup::Cgroup;
use crate::error::{About, Error, Result};
use crate::launch::{ALL, Place, Reports, launch};
use crate::process::Process;

impl Server {
    pub(super) fn create(
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
    pub(super) fn first_pid(&self, container: &str) -> Result<i32> {
        self.processes
            .values()
            .find(|process| process.is_first && process.container == container)
            .and_then(|process| process.pid.filter(|_| process.status.is_none()))
            .ok_or_else(|| Error::new("the container has ended", libc::ESRCH))
    }

    pub(super) fn exec(
        &mut self,
        id: u32,
        container: String,
        plan: &[u8],
        terminal: bool,
    ) -> Result<()> {
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
    pub(super) fn start(&mut self, id: u32) -> Result<()> {
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
}
