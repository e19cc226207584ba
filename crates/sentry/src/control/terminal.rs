//! Terminals of the host's that carry what somebody outside types and reads.

use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstatfs, makedev, openat2, statat,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::errno::{Errno, Result};
use crate::vfs::place::Place;

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// A new terminal of the container's devpts: its master and its slave. The image does not choose what is opened (CVE-2025-52565).
pub fn terminal(root: &Place, (columns, rows): (u16, u16)) -> Result<(OwnedFd, OwnedFd)> {
    let master = multiplexer(root)?;
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
    Ok((master, slave))
}

fn multiplexer(root: &Place) -> Result<OwnedFd> {
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
