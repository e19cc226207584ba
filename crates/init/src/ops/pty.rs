//! `pty` and `console_device`: the container's terminal, from its own devpts.

use std::os::fd::AsFd;

use casemate_host::mount as host;
use rustix::fs::{AtFlags, FileType, OFlags, fstatfs, makedev, statat};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::channel::Event;
use crate::child::State;
use crate::error::{Context, Error, Result};

/// Of a devpts: `ptmx` is 5:2 on a file system of this magic; anything else is a trap of the image (CVE-2025-52565).
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

pub(super) fn pty(columns: u16, rows: u16, state: &mut State) -> Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = state
        .root()?
        .open("dev/pts/ptmx", flags)
        .context(|| "/dev/pts/ptmx".into())?;
    let magic =
        u64::try_from(fstatfs(&master).context(|| "statfs of ptmx".into())?.f_type).unwrap_or(0);
    let stat = statat(&master, "", AtFlags::EMPTY_PATH).context(|| "stat of ptmx".into())?;
    if magic != DEVPTS_SUPER_MAGIC
        || stat.st_rdev != makedev(5, 2)
        || FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
    {
        return Err(Error::plain(
            "/dev/pts/ptmx is not a devpts' terminal multiplexer",
        ));
    }
    unlockpt(&master).context(|| "unlock the terminal".into())?;
    let slave = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .context(|| "open the terminal".into())?;
    if columns != 0 || rows != 0 {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).context(|| "terminal size".into())?;
    }
    state.channel.send(&Event::Console, Some(master.as_fd()))?;
    rustix::process::ioctl_tiocsctty(&slave).context(|| "controlling terminal".into())?;
    for install in [
        rustix::stdio::dup2_stdin,
        rustix::stdio::dup2_stdout,
        rustix::stdio::dup2_stderr,
    ] {
        install(&slave).context(|| "stdio".into())?;
    }
    state.terminal = Some(slave);
    Ok(())
}

/// Binds the slave on /dev/console. The target is made and checked without following a link (CVE-2025-52565: a link there would have made the
/// bind land on a masked file).
pub(super) fn console_device(state: &State) -> Result<()> {
    let slave = state
        .terminal
        .as_ref()
        .ok_or_else(|| Error::plain("console_device before pty"))?;
    let root = state.root()?;
    let (parent, name) = root.parent_of("/dev/console")?;
    let flags = OFlags::CREATE
        | OFlags::RDONLY
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    match rustix::fs::openat(
        &parent,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    ) {
        Ok(_) => {}
        Err(rustix::io::Errno::NOENT) => {
            rustix::fs::openat(
                &parent,
                name,
                flags | OFlags::EXCL,
                rustix::fs::Mode::from_raw_mode(0o600),
            )
            .context(|| "/dev/console".into())?;
        }
        Err(error) => return Err(Error::io("/dev/console", &error.into())),
    }
    let target = rustix::fs::openat(
        &parent,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .context(|| "/dev/console".into())?;
    if crate::root::file_type(&target)? == FileType::Symlink {
        return Err(Error::plain("/dev/console is a symbolic link"));
    }
    let tree =
        host::clone_tree(slave.as_fd(), false).context(|| "copy the terminal's mount".into())?;
    host::attach(tree.as_fd(), target.as_fd()).context(|| "bind /dev/console".into())
}
