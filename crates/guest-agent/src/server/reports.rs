//! What `init` says of a process on its way.

use std::os::fd::OwnedFd;

use casemate_guest_protocol::ToHost;
use casemate_host::child;

use super::Server;
use crate::error::{Error, Result};
use crate::launch::{Next, Report};

impl Server {
    /// What `init` says of a process.
    pub(super) fn follow(&mut self, id: u32) -> Result<()> {
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

    pub(super) fn report_failure(&mut self, id: u32, result: Result<()>) -> Result<()> {
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
    pub(super) fn oom_kills(&self, id: u32) -> u64 {
        self.processes
            .get(&id)
            .filter(|process| process.is_first)
            .and_then(|process| self.containers.get(&process.container))
            .map_or(0, |cgroup| cgroup.stats().oom_kills)
    }
}
