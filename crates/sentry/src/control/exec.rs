//! `exec`: a further program, with descriptors of the client's or a terminal of the sandbox's.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::boot::{BootError, Config};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::kernel::task::Limits;
use crate::vfs::fd_table::FdTable;
use crate::vfs::place::Place;

use super::Reporter;

/// Numbers that a program may be given descriptors at: far above what a starter has.
const MAX_NUMBER: i32 = 1 << 16;

/// What the program is started with.
pub(super) struct Wanted {
    pub(super) program: Config,
    /// Each with its number in the program.
    pub(super) descriptors: Vec<(i32, OwnedFd)>,
    pub(super) limits: Limits,
    /// The slave of a terminal of the host's, for 0 to 2.
    pub(super) terminal: Option<OwnedFd>,
}

/// Puts the program in the zygote's queue; `reporter` tells the rest.
pub(super) fn start(
    kernel: &mut Kernel,
    root: &Place,
    wanted: Wanted,
    reporter: Reporter,
) -> Result<(), BootError> {
    let mut files = FdTable::default();
    for (number, fd) in wanted.descriptors {
        if !(0..MAX_NUMBER).contains(&number) {
            return Err(error("descriptors", Errno::EBADF));
        }
        let description = kernel.given_stream(fd);
        files
            .replace(number, description, false, MAX_NUMBER as u64)
            .map_err(|errno| error("descriptors", errno))?;
    }
    if let Some(slave) = wanted.terminal {
        let owner = (wanted.program.uid, wanted.program.gid);
        let description = kernel
            .open_host_terminal(slave, owner)
            .map_err(|errno| error("terminal", errno))?;
        for number in 0..3 {
            files
                .replace(number, description.clone(), false, MAX_NUMBER as u64)
                .map_err(|errno| error("terminal", errno))?;
        }
    }
    make_directories(root, &wanted.program.cwd);
    kernel.start_program(
        wanted.program.into(),
        root,
        files,
        wanted.limits,
        Some(reporter),
    )
}

/// The working directory is made where it is missing, as runc does and engines expect. What fails here is told when it is entered.
fn make_directories(root: &Place, path: &str) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(root) = root.host() else { return };
    let Ok(mut here) = openat2(root, ".", flags, Mode::empty(), resolve) else {
        return;
    };
    let mut walked = String::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        walked = format!("{walked}/{name}");
        let found = openat2(root, &walked, flags, Mode::empty(), resolve).or_else(|_| {
            rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o755))?;
            openat2(root, &walked, flags, Mode::empty(), resolve)
        });
        let Ok(found) = found else { return };
        here = found;
    }
}

fn error(what: &str, errno: Errno) -> BootError {
    BootError::new(what, errno)
}
