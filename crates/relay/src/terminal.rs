//! Terminals of the host's that stand for one of the guest's, which does what a terminal does: these only carry bytes.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Result;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// A new terminal's master and slave. `multiplexer`: ptmx(4) of the devpts that it is to belong to.
///
/// # Errors
/// As openpty(3).
pub(crate) fn open(multiplexer: &str) -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open(multiplexer, flags, Mode::empty())?;
    unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    make_raw(&slave)?;
    Ok((master, slave))
}

/// # Errors
/// As tcsetattr(3).
pub(crate) fn make_raw(terminal: impl AsFd) -> Result<()> {
    let mut settings = tcgetattr(&terminal)?;
    settings.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &settings)
}
