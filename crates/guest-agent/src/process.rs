//! One process that the host asked for: its streams, its reports, its end. No call here waits.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use casemate_guest_protocol::{
    Allowance, Bytes, Link, LinkError, MAX_DATA, Receipt, STDERR, STDIN, STDOUT, ToHost,
};
use rustix::fs::{Mode, OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::error::{About, Result};
use crate::launch::{Reports, Streams};

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: u32,
    pub(crate) container: String,
    pub(crate) is_first: bool,
    pub(crate) default_action: bool,
    pub(crate) pid: Option<i32>,
    pub(crate) reports: Option<Reports>,
    /// Where the process waits for `Start`.
    pub(crate) waiting: Option<UnixListener>,
    pub(crate) is_ready: bool,
    pub(crate) has_failed: bool,
    /// The signal whose default action was done for it.
    pub(crate) ended_by: Option<i32>,
    pub(crate) status: Option<i32>,
    pub(crate) has_exited: bool,
    pub(crate) input: Option<Input>,
    pub(crate) outputs: Vec<Output>,
    has_terminal: bool,
    /// Only streams: the program is another agent's.
    pub(crate) is_foreign: bool,
}

/// What the process reads.
#[derive(Debug)]
pub(crate) struct Input {
    fd: OwnedFd,
    queue: VecDeque<u8>,
    receipt: Receipt,
    has_ended: bool,
}

/// What the process writes.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stream: u8,
    fd: OwnedFd,
    pub(crate) allowance: Allowance,
}

/// How far reading an output came.
enum Read {
    Bytes(Vec<u8>),
    Nothing,
    End,
}

