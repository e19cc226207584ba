//! The programs that `exec` started and that still run, and who waits for each.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use casemate_host::child::Ended;

use crate::messages::{Exited, Process, Program};
use crate::spawn::Started;
use crate::{Answer, Refusal};

/// How many ends are remembered for a `wait` that comes later; the oldest goes first.
const REMEMBERED: usize = 256;

#[derive(Debug)]
struct Running {
    args: Vec<String>,
    cwd: String,
    terminal: Option<OwnedFd>,
    waiting: Vec<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Programs {
    running: BTreeMap<i32, Running>,
    ended: Vec<Exited>,
}

impl Programs {
    /// Adds a started program; `connection` hears of its end.
    pub(crate) fn add(&mut self, started: Started, program: Program, connection: u64) {
        let running = Running {
            args: program.args,
            cwd: program.cwd,
            terminal: started.terminal,
            waiting: vec![connection],
        };
        self.ended.retain(|exited| exited.pid != started.pid); // the number is used again
        self.running.insert(started.pid, running);
    }

    /// Makes `connection` hear of the end of `pid`: Some if it has ended already.
    pub(crate) fn wait(&mut self, pid: i32, connection: u64) -> Answer<Option<Exited>> {
        if let Some(running) = self.running.get_mut(&pid) {
            running.waiting.push(connection);
            return Ok(None);
        }
        let ended = self.ended.iter().find(|exited| exited.pid == pid);
        ended.cloned().map(Some).ok_or_else(|| no_program(pid))
    }

    /// A child has ended: what to tell to whom. None for orphans of programs.
    pub(crate) fn end(&mut self, ended: &Ended) -> Option<(Exited, Vec<u64>)> {
        let running = self.running.remove(&ended.pid)?;
        let exited = Exited {
            event: "exited",
            pid: ended.pid,
            code: ended.code(),
            signal: ended.signal(),
            user_us: ended.user_us,
            system_us: ended.system_us,
            max_rss_kib: ended.max_rss_kib,
        };
        if self.ended.len() == REMEMBERED {
            self.ended.remove(0);
        }
        self.ended.push(exited.clone());
        Some((exited, running.waiting))
    }

    /// Whether `exec` started it and it still runs. Only such are signalled: a number from outside may be stale.
    pub(crate) fn check(&self, pid: i32) -> Answer<()> {
        self.running
            .contains_key(&pid)
            .then_some(())
            .ok_or_else(|| no_program(pid))
    }

    pub(crate) fn terminal(&self, pid: i32) -> Answer<&OwnedFd> {
        let running = self.running.get(&pid).ok_or_else(|| no_program(pid))?;
        running
            .terminal
            .as_ref()
            .ok_or_else(|| Refusal::new(libc::ENOTTY, format!("program {pid} has no terminal")))
    }

    pub(crate) fn list(&self) -> Vec<Process> {
        let describe = |(pid, running): (&i32, &Running)| Process {
            pid: *pid,
            args: running.args.clone(),
            cwd: running.cwd.clone(),
            terminal: running.terminal.is_some(),
        };
        self.running.iter().map(describe).collect()
    }
}

fn no_program(pid: i32) -> Refusal {
    Refusal::new(
        libc::ESRCH,
        format!("no program {pid} was started here, or it has ended"),
    )
}
