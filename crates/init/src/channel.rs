//! Frames to and from the starter: a 4-byte little-endian length and one MessagePack map; descriptors on the first byte.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use casemate_plan::frames;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

const MAX_FRAME: usize = 1 << 20;

/// What the engine reports.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    Child {
        pid: i32,
    },
    Barrier {
        name: &'a str,
    },
    Console,
    SeccompListener,
    Ready,
    Error {
        op: &'a str,
        index: i64,
        errno: i32,
        message: &'a str,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    command: String,
}

/// One end of the control socket.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(crate) fn raw(&self) -> i32 {
        std::os::fd::AsRawFd::as_raw_fd(&self.0)
    }

    /// Sends a report. An error means that the starter is gone.
    pub(crate) fn send(&self, event: &Event<'_>, descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
        let frame = frames::encode(event, MAX_FRAME).map_err(Error::plain)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.map(|fd| [fd]);
        if let Some(fds) = &descriptors {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        let mut sent = sendmsg(
            &self.0,
            &[IoSlice::new(&frame)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .context(|| "control socket".into())?;
        while sent < frame.len() {
            sent += rustix::net::send(&self.0, &frame[sent..], SendFlags::NOSIGNAL)
                .context(|| "control socket".into())?;
        }
        Ok(())
    }

    /// Reports and waits for `continue`.
    pub(crate) fn stop(&self, event: &Event<'_>, descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
        self.send(event, descriptor)?;
        match self.receive()?.as_deref() {
            Some("continue") => Ok(()),
            Some(other) => Err(Error::plain(format!("unexpected command {other:?}"))),
            None => Err(Error::plain("the starter is gone")),
        }
    }

    /// The next command; None at end of stream.
    pub(crate) fn receive(&self) -> Result<Option<String>> {
        let mut header = [0u8; 4];
        if !self.read_exactly(&mut header)? {
            return Ok(None);
        }
        let length = u32::from_le_bytes(header) as usize;
        if length > MAX_FRAME {
            return Err(Error::plain(format!(
                "frame of {length} bytes, at most {MAX_FRAME}"
            )));
        }
        let mut body = vec![0u8; length];
        if !self.read_exactly(&mut body)? {
            return Ok(None);
        }
        let command: Command = rmp_serde::from_slice(&body)
            .map_err(|error| Error::plain(format!("command: {error}")))?;
        Ok(Some(command.command))
    }

    fn read_exactly(&self, buffer: &mut [u8]) -> Result<bool> {
        let mut done = 0;
        while done < buffer.len() {
            match recv(self.0.as_fd(), &mut buffer[done..], RecvFlags::empty()) {
                Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => return Ok(false),
                Ok((length, _)) => done += length,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::io("control socket", &error.into())),
            }
        }
        Ok(true)
    }
}
