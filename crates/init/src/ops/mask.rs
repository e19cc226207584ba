//! `mask_path` and `readonly_path`: what of the host's kernel a container must not read or write.

use std::os::fd::{AsFd, OwnedFd};

use casemate_host::device;
use casemate_host::mount::{
    self as host, FsContext, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY, MountAttr,
};
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::child::State;
use crate::error::{Context, Error, Result};
use crate::root::file_type;

pub(super) fn mask_path(path: &str, state: &State) -> Result<()> {
    let Some(target) = find(path, state)? else {
        return Ok(());
    };
    let cover = if file_type(&target)? == FileType::Directory {
        empty_directory()?
    } else {
        null_device(state)?
    };
    host::attach(cover.as_fd(), target.as_fd()).context(|| format!("mask {path}"))
}

pub(super) fn readonly_path(path: &str, state: &State) -> Result<()> {
    let Some(target) = find(path, state)? else {
        return Ok(());
    };
    let tree =
        host::clone_tree(target.as_fd(), true).context(|| format!("copy the mount of {path}"))?;
    let attributes = MountAttr {
        set: MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    host::set_attributes(tree.as_fd(), attributes, true)
        .context(|| format!("make {path} read-only"))?;
    host::attach(tree.as_fd(), target.as_fd()).context(|| format!("bind {path}"))
}

fn find(path: &str, state: &State) -> Result<Option<OwnedFd>> {
    match state.root()?.locate(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(Error::io(path, &error.into())),
    }
}

fn empty_directory() -> Result<OwnedFd> {
    let context = FsContext::open(c"tmpfs").context(|| "fsopen tmpfs".into())?;
    context
        .set_string(c"size", c"0")
        .context(|| "tmpfs size".into())?;
    context.set_flag(c"ro").context(|| "tmpfs ro".into())?;
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    context.mount(attributes).context(|| "tmpfs".into())
}

/// The container's /dev/null, verified to be the device and no link: otherwise an image would choose what is bound over the path
/// (CVE-2025-31133).
fn null_device(state: &State) -> Result<OwnedFd> {
    let null = state
        .root()?
        .locate_link("/dev/null")
        .context(|| "/dev/null, to mask with".into())?;
    if !device::is_null(&null) {
        return Err(Error::plain(
            "/dev/null, to mask with, is not the device 1:3",
        ));
    }
    host::clone_tree(null.as_fd(), false).context(|| "copy /dev/null".into())
}
