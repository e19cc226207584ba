//! `exec`: a further program, with descriptors of the client's or a terminal of the sandbox's.

use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstatfs, makedev, openat2, statat,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::boot::{BootError, Config};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::kernel::task::Limits;
use crate::vfs::fd_table::FdTable;
use crate::vfs::place::Place;

use super::Reporter;

/// Numbers that a program may be given descriptors at: far above what a starter has.
const MAX_NUMBER: i32 = 1 << 16;
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

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
    kernel.start_program(wanted.program, root, files, wanted.limits, Some(reporter))
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

/// A new terminal of the container's devpts: its master and its slave. The image does not choose what is opened (CVE-2025-52565).
pub(super) fn terminal(
    root: &Place,
    (columns, rows): (u16, u16),
) -> Result<(OwnedFd, OwnedFd), BootError> {
    let master = multiplexer(root).map_err(|errno| error("/dev/pts/ptmx", errno))?;
    let open = || -> rustix::io::Result<OwnedFd> {
        unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        if columns != 0 || rows != 0 {
            let size = Winsize {
                ws_col: columns,
                ws_row: rows,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            tcsetwinsize(&master, size)?;
        }
        Ok(slave)
    };
    let slave = open().map_err(|errno| error("terminal", errno.into()))?;
    Ok((master, slave))
}

fn multiplexer(root: &Place) -> crate::errno::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let master = openat2(root.host()?, "dev/pts/ptmx", flags, Mode::empty(), resolve)?;
    let stat = statat(&master, "", AtFlags::EMPTY_PATH)?;
    let is_multiplexer = fstatfs(&master)?.f_type as u64 == DEVPTS_SUPER_MAGIC
        && stat.st_rdev == makedev(5, 2)
        && FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if is_multiplexer {
        Ok(master)
    } else {
        Err(Errno::ENODEV)
    }
}

fn error(what: &str, errno: Errno) -> BootError {
    BootError::new(what, errno)
}