impl Process {
    /// The process's record and its own ends of its streams. With a terminal, those come by a report.
    pub(crate) fn new(
        id: u32,
        container: String,
        is_first: bool,
        has_terminal: bool,
    ) -> Result<(Self, Streams)> {
        let mut process = Self {
            id,
            container,
            is_first,
            default_action: false,
            pid: None,
            reports: None,
            waiting: None,
            is_ready: false,
            has_failed: false,
            ended_by: None,
            status: None,
            has_exited: false,
            input: None,
            outputs: Vec::new(),
            has_terminal,
            is_foreign: false,
        };
        let streams = if has_terminal {
            [null()?, null()?, null()?]
        } else {
            let (input, ours) = pipe_with(PipeFlags::CLOEXEC).about("pipe")?;
            process.input = Some(Input::new(ours)?);
            let mut ends = Vec::new();
            for stream in [STDOUT, STDERR] {
                let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).about("pipe")?;
                process.outputs.push(Output::new(stream, ours)?);
                ends.push(theirs);
            }
            let [output, error]: [OwnedFd; 2] = ends
                .try_into()
                .unwrap_or_else(|_| unreachable!("two were pushed"));
            [input, output, error]
        };
        Ok((process, Streams(streams)))
    }

    /// The streams of a program that the agent of a container starts, and the program's own ends of them.
    pub(crate) fn foreign(id: u32, container: String) -> Result<(Self, Streams)> {
        let (mut process, streams) = Self::new(id, container, false, false)?;
        process.is_foreign = true;
        Ok((process, streams))
    }

    /// As `foreign`, for a program that has a terminal.
    pub(crate) fn on_terminal(id: u32, container: String, master: OwnedFd) -> Result<Self> {
        let (mut process, _) = Self::new(id, container, false, true)?;
        process.is_foreign = true;
        process.take_terminal(master)?;
        Ok(process)
    }

    /// Passes on what its outputs have. True: there is nothing more for now.
    pub(crate) fn read_outputs(&mut self, link: &mut Link) -> std::result::Result<bool, LinkError> {
        let streams: Vec<u8> = self.outputs.iter().map(|output| output.stream).collect();
        let mut all = true;
        for stream in streams {
            all &= self.read_output(stream, link)?;
        }
        Ok(all)
    }

    /// Whether something of an output waits for room on the host.
    pub(crate) fn is_held_up(&self) -> bool {
        self.outputs
            .iter()
            .any(|output| output.allowance.left() == 0)
    }

    /// The terminal that `init` opened for it: both directions of its only stream.
    pub(crate) fn take_terminal(&mut self, master: OwnedFd) -> Result<()> {
        let copy = rustix::io::fcntl_dupfd_cloexec(&master, 3).about("terminal")?;
        self.input = Some(Input::new(copy)?);
        self.outputs.push(Output::new(STDIN, master)?);
        Ok(())
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if let (true, Some(output)) = (self.has_terminal, self.outputs.first()) {
            // A terminal that nobody holds any more has no size to care for.
            let _ = tcsetwinsize(&output.fd, size);
        }
    }

    /// Data from the host. What comes for a stream that is gone is dropped; more than was allowed breaks the link.
    pub(crate) fn take_data(&mut self, bytes: &[u8]) -> std::result::Result<(), LinkError> {
        let Some(input) = &mut self.input else {
            return Ok(());
        };
        if !input.receipt.receive(bytes.len()) {
            return Err(LinkError::Protocol("more data than was allowed".into()));
        }
        input.queue.extend(bytes);
        Ok(())
    }

    /// Nobody on the host takes this output any more: as a pipe's writer learns there.
    pub(crate) fn end_output(&mut self, stream: u8) {
        self.outputs.retain(|output| output.stream != stream);
    }

    pub(crate) fn end_input(&mut self) {
        if let Some(input) = &mut self.input {
            input.has_ended = true;
        }
        if self.has_terminal {
            // Nobody holds the host's end of the terminal any more: its master closes, which hangs it up.
            self.outputs.clear();
        }
        self.drop_finished_input();
    }

    fn drop_finished_input(&mut self) {
        if self
            .input
            .as_ref()
            .is_some_and(|input| input.has_ended && input.queue.is_empty())
        {
            self.input = None;
        }
    }

    pub(crate) fn input_waits(&self) -> Option<BorrowedFd<'_>> {
        let input = self.input.as_ref()?;
        (!input.queue.is_empty()).then(|| input.fd.as_fd())
    }

    /// Writes what the process takes, and gives the host the room back.
    pub(crate) fn write_input(&mut self, link: &mut Link) -> std::result::Result<(), LinkError> {
        let Some(input) = &mut self.input else {
            return Ok(());
        };
        while !input.queue.is_empty() {
            let (part, _) = input.queue.as_slices();
            match rustix::io::write(&input.fd, part) {
                Ok(count) => {
                    input.queue.drain(..count);
                    if let Some(bytes) = input.receipt.take(count) {
                        link.send(&ToHost::Credit {
                            process: self.id,
                            stream: STDIN,
                            bytes,
                        })?;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => {
                    // Nobody reads: as a pipe's writer on the host learns.
                    self.input = None;
                    return link.send(&ToHost::End {
                        process: self.id,
                        stream: STDIN,
                    });
                }
            }
        }
        self.drop_finished_input();
        Ok(())
    }

    /// Passes on what an output has, as far as the host has room. True: there is nothing more for now.
    pub(crate) fn read_output(
        &mut self,
        stream: u8,
        link: &mut Link,
    ) -> std::result::Result<bool, LinkError> {
        let Some(place) = self
            .outputs
            .iter()
            .position(|output| output.stream == stream)
        else {
            return Ok(true);
        };
        let output = &mut self.outputs[place];
        let process = self.id;
        while output.allowance.left() > 0 && !link.is_congested() {
            match output.read() {
                Read::Bytes(bytes) => {
                    output.allowance.spend(bytes.len());
                    link.send(&ToHost::Data {
                        process,
                        stream,
                        bytes: Bytes(bytes),
                    })?;
                }
                Read::Nothing => return Ok(true),
                Read::End => {
                    self.outputs.remove(place);
                    link.send(&ToHost::End { process, stream })?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Outputs to wait for.
    pub(crate) fn readable(&self) -> impl Iterator<Item = (u8, BorrowedFd<'_>)> {
        self.outputs
            .iter()
            .filter(|output| output.allowance.left() > 0)
            .map(|output| (output.stream, output.fd.as_fd()))
    }

    /// Nothing more will come of it.
    pub(crate) fn is_over(&self) -> bool {
        if self.is_foreign {
            self.outputs.is_empty()
        } else {
            self.has_exited && (self.is_first || self.outputs.is_empty())
        }
    }
}

impl Input {
    fn new(fd: OwnedFd) -> Result<Self> {
        fcntl_setfl(&fd, OFlags::NONBLOCK).about("pipe")?;
        Ok(Self {
            fd,
            queue: VecDeque::new(),
            receipt: Receipt::default(),
            has_ended: false,
        })
    }
}

impl Output {
    fn new(stream: u8, fd: OwnedFd) -> Result<Self> {
        fcntl_setfl(&fd, OFlags::NONBLOCK).about("pipe")?;
        Ok(Self {
            stream,
            fd,
            allowance: Allowance::default(),
        })
    }

    fn read(&self) -> Read {
        let mut bytes = vec![0; MAX_DATA.min(self.allowance.left())];
        match rustix::io::read(&self.fd, &mut bytes) {
            Ok(0) => Read::End,
            Ok(count) => {
                bytes.truncate(count);
                Read::Bytes(bytes)
            }
            Err(Errno::AGAIN | Errno::INTR) => Read::Nothing,
            // A terminal's master when its last slave is closed: EIO.
            Err(_) => Read::End,
        }
    }
}

fn null() -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, Mode::empty()).about("/dev/null")
}
