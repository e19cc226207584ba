//! `exec` on the host: asks the relay behind a control socket to run a program in the guest, passes signals on, and ends as it ends.
//!
//! This process joins nothing of the container's but its cgroup, executes nothing and has no capabilities left: what it hears may be a lie of the guest's.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use casemate_guest_protocol::Bytes;
use casemate_guest_protocol::network::Network;
use casemate_host::ids::{self, CapabilitySets};
use casemate_host::{child, process};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use crate::connection::Connection;
use crate::events::read_signals;
use crate::messages::{Event, Request};
use crate::{shell_code, terminal};

/// Why the program does not run: operation, errno, message.
#[derive(Debug)]
pub struct Refused {
    pub op: String,
    pub errno: i32,
    pub message: String,
}

impl Refused {
    fn plain(message: impl Into<String>) -> Self {
        Self {
            op: "machine_exec".into(),
            errno: 0,
            message: message.into(),
        }
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or(0),
            ..Self::plain(error.to_string())
        }
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(errno: rustix::io::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

/// Runs the program; does not return once it runs. `channel`: the starter's, where the terminal's master goes.
///
/// # Errors
/// It does not run, and why.
pub fn exec(
    control: OwnedFd,
    plan: Vec<u8>,
    terminal: Option<(u16, u16)>,
    channel: OwnedFd,
) -> Result<std::convert::Infallible, Refused> {
    // First: no signal may get lost, or end this process without the program.
    let signals = child::all_signals()?;
    let slave = terminal
        .map(|size| open_terminal(size, &channel))
        .transpose()?;
    drop_capabilities()?;
    let mut connection = Connection::new(control);
    let request = Request::Exec {
        plan: Bytes(plan),
        terminal: terminal.is_some(),
    };
    send(&mut connection, &request, None, slave.as_ref())?;
    // An end before that is no agent's of ours.
    let is_begun = |event: &Event| matches!(event, Event::Started { .. });
    hear(
        &mut connection,
        is_begun,
        "the program ended before it began",
    )?;
    stay(connection, &signals, slave.as_ref(), channel)
}

/// A further container of a machine, whose files lie in the machine's share.
#[derive(Debug)]
pub struct Joining {
    pub container: String,
    /// The guest's plan, encoded.
    pub plan: Vec<u8>,
    pub memory: u64,
    pub pids: u64,
    /// CLONE_NEW* of the namespaces that are those of the machine's first container.
    pub shared: u64,
    /// The container's control socket, which the relay serves.
    pub listen: OwnedFd,
}

/// Creates the container; does not return once it waits for its start. `slave`: of its terminal on the host. `channel`: the starter's.
///
/// # Errors
/// It is not created, and why.
pub fn join(
    control: OwnedFd,
    joining: Joining,
    slave: Option<OwnedFd>,
    channel: OwnedFd,
) -> Result<std::convert::Infallible, Refused> {
    let signals = child::all_signals()?;
    if let Some(slave) = &slave {
        terminal::make_raw(slave)?;
    }
    drop_capabilities()?;
    let mut connection = Connection::new(control);
    let request = Request::Join {
        container: joining.container,
        plan: Bytes(joining.plan),
        terminal: slave.is_some(),
        memory: joining.memory,
        pids: joining.pids,
        shared: joining.shared,
    };
    send(
        &mut connection,
        &request,
        Some(&joining.listen),
        slave.as_ref(),
    )?;
    let is_created = |event: &Event| matches!(event, Event::Ready);
    hear(
        &mut connection,
        is_created,
        "the container's first process was killed",
    )?;
    let copy = rustix::io::fcntl_dupfd_cloexec(&channel, 3)?;
    Connection::new(copy).send_with(&Event::Ready, &[], SendFlags::empty());
    stay(connection, &signals, slave.as_ref(), channel)
}

/// Has the machine's guest take over what `network` says; returns when it has.
///
/// # Errors
/// It could not, and why.
pub fn network(control: OwnedFd, network: Network) -> Result<(), Refused> {
    let mut connection = Connection::new(control);
    connection.send_with(&Request::Network { network }, &[], SendFlags::empty());
    match next(&mut connection) {
        Some(Event::Done) => Ok(()),
        Some(Event::Error {
            op, errno, message, ..
        }) => Err(Refused { op, errno, message }),
        _ => Err(Refused::plain("the virtual machine ended")),
    }
}

fn drop_capabilities() -> Result<(), Refused> {
    let none = CapabilitySets {
        permitted: 0,
        effective: 0,
        inheritable: 0,
    };
    Ok(ids::capset(none)?)
}

/// Lets go of everything else, stays as long as what it stands for runs, and ends as that does.
fn stay(
    mut connection: Connection,
    signals: &OwnedFd,
    slave: Option<&OwnedFd>,
    channel: OwnedFd,
) -> Result<std::convert::Infallible, Refused> {
    // The starter takes the channel's end for the program's start. The streams are the relay's now: their readers wait for its end of them.
    let mut kept = vec![connection.fd().as_raw_fd(), signals.as_raw_fd()];
    kept.extend(slave.map(AsRawFd::as_raw_fd));
    std::mem::forget(channel);
    process::close_all_but(&kept)?;
    if let Some(slave) = slave {
        resize(&mut connection, slave);
    }
    child::exit_now(follow(&mut connection, signals, slave))
}

fn open_terminal((columns, rows): (u16, u16), channel: &OwnedFd) -> Result<OwnedFd, Refused> {
    let (master, slave) = terminal::open("/dev/ptmx")?;
    if columns != 0 || rows != 0 {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size)?;
    }
    // Changes of its size come as SIGWINCH to whose terminal it is.
    rustix::process::ioctl_tiocsctty(&slave)?;
    let copy = rustix::io::fcntl_dupfd_cloexec(channel, 3)?;
    let mut starter = Connection::new(copy);
    starter.send_with(&Event::Console, &[master.as_fd()], SendFlags::empty());
    Ok(slave)
}

fn send(
    connection: &mut Connection,
    request: &Request,
    before: Option<&OwnedFd>,
    slave: Option<&OwnedFd>,
) -> Result<(), Refused> {
    let mut copies = match slave {
        Some(slave) => vec![rustix::io::fcntl_dupfd_cloexec(slave, 3)?],
        None => (0..3)
            .map(process::duplicate)
            .collect::<std::io::Result<Vec<_>>>()?,
    };
    if let Some(before) = before {
        copies.insert(0, rustix::io::fcntl_dupfd_cloexec(before, 3)?);
    }
    let borrowed: Vec<BorrowedFd<'_>> = copies.iter().map(AsFd::as_fd).collect();
    connection.send_with(request, &borrowed, SendFlags::empty());
    Ok(())
}

fn resize(connection: &mut Connection, slave: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(slave) {
        let request = Request::Resize {
            columns: size.ws_col,
            rows: size.ws_row,
        };
        connection.send_with(&request, &[], SendFlags::empty());
    }
}

/// Waits for an event. `ended`: what it means if the process ends before that.
fn hear(
    connection: &mut Connection,
    is_awaited: impl Fn(&Event) -> bool,
    ended: &str,
) -> Result<(), Refused> {
    loop {
        match next(connection) {
            Some(event) if is_awaited(&event) => return Ok(()),
            Some(Event::Error {
                op, errno, message, ..
            }) => return Err(Refused { op, errno, message }),
            Some(Event::Exited { .. }) => return Err(Refused::plain(ended)),
            Some(_) => {}
            None => return Err(Refused::plain("the virtual machine ended")),
        }
    }
}

/// Waits for the next event; `None` at end of stream.
fn next(connection: &mut Connection) -> Option<Event> {
    loop {
        if let Some(event) = connection.next() {
            return Some(event);
        }
        if connection.is_closed {
            return None;
        }
        connection.receive(RecvFlags::empty());
    }
}

/// Passes signals on until the program has ended; returns its code.
fn follow(connection: &mut Connection, signals: &OwnedFd, slave: Option<&OwnedFd>) -> i32 {
    loop {
        // First what came with the word that it runs: a program may have ended by then.
        if let Some(code) = end_of(connection) {
            return code;
        }
        let mut polled = [
            PollFd::from_borrowed_fd(connection.fd(), PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        if poll(&mut polled, None).is_err() {
            continue;
        }
        let [event, signal] = polled.map(|fd| !fd.revents().is_empty());
        if signal {
            for number in read_signals(signals) {
                match (number, slave) {
                    (libc::SIGWINCH, Some(slave)) => resize(connection, slave),
                    _ => {
                        let request = Request::Signal {
                            signal: number,
                            pid: None,
                        };
                        connection.send_with(&request, &[], SendFlags::empty());
                    }
                }
            }
        }
        if event {
            connection.receive(RecvFlags::DONTWAIT);
        }
    }
}

/// The program's code, if what was received says that it has ended.
fn end_of(connection: &mut Connection) -> Option<i32> {
    while let Some(event) = connection.next() {
        match event {
            Event::Exited { status } => return Some(shell_code(status)),
            // A container that was created and could not start: whoever said `start` was told why.
            Event::Error { .. } => return Some(1),
            _ => {}
        }
    }
    if connection.is_closed {
        let _ = std::io::stderr().flush();
        return Some(shell_code(libc::SIGKILL));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_end_that_comes_with_the_start_is_heard() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let (quiet, _other) = UnixStream::pair().expect("a pair of sockets");
        let mut relay = Connection::new(theirs.into());
        relay.send(&Event::Started { pid: 7 });
        relay.send(&Event::Exited { status: 3 << 8 });
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut connection = Connection::new(ours.into());
            assert!(matches!(
                next(&mut connection),
                Some(Event::Started { pid: 7 })
            ));
            let _ = tell.send(follow(&mut connection, &quiet.into(), None));
        });
        // Nothing more comes, and the relay's end stays open.
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(3));
    }
}
