//! The child's side of a fork.
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::{Identity, Origin, READY};
use crate::Memory;
use crate::api::Fault;
use crate::cli::Options;
use crate::event_loop;
use crate::machine;

/// Runs the child's machine until its guest ends. Nothing of the parent's may be dropped here, a socket file least of all: this neither
/// returns nor unwinds.
#[expect(clippy::exit, reason = "below lie the parent's frames")]
pub(super) fn run(
    origin: &Origin<'_>,
    identity: &Identity,
    channel: UnixStream,
    word: &OwnedFd,
) -> ! {
    let ended = catch_unwind(AssertUnwindSafe(|| serve(origin, identity, channel, word)));
    std::process::exit(match ended {
        Ok(Ok(())) => 0,
        _ => 1,
    })
}

fn serve(
    origin: &Origin<'_>,
    identity: &Identity,
    mut channel: UnixStream,
    word: &OwnedFd,
) -> Result<(), Fault> {
    let told = |result: Result<(), Fault>, channel: &mut UnixStream| {
        let message = match &result {
            Ok(()) => vec![READY],
            Err(fault) => [&[READY + 1], fault.0.as_bytes()].concat(),
        };
        // A parent that is gone reads nothing; then no word comes either.
        let _ = channel.write_all(&message);
        result
    };
    let result = close_the_parents(origin, &channel, word);
    told_if_failed(result, &mut channel)?;
    let options = options(origin, identity);
    origin
        .log
        .change(|settings| settings.id.clone_from(&options.id));
    let prepared = event_loop::adopt(&options, Arc::clone(origin.log), |controller| {
        let prepared = machine::prepare(None)?;
        controller.adopt(
            prepared,
            Arc::clone(origin.memory),
            identity.config.clone(),
            origin.state,
            origin.tracks,
        )
    });
    let mut child = match prepared {
        Ok(child) => {
            told(Ok(()), &mut channel)?;
            child
        }
        Err(fault) => return told(Err(fault), &mut channel),
    };
    drop(channel);
    // The end of file comes when the parent drops its end, or is dead.
    if rustix::io::read(word, &mut [0]) != Ok(1) {
        return Err(Fault::new("the parent ended before it was done"));
    }
    if identity.child.resume_vm {
        child.resume();
    }
    child.run()
}

fn told_if_failed(result: std::io::Result<()>, channel: &mut UnixStream) -> Result<(), Fault> {
    result.map_err(|error| {
        let reason = format!("Fork: {error}");
        let _ = channel.write_all(&[&[READY + 1], reason.as_bytes()].concat());
        Fault(reason)
    })
}

/// Only the standard streams, the log, the files behind the memory, and the channel to the parent stay open.
fn close_the_parents(
    origin: &Origin<'_>,
    channel: &UnixStream,
    word: &OwnedFd,
) -> std::io::Result<()> {
    let mut keep = vec![channel.as_raw_fd(), word.as_raw_fd()];
    keep.extend(origin.log.descriptor());
    keep.extend(files(origin.memory));
    casemate_host::process::close_all_but(&keep)
}

fn files(memory: &Memory) -> impl Iterator<Item = RawFd> {
    memory
        .iter()
        .filter_map(|region| Some(region.file_offset()?.file().as_raw_fd()))
}

fn options(origin: &Origin<'_>, identity: &Identity) -> Options {
    Options {
        api_socket: Some(identity.child.api_sock.clone()),
        config_file: None,
        metadata: None,
        id: identity
            .child
            .id
            .clone()
            .unwrap_or_else(|| format!("{}-{}", origin.options.id, std::process::id())),
        has_boot_timer: false,
        has_console: false,
        ..origin.options.clone()
    }
}
