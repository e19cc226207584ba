//! The ends of processes: found, and told after all that the process has said.

use std::os::fd::AsFd;

use casemate_guest_protocol::ToHost;
use casemate_host::child;

use super::{Server, start_path};
use crate::error::Result;

impl Server {
    pub(super) fn reap(&mut self) -> Result<()> {
        let mut drained = [0; 1280];
        // What the signals say is not needed: all children that have ended are reaped.
        let _ = rustix::io::read(self.children.as_fd(), &mut drained);
        while let Ok(Some(ended)) = child::reap() {
            // A child is named before it runs: now at the latest.
            self.learn_names()?;
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

    /// Reads what there is of processes whose number is not known yet.
    fn learn_names(&mut self) -> Result<()> {
        let unnamed = self
            .processes
            .values()
            .filter(|process| process.pid.is_none());
        for id in unnamed.map(|process| process.id).collect::<Vec<u32>>() {
            self.follow(id)?;
        }
        Ok(())
    }

    /// Tells the ends of processes, each after all that it has said.
    pub(super) fn report_ends(&mut self) -> Result<()> {
        let ended: Vec<u32> = self
            .processes
            .values()
            .filter(|process| process.status.is_some() && !process.has_exited)
            .map(|process| process.id)
            .collect();
        for id in ended {
            // What it failed with may still be unread; and whoever started it may still have the channel, whose end says that it ran.
            self.follow(id)?;
            if let Some(process) = self.processes.get_mut(&id)
                && process.reports.is_none()
                && process.read_outputs(&mut self.link)?
            {
                self.end(id)?;
            }
        }
        self.processes.retain(|_, process| !process.is_over());
        Ok(())
    }

    fn end(&mut self, id: u32) -> Result<()> {
        let oom_kills = self.oom_kills(id);
        let Some(process) = self.processes.get_mut(&id) else {
            return Ok(());
        };
        process.has_exited = true;
        let status = process.status.unwrap_or_default();
        if process.is_first {
            self.containers.remove(&process.container);
            // A container that failed before has none.
            let _ = std::fs::remove_file(start_path(id));
        }
        // The host looks at the files next, and may end this machine without a word. Files that come over the link are written when the last of the
        // container's processes has closed them, which has happened; to wait here for more would be to wait for this process.
        if self.files.is_none() {
            rustix::fs::sync();
        }
        self.link.send(&ToHost::Exited {
            process: id,
            status,
            oom_kills,
        })?;
        Ok(())
    }
}
