//! Descriptors that the sandbox was given, as a program's.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use casemate_platform::device;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};

use crate::kernel::Kernel;
use crate::vfs::attributes::Attributes;
use crate::vfs::description::Description;
use crate::vfs::device::Device;
use crate::vfs::fd_table::FdTable;
use crate::vfs::file::File;
use crate::vfs::place::Place;
use crate::vfs::socket::given::GivenSocket;
use crate::vfs::stream::HostStream;
use crate::vfs::tty::host::open_streams;

use super::BootError;

/// Where the agent finds its socket.
pub const AGENT_SOCKET: i32 = 3;

impl Kernel {
    /// Puts the agent's socket among its descriptors; returns its executable, which is this one.
    pub(super) fn give_agent(
        &mut self,
        socket: OwnedFd,
        files: &mut FdTable,
    ) -> Result<Place, BootError> {
        let error = |errno| BootError::new("agent", errno);
        let socket = GivenSocket::open(self, socket).map_err(error)?;
        let description = Description::new(socket, libc::O_RDWR.cast_unsigned());
        files
            .replace(AGENT_SOCKET, description, false, u64::MAX)
            .map_err(error)?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let own = crate::host::openat(&self.host_proc, "self/exe", flags, Mode::empty());
        own.map(|fd| Place::Host(Arc::new(fd)))
            .map_err(|errno| error(errno.into()))
    }

    /// Descriptors 0 to 2 of this process become the program's, and those `inherited`.
    pub(super) fn standard_streams(&mut self, inherited: Vec<(i32, OwnedFd)>) -> FdTable {
        let mut table = FdTable::default();
        for (number, fd) in inherited {
            let description = self.given_stream(fd);
            // The limit is the starter's own number of descriptors: this cannot fail.
            let _ = table.replace(number, description, false, u64::MAX);
        }
        if let Some(terminal) = self.own_terminal() {
            for number in 0..3 {
                let _ = table.replace(number, terminal.clone(), false, 3);
            }
            return table;
        }
        let streams = [
            (rustix::stdio::stdin().try_clone_to_owned(), 0),
            (rustix::stdio::stdout().try_clone_to_owned(), 1),
            (rustix::stdio::stderr().try_clone_to_owned(), 2),
        ];
        for (stream, number) in streams {
            if let Ok(fd) = stream {
                let description = self.given_stream(fd);
                // The table is empty and the numbers small: this cannot fail.
                let _ = table.replace(number, description, false, 3);
            }
        }
        table
    }

    /// The sandbox's own terminal, where it has one: `init` made it all three streams.
    fn own_terminal(&mut self) -> Option<Arc<Description>> {
        let stdin = rustix::stdio::stdin().try_clone_to_owned().ok()?;
        let tty = self.add_console(&stdin)?;
        open_streams(&tty).ok()
    }

    /// A descriptor of the host that becomes a program's.
    #[must_use]
    pub fn given_stream(&self, fd: OwnedFd) -> Arc<Description> {
        let fd = own_null(&fd).unwrap_or(fd);
        let flags =
            rustix::fs::fcntl_getfl(&fd).map_or(libc::O_RDWR.cast_unsigned(), |flags| flags.bits());
        let attributes = rustix::fs::statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
            .map(|raw| Attributes::from_host(&raw));
        let by_path = fd.try_clone().map(|copy| Place::Host(Arc::new(copy)));
        if let (Ok(attributes), Ok(place)) = (attributes, by_path)
            && let Some(device) = Device::of(attributes, place)
        {
            return Description::new(Arc::new(device), flags);
        }
        let stream = Arc::new(HostStream::new(fd));
        let weak: std::sync::Weak<HostStream> = Arc::downgrade(&stream);
        if let Some(host) = stream.host() {
            let _ = self.watcher.watch_file(host, weak);
        }
        Description::new(stream, flags)
    }
}

/// The container's /dev/null for a stream that is the host's: by the stream a program could change the mode and owner of that inode, which is everybody's.
fn own_null(given: &OwnedFd) -> Option<OwnedFd> {
    if !device::is_null(given) {
        return None;
    }
    let wanted = rustix::fs::fcntl_getfl(given).ok()? & OFlags::ACCMODE;
    let flags = wanted | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(CWD, "/dev/null", flags, Mode::empty(), resolve)
        .ok()
        .filter(|own| device::is_null(own))
}
