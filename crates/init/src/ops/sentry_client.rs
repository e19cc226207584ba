//! A process of ours that asks a sentry and stands on the host for what that runs. What it reads comes from the sentry, which a program could have taken
//! over: frames are bounded, and it has no capabilities left.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use casemate_host::ids::{self, CapabilitySets};
use casemate_host::{child, process};
use casemate_plan::frames;
use casemate_sentry::control::messages::{Event, MAX_FRAME, Request};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::sentry::shell_code;
use crate::error::{Context, Error, Result};

/// Of a program that is gone with its whole sandbox.
const KILLED: i32 = 128 + libc::SIGKILL;

/// Every signal arrives at the descriptor from here on, and no capability is left.
pub(super) fn stand_in() -> Result<OwnedFd> {
    // First: no signal may get lost, or end this process without the program.
    let signals = child::all_signals().context(|| "signalfd".into())?;
    let none = CapabilitySets {
        permitted: 0,
        effective: 0,
        inheritable: 0,
    };
    ids::capset(none).context(|| "capset".into())?;
    Ok(signals)
}

/// Passes signals on until the program has ended; returns its code.
fn follow(client: &mut Client, signals: &OwnedFd) -> i32 {
    loop {
        // The end can have come in one piece with what came before it: then nothing further makes the socket readable.
        match client.received() {
            Ok(Some(Event::Exited { status })) => return shell_code(status),
            Ok(Some(_)) => continue,
            Ok(None) => {}
            Err(_) => return KILLED,
        }
        let mut polled = [
            PollFd::new(&client.socket, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        if poll(&mut polled, None).is_err() {
            continue;
        }
        let [event, signal] = polled.map(|fd| !fd.revents().is_empty());
        if signal {
            let mut info = [0; 128]; // struct signalfd_siginfo: the number, errno, the code
            if let Ok(128) = rustix::io::read(signals, &mut info) {
                let word = |at: usize| {
                    i32::from_le_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]])
                };
                let request = Request::Signal {
                    signal: word(0),
                    pid: None,
                    code: word(8),
                };
                // A sandbox that is gone is seen below.
                let _ = client.send(&request, &[]);
            }
        }
        if event && !client.receive().unwrap_or(false) {
            return KILLED;
        }
    }
}

pub(super) struct Client {
    socket: OwnedFd,
    received: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Client {
    pub(super) fn new(control: RawFd) -> Result<Self> {
        let socket = process::take_fd(control).context(|| "control descriptor".into())?;
        Ok(Self {
            socket,
            received: Vec::new(),
            descriptors: Vec::new(),
        })
    }

    /// Lets go of everything else, stays as long as what it stands for runs, and ends as that does.
    pub(super) fn stay(mut self, signals: &OwnedFd) -> Result<()> {
        // The starter takes the channel's end for the program's start. The streams are the program's: their readers wait for their end.
        process::close_all_but(&[self.socket.as_raw_fd(), signals.as_raw_fd()])
            .context(|| "close_range".into())?;
        child::exit_now(follow(&mut self, signals))
    }

    pub(super) fn send(&self, request: &Request, descriptors: &[RawFd]) -> Result<()> {
        let bytes = frames::encode(request, MAX_FRAME).map_err(Error::plain)?;
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

    /// An event that has come already.
    fn received(&mut self) -> Result<Option<Event>> {
        frames::take(&mut self.received, MAX_FRAME).map_err(Error::plain)
    }

    /// Waits for the next event; `None` at end of stream.
    pub(super) fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.received()? {
                return Ok(Some(event));
            }
            if !self.receive()? {
                return Ok(None);
            }
        }
    }

    /// Waits for bytes; false at end of stream.
    fn receive(&mut self) -> Result<bool> {
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
            Err(rustix::io::Errno::INTR) => return Ok(true),
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(error) => return Err(Error::io("control socket", &error.into())),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                self.descriptors.extend(given);
            }
        }
        self.received.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }
}
