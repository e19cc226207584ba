//! `device` and `symlink`: what stands in the container's /dev.

use std::os::fd::{AsFd, AsRawFd};

use casemate_host::{mount as host, process};
use casemate_plan::op::{Device, DeviceKind};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::mount::c_string;
use crate::child::State;
use crate::error::{Context, Error, Result};
use crate::root::Root;

pub(super) fn symlink(target: &str, path: &str, replace: bool, state: &State) -> Result<()> {
    let (parent, name) = state.root()?.parent_of(path)?;
    match symlinkat(target, &parent, name) {
        Err(Errno::EXIST) if replace => {
            unlinkat(&parent, name, AtFlags::empty()).context(|| path.to_owned())?;
            symlinkat(target, &parent, name).context(|| path.to_owned())
        }
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::io(format!("symlink {path}"), &error.into())),
    }
}

pub(super) fn device(device: &Device, state: &State) -> Result<()> {
    let root = state.root()?;
    if device.bind {
        bind(device, root)
    } else {
        make(device, root)
    }
}

/// In a user namespace mknod is refused: the host's own node is bound instead.
fn bind(device: &Device, root: &Root) -> Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = rustix::fs::open(&device.path, flags, Mode::empty())
        .context(|| format!("host device {}", device.path))?;
    let tree =
        host::clone_tree(source.as_fd(), false).context(|| format!("copy {}", device.path))?;
    let target = root.make_file(&device.path)?;
    host::attach(tree.as_fd(), target.as_fd()).context(|| format!("bind {}", device.path))
}

fn make(device: &Device, root: &Root) -> Result<()> {
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let (parent, name) = root.parent_of(&device.path)?;
    let c_name = c_string(name)?;
    let mode = kind.as_raw_mode() | (device.mode & 0o7777);
    match process::mknodat(
        parent.as_raw_fd(),
        &c_name,
        mode,
        device.major,
        device.minor,
    ) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {
            return check_existing(device, kind, &parent, name);
        }
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            return bind(device, root);
        }
        Err(error) => return Err(Error::io(format!("mknod {}", device.path), &error)),
    }
    let owner = (
        Some(Uid::from_raw(device.uid)),
        Some(Gid::from_raw(device.gid)),
    );
    chownat(&parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
        .context(|| format!("chown {}", device.path))?;
    // The node was just made by us in a directory held open; the mode again because the umask took its part.
    chmodat(
        &parent,
        name,
        Mode::from_raw_mode(device.mode & 0o7777),
        AtFlags::empty(),
    )
    .context(|| format!("chmod {}", device.path))
}

fn check_existing(device: &Device, kind: FileType, parent: &impl AsFd, name: &str) -> Result<()> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).context(|| device.path.clone())?;
    let same_number =
        kind == FileType::Fifo || stat.st_rdev == rustix::fs::makedev(device.major, device.minor);
    if FileType::from_raw_mode(stat.st_mode) == kind && same_number {
        return Ok(());
    }
    Err(Error::with_errno(
        format!("{} exists and is another thing", device.path),
        Errno::EXIST.raw_os_error(),
    ))
}
