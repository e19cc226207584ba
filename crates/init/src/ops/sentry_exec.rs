//! `sentry_exec`: stands on the host for a program that a sentry runs: has it started, passes signals on, and ends as it ends.
//!
//! This process joins nothing of the container's but its cgroup and executes nothing. What it reads comes from the sentry, which a program could have
//! taken over: frames are bounded, and it has no capabilities left.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use casemate_host::ids::{self, CapabilitySets};
use casemate_host::{child, process};
use casemate_plan::op;
use casemate_sentry::control::messages::{Event, Request, frame, take};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::sentry::{config, shell_code};
use crate::channel;
use crate::child::State;
use crate::error::{Context, Error, Result};

/// Of a program that is gone with its whole sandbox.
const KILLED: i32 = 128 + libc::SIGKILL;

pub(super) fn sentry_exec(
    control: i32,
    terminal: Option<(u16, u16)>,
    program: op::Sentry,
    state: &mut State,
) -> Result<()> {
    // First: no signal may get lost, or end this process without the program.
    let signals = child::all_signals().context(|| "signalfd".into())?;
    let none = CapabilitySets {
        permitted: 0,
        effective: 0,
        inheritable: 0,
    };
    ids::capset(none).context(|| "capset".into())?;
    let socket = process::take_fd(control).context(|| "control descriptor".into())?;
    let mut client = Client {
        socket,
        received: Vec::new(),
        descriptors: Vec::new(),
    };
    let mut numbers: Vec<i32> = if terminal.is_some() {
        Vec::new()
    } else {
        vec![0, 1, 2]
    };
    numbers.extend(&state.keep_fds);
    let request = Request::Exec {
        program: Box::new(config(program)?),
        terminal,
        descriptors: numbers.clone(),
    };
    client.send(&request, &numbers)?;
    loop {
        match client.next()? {
            Some(Event::Console) => {
                let master = client.descriptors.pop();
                let master = master.ok_or_else(|| Error::plain("a terminal without descriptor"))?;
                state
                    .channel
                    .send(&channel::Event::Console, Some(master.as_fd()))?;
            }
            Some(Event::Started { .. }) => break,
            Some(Event::Error { errno, message }) => return Err(Error::with_errno(message, errno)),
            Some(_) => {}
            None => return Err(Error::plain("the sandbox ended")),
        }
    }
    // The starter takes the channel's end for the program's start. The streams are the program's: their readers wait for their end.
    process::close_all_but(&[
        std::os::fd::AsRawFd::as_raw_fd(&client.socket),
        std::os::fd::AsRawFd::as_raw_fd(&signals),
    ])
    .context(|| "close_range".into())?;
    child::exit_now(follow(&mut client, &signals))
}

/// Passes signals on until the program has ended; returns its code.
fn follow(client: &mut Client, signals: &OwnedFd) -> i32 {
    loop {
        let mut polled = [
            PollFd::new(&client.socket, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        if poll(&mut polled, None).is_err() {
            continue;
        }
        let [event, signal] = polled.map(|fd| !fd.revents().is_empty());
        if signal {
            let mut info = [0; 128]; // struct signalfd_siginfo, whose first word is the number
            if let Ok(128) = rustix::io::read(signals, &mut info) {
                let number = i32::from_le_bytes([info[0], info[1], info[2], info[3]]);
                let request = Request::Signal {
                    signal: number,
                    pid: None,
                };
                // A sandbox that is gone is seen below.
                let _ = client.send(&request, &[]);
            }
        }
        if event {
            match client.next() {
                Ok(Some(Event::Exited { status })) => return shell_code(status),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return KILLED,
            }
        }
    }
}

struct Client {
    socket: OwnedFd,
    received: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Client {
    fn send(&self, request: &Request, descriptors: &[RawFd]) -> Result<()> {
        let bytes = frame(request).map_err(Error::plain)?;
        let copies = descriptors
            .iter()
            .map(|raw| process::duplicate(*raw).context(|| format!("descriptor {raw}")))
            .collect::<Result<Vec<OwnedFd>>>()?;
        let borrowed: Vec<BorrowedFd<'_>> = copies.iter().map(AsFd::as_fd).collect();
        let mut space =
            vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(descriptors.len()))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
        }
        let mut sent = sendmsg(
            &self.socket,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .context(|| "control socket".into())?;
        while sent < bytes.len() {
            sent += rustix::net::send(&self.socket, &bytes[sent..], SendFlags::NOSIGNAL)
                .context(|| "control socket".into())?;
        }
        Ok(())
    }

    /// Waits for the next event; `None` at end of stream.
    fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = take(&mut self.received).map_err(Error::plain)? {
                return Ok(Some(event));
            }
            let mut bytes = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                &self.socket,
                &mut [std::io::IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            );
            let count = match received {
                Ok(message) => message.bytes,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::CONNRESET) => 0,
                Err(error) => return Err(Error::io("control socket", &error.into())),
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(given) = message {
                    self.descriptors.extend(given);
                }
            }
            if count == 0 {
                return Ok(None);
            }
            self.received.extend_from_slice(&bytes[..count]);
        }
    }
}
