//! The server of a guest's files, where they come by way of the link (crates/guest-files): a process of its own, which has what of the container's root's
//! capabilities such a server needs, and sees nothing but the machine's share. The relay carries its bytes and understands none.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use casemate_guest_protocol::{Allowance, Bytes, FILES, MAX_DATA, Receipt, ToGuest};
use casemate_host::clone::Side;
use casemate_host::{child, process};
use casemate_jail::landlock;
use casemate_plan::op::Landlock;
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::jail;
use crate::relay::{Failure, Relay};

const SHARE: &str = "/share";

#[derive(Debug)]
pub(crate) struct Files {
    socket: OwnedFd,
    queue: VecDeque<Vec<u8>>,
    receipt: Receipt,
    pub(crate) allowance: Allowance,
}

impl Files {
    /// Starts the server, before this process gives up what that needs; returns its pid too.
    pub(crate) fn start(output: &io::PipeWriter) -> io::Result<(Self, u32)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let pid = match child::fork()? {
            Side::Child => {
                let served = serve(&theirs, output);
                if let Err(error) = &served {
                    // For the machine's last words.
                    let message = format!("the server of files: {error}\n");
                    let _ = rustix::io::write(output, message.as_bytes());
                }
                child::exit_now(i32::from(served.is_err()))
            }
            Side::Parent(pid) => pid,
        };
        fcntl_setfl(&ours, OFlags::NONBLOCK)?;
        let files = Self {
            socket: ours,
            queue: VecDeque::new(),
            receipt: Receipt::default(),
            allowance: Allowance::default(),
        };
        Ok((files, pid.unsigned_abs()))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn poll_flags(&self, is_congested: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        if !self.queue.is_empty() {
            flags |= PollFlags::OUT;
        }
        if self.allowance.left() > 0 && !is_congested {
            flags |= PollFlags::IN;
        }
        flags
    }

    /// Gives the server what it takes; returns how many bytes the guest may send anew.
    fn pass(&mut self) -> io::Result<Option<u32>> {
        let mut count = 0;
        while let Some(bytes) = self.queue.front_mut() {
            match rustix::io::write(&self.socket, bytes) {
                Ok(taken) => {
                    count += taken;
                    bytes.drain(..taken);
                    if bytes.is_empty() {
                        self.queue.pop_front();
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(self.receipt.take(count))
    }

    /// What the server has said, once.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; MAX_DATA.min(self.allowance.left())];
        let count = match rustix::io::read(&self.socket, &mut bytes[..]) {
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // Its end is told by the signal.
            result => result?,
        };
        bytes.truncate(count);
        self.allowance.spend(count);
        Ok(bytes)
    }
}

impl Relay {
    /// Bytes of the guest's requests.
    pub(crate) fn ask_files(&mut self, bytes: Vec<u8>) -> Result<(), Failure> {
        let Some(files) = &mut self.files else {
            return Err(Failure::plain("the guest asks for files that it has not"));
        };
        if !files.receipt.receive(bytes.len()) {
            return Err(Failure::plain("the guest sent more than was allowed"));
        }
        files.queue.push_back(bytes);
        self.serve_files()
    }

    pub(crate) fn serve_files(&mut self) -> Result<(), Failure> {
        let Some(files) = &mut self.files else {
            return Ok(());
        };
        let credit = files.pass()?;
        if let Some(bytes) = credit {
            self.link.send(&ToGuest::Credit {
                process: 0,
                stream: FILES,
                bytes,
            })?;
        }
        while files.allowance.left() > 0 && !self.link.is_congested() {
            let bytes = files.read()?;
            if bytes.is_empty() {
                break;
            }
            self.link.send(&ToGuest::Files {
                bytes: Bytes(bytes),
            })?;
        }
        Ok(())
    }
}

/// The server's process: nothing but the stream is open, nothing but the share can be opened.
fn serve(stream: &OwnedFd, output: &io::PipeWriter) -> io::Result<()> {
    // The container's own streams are not its business, and would stay open with it.
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(output)?;
    process::close_all_but(&[stream.as_raw_fd(), output.as_raw_fd()])?;
    let (_, most) = process::rlimit(libc::RLIMIT_NOFILE as _)?;
    process::set_rlimit(libc::RLIMIT_NOFILE as _, most, most)?;
    let only = Landlock {
        scoped: true,
        read_only: Vec::new(),
        read_write: vec![SHARE.to_owned()],
        best_effort: true,
    };
    landlock::apply(&only).map_err(io::Error::other)?;
    jail::close_file_server()?;
    Ok(casemate_guest_files::serve(stream, Path::new(SHARE))?)
}
