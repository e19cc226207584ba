//! Fork: children of a running machine, each a monitor process of its own.
//!
//! The monitor forks itself, as processes do. The kernel then shares every page that nobody writes to, guest memory and our own alike,
//! and a child needs no program start, no state file, and no mapping. What a child does not take along: KVM's objects, which belong to the
//! address space that made them, and all descriptors of the parent's.
//!
//! A child waits for its parent's word before its machine runs. A parent that is killed in the middle says nothing, and its children end:
//! nobody has heard of them.
mod child;
pub(crate) mod request;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::PipeFlags;

use crate::Memory;
use crate::api::Fault;
use crate::cli::Options;
use crate::config::VmConfig;
use crate::log::Log;
use crate::machine::MachineState;
use crate::raw;

/// KVM makes fifty machines at once in well under a second here. After this time something is broken.
const PATIENCE: Duration = Duration::from_secs(30);
/// A child's first byte: it can run, or the reason why not follows.
const READY: u8 = 1;

/// What every child starts from.
pub(crate) struct Origin<'a> {
    pub(crate) options: &'a Options,
    pub(crate) memory: &'a Arc<Memory>,
    pub(crate) state: &'a MachineState,
    pub(crate) log: &'a Arc<Log>,
    pub(crate) tracks: bool,
}

/// One child's place in the world.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) child: request::Child,
    pub(crate) config: VmConfig,
}

/// Children that have not got their parent's word yet. Dropping this ends them.
pub(crate) struct Waiting {
    children: Vec<(u32, UnixStream)>,
    /// One pipe for all, so that the word is one write: a parent killed at any instant has given it to every child or to none.
    word: File,
}

/// Forks one child per identity. The machine's processors stand still. Each child prepares itself while the next one is made.
pub(crate) fn begin(origin: &Origin<'_>, identities: &[Identity]) -> io::Result<Waiting> {
    let (word_end, word) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut children = Vec::new();
    for identity in identities {
        let (ours, theirs) = UnixStream::pair()?;
        match raw::fork()? {
            Some(pid) => children.push((pid, ours)),
            None => child::run(origin, identity, theirs, &word_end),
        }
    }
    Ok(Waiting {
        children,
        word: word.into(),
    })
}

/// Waits until all are ready, and gives them the word. If one is not, none runs.
pub(crate) fn finish(mut waiting: Waiting) -> Result<Vec<u32>, Fault> {
    for (pid, channel) in &mut waiting.children {
        wait_until_ready(*pid, channel)?;
    }
    // At most 512 bytes: less than PIPE_BUF, so all or nothing (pipe(7)).
    let word = vec![READY; waiting.children.len()];
    waiting
        .word
        .write_all(&word)
        .map_err(|error| Fault(format!("Fork: {error}")))?;
    Ok(waiting.children.iter().map(|(pid, _)| *pid).collect())
}

fn wait_until_ready(pid: u32, channel: &mut UnixStream) -> Result<(), Fault> {
    let failed = |reason: &dyn std::fmt::Display| Fault(format!("Fork: {reason}"));
    channel
        .set_read_timeout(Some(PATIENCE))
        .map_err(|error| failed(&error))?;
    let mut first = [0];
    match channel.read(&mut first) {
        Ok(1) if first == [READY] => Ok(()),
        Ok(1) => {
            let mut reason = String::new();
            let more = channel.take(4096).read_to_string(&mut reason);
            more.map_err(|error| failed(&error))?;
            Err(Fault(reason))
        }
        Ok(_) => Err(failed(&format!("child {pid} ended"))),
        Err(error) => Err(failed(&format!("child {pid}: {error}"))),
    }
}
