//! Streams of the host that the sandbox was given: its standard input, output and error. A regular file is one, too: its position stays the host's, since
//! whoever gave it can share it (`>> log` of two programs).
//!
//! Their status flags are shared with whoever gave them, so they are never made non-blocking: a transfer asks for what is possible now (RWF_NOWAIT), or is
//! only made when poll(2) says that it can be.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, FileType, OFlags, StatxFlags};

use super::attributes::Attributes;
use super::description::Description;
use super::fasync::{self, Band};
use super::file::{File, POLLHUP, READABLE, WRITABLE};
use crate::errno::{Errno, Result};
use crate::host::{Way, write_as};
use crate::kernel::Kernel;
use crate::kernel::wake::WaitQueue;
use crate::memory::{Address, Buffer};
use crate::syscalls::Cx;
use crate::watcher::HasQueue;

const CHUNK: usize = 64 << 10;
/// What a pipe or terminal that poll calls writable takes for certain.
const CERTAIN_WRITE: usize = 4096;

#[derive(Debug)]
pub struct HostStream {
    fd: OwnedFd,
    is_regular: bool,
    /// Whoever gave it opened it with O_APPEND.
    appends: bool,
    queue: WaitQueue,
    fasync: fasync::List,
}

impl HostStream {
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        let is_regular = crate::host::fstat(&fd).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile
        });
        let appends =
            rustix::fs::fcntl_getfl(&fd).is_ok_and(|flags| flags.contains(OFlags::APPEND));
        Self {
            fd,
            is_regular,
            appends,
            queue: WaitQueue::default(),
            fasync: fasync::List::default(),
        }
    }

    fn ready(&self, wanted: PollFlags) -> bool {
        let mut polled = [PollFd::new(&self.fd, wanted)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
    }
}

impl HasQueue for HostStream {
    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn on_event(&self, _kernel: &mut Kernel) {
        if self.fasync.is_empty() {
            return;
        }
        let ready = self.poll();
        self.fasync.tell_ready(ready);
        if ready & WRITABLE != 0 {
            self.fasync.tell(Band::Out);
        }
    }
}

impl File for HostStream {
    fn read(&self, _description: &Description, to: &mut Buffer, at: Option<u64>) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        if !self.ready(PollFlags::IN) {
            return Err(Errno::EAGAIN);
        }
        let mut bytes = vec![0; to.remaining().min(CHUNK)];
        let count = match at {
            Some(at) => crate::host::pread(&self.fd, &mut bytes, at)?,
            None => crate::host::read(&self.fd, &mut bytes)?,
        };
        to.put(&bytes[..count])
    }

    fn write(
        &self,
        description: &Description,
        from: &mut Buffer,
        at: Option<u64>,
    ) -> Result<usize> {
        if self.is_regular {
            let bytes = from.take_vec(CHUNK)?;
            // The program's own (F_SETFL): whoever gave the file does not see it. pwrite(2): O_APPEND is heeded there, too.
            let appends = description.flags() & libc::O_APPEND.cast_unsigned() != 0;
            let way = match (appends, self.appends) {
                (true, _) => Way::Appending,
                (false, true) => Way::InPlace,
                (false, false) => Way::AsOpened,
            };
            return Ok(write_as(&self.fd, &bytes, at, way)?);
        }
        if let Some(at) = at {
            let bytes = from.take_vec(CHUNK)?;
            return Ok(crate::host::pwrite(&self.fd, &bytes, at)?);
        }
        if !self.ready(PollFlags::OUT) {
            return Err(Errno::EAGAIN);
        }
        let bytes = from.take_vec(CERTAIN_WRITE)?;
        Ok(crate::host::write(&self.fd, &bytes)?)
    }

    fn poll(&self) -> u32 {
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN | PollFlags::OUT)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if rustix::event::poll(&mut polled, Some(&now)).is_err() {
            return READABLE | WRITABLE;
        }
        let events = polled[0].revents();
        let mut result = u32::from(events.bits());
        if events.contains(PollFlags::IN) {
            result |= READABLE;
        }
        if events.contains(PollFlags::OUT) {
            result |= WRITABLE;
        }
        if events.contains(PollFlags::HUP) {
            result |= POLLHUP;
        }
        result
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn fasync(&self) -> [Option<&fasync::List>; 2] {
        [(!self.is_regular).then_some(&self.fasync), None]
    }

    fn seek(&self, _description: &Description, offset: i64, whence: i32) -> Result<u64> {
        if !self.is_regular {
            return Err(Errno::ESPIPE);
        }
        Ok(super::host::seek_host(&self.fd, offset, whence)?.cast_unsigned())
    }

    fn keeps_position(&self) -> bool {
        self.is_regular
    }

    fn is_stream(&self) -> bool {
        !self.is_regular
    }

    fn ioctl(
        &self,
        cx: &mut Cx<'_>,
        _description: &Description,
        request: u32,
        argument: Address,
    ) -> Result<i64> {
        super::tty::given::ioctl(cx, self.fd.as_fd(), request, argument)
    }

    fn attributes(&self) -> Result<Attributes> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        Ok(Attributes::from_host(&rustix::fs::statx(
            &self.fd,
            "",
            AtFlags::EMPTY_PATH,
            wanted,
        )?))
    }

    fn host(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn name(&self) -> Vec<u8> {
        b"pipe:[1]".to_vec()
    }
}
