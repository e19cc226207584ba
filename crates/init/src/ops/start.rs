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

/// Becomes the agent: serves the socket and never returns.
pub(super) fn agent(state: &State) -> Result<()> {
    let raw = state
        .listen
        .ok_or_else(|| Error::plain("agent without `listen`"))?;
    let listen = process::take_fd(raw).context(|| "listen descriptor".into())?;
    process::close_range_on_exec(3).context(|| "close_range".into())?;
    let _ = listen;
    Err(Error::plain("this engine has no agent"))
}
