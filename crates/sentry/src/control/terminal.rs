//! Terminals of the host's that carry what somebody outside types and reads.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstatfs, openat2};
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
    let stat = crate::host::fstat(&master)?;
    let is_multiplexer = fstatfs(&master)?.f_type as u64 == DEVPTS_SUPER_MAGIC
        && (stat.stx_rdev_major, stat.stx_rdev_minor) == (5, 2)
        && FileType::from_raw_mode(stat.stx_mode.into()) == FileType::CharacterDevice;
    if is_multiplexer {
        Ok(master)
    } else {
        Err(Errno::ENODEV)
    }
}
