//! Where the process stops: barriers, `await_start`, the agent.

use std::os::fd::OwnedFd;

use casemate_host::process;
use rustix::net::{SocketFlags, accept_with};

use crate::channel::{Channel, Event};
use crate::child::State;
use crate::error::{Context, Error, Result};

pub(super) fn barrier(name: &str, state: &State) -> Result<()> {
    state.channel.stop(&Event::Barrier { name }, None)
}

/// Reports `ready`, lets go of the starter, and waits for somebody to say `start` on the listening socket.
pub(super) fn await_start(state: &mut State) -> Result<()> {
    let raw = state
        .listen
        .ok_or_else(|| Error::plain("await_start without `listen`"))?;
    let listen = process::take_fd(raw).context(|| "listen descriptor".into())?;
    state.channel.send(&Event::Ready, None)?;
    state.channel = wait_for_start(&listen)?;
    state.listen = Some(std::os::fd::IntoRawFd::into_raw_fd(listen));
    Ok(())
}

/// The socket lies in a directory that only its owner may enter, so whoever connects may start the container.
fn wait_for_start(listen: &OwnedFd) -> Result<Channel> {
    loop {
        let connection = match accept_with(listen, SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(error) => return Err(Error::io("accept", &error.into())),
        };
        let channel = Channel::new(connection);
        if matches!(channel.receive(), Ok(Some(command)) if command == "start") {
            return Ok(channel);
        }
    }
}

/// Becomes the agent: serves the socket, and ends the process when it is done. Nothing of the agent may be read or traced by a program of its own user.
pub(super) fn agent(state: &State) -> Result<()> {
    let raw = state
        .listen
        .ok_or_else(|| Error::plain("agent without `listen`"))?;
    let listen = process::take_fd(raw).context(|| "listen descriptor".into())?;
    casemate_host::ids::set_dumpable(false).context(|| "PR_SET_DUMPABLE".into())?;
    // The channel closes too, which tells the starter that the agent runs.
    process::close_all_but(&[std::os::fd::AsRawFd::as_raw_fd(&listen)])
        .context(|| "close_range".into())?;
    let code = match casemate_agent::serve(listen) {
        Ok(()) => 0,
        Err(_) => 1, // nobody listens any more
    };
    casemate_host::child::exit_now(code)
}
