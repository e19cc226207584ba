//! The root: propagation, opening it, making it `/`. Order and flags follow runc's rootfs_linux.go prepareRoot and pivotRoot.

use std::os::fd::{AsFd, OwnedFd};

use casemate_host::mount::{
    self as host, FsContext, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MountAttr,
};
use casemate_plan::op::{Overlay, PivotMode};
use casemate_plan::{Op, Plan};
use rustix::fs::{Mode, OFlags, open, stat};
use rustix::process::{chdir, chroot, fchdir};

use super::mount::c_string;
use crate::child::State;
use crate::error::{Context, Result};
use crate::root::Root;

const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_REC: u64 = 16384;

pub(super) fn propagation(flags: u64) -> Result<()> {
    host::change("/", flags).context(|| "propagation of /".into())
}

/// Opens the root directory, binds it on itself (pivot_root wants a mount), and makes the mount that holds it private, so that
/// nothing of the container's travels to the host.
pub(super) fn root(path: &str, overlay: Option<&Overlay>, state: &mut State) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A finished tree needs some mount point until pivot_root. That of the plan may lie where the sandbox's user cannot go; over `/` everybody can, and
    // paths that start at this process's root still lead below it.
    let path = if state.root_tree.is_some() { "/" } else { path };
    let directory = open(path, flags, Mode::empty()).context(|| path.to_owned())?;
    make_holder_private(path)?;
    let tree = match overlay {
        Some(overlay) => match state.root_tree.take() {
            Some(tree) => tree,
            None => overlay_tree(overlay, true)?,
        },
        None => host::clone_tree(directory.as_fd(), true)
            .context(|| format!("copy the mount of {path}"))?,
    };
    let private = MountAttr {
        propagation: MS_PRIVATE,
        ..MountAttr::default()
    };
    host::set_attributes(tree.as_fd(), private, false)
        .context(|| "make the root private".into())?;
    host::attach(tree.as_fd(), directory.as_fd()).context(|| format!("bind {path}"))?;
    state.root = Some(Root::new(tree));
    Ok(())
}

/// Makes the root so far the directory `at` of another root: the one that a machine's hypervisor sees, and its own guests' files below it. `at` lies on a new
/// tmpfs, since the other root is shared by all machines.
pub(super) fn nest(path: &str, at: &str, state: &mut State) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let guarded = MountAttr {
        set: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        ..MountAttr::default()
    };
    host::set_attributes(state.root()?.fd(), guarded, true)
        .context(|| "attributes of the root".into())?;
    let directory = open(path, flags, Mode::empty()).context(|| path.to_owned())?;
    make_holder_private(path)?;
    let tree = host::clone_tree(directory.as_fd(), false).context(|| format!("copy {path}"))?;
    let private = MountAttr {
        set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        propagation: MS_PRIVATE,
        ..MountAttr::default()
    };
    host::set_attributes(tree.as_fd(), private, false).context(|| "make it private".into())?;
    host::attach(tree.as_fd(), directory.as_fd()).context(|| format!("bind {path}"))?;
    let outer = Root::new(tree);
    let (above, name) = at.rsplit_once('/').unwrap_or(("", at));
    let context = FsContext::open(c"tmpfs").context(|| "fsopen tmpfs".into())?;
    context
        .set_string(c"mode", c"0755")
        .context(|| "tmpfs mode".into())?;
    let share = context
        .mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
        .context(|| "tmpfs".into())?;
    let target = outer.locate(above).context(|| above.to_owned())?;
    host::attach(share.as_fd(), target.as_fd()).context(|| above.to_owned())?;
    rustix::fs::mkdirat(&share, name, Mode::from_raw_mode(0o755)).context(|| at.to_owned())?;
    let target = outer.locate(at).context(|| at.to_owned())?;
    // Moved, not copied: what stayed over the old root would keep `pivot_root` from detaching that.
    host::attach(state.root()?.fd(), target.as_fd()).context(|| at.to_owned())?;
    state.root = Some(outer);
    Ok(())
}

/// The root of a container that shares the caller's mount namespace: nothing but opened, since what is bound or made private here is the caller's.
pub(super) fn shared_root(path: &str, state: &mut State) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(path, flags, Mode::empty()).context(|| path.to_owned())?;
    state.root = Some(Root::new(directory));
    Ok(())
}

/// The overlay of the plan's `root`, made in stage 1: in a user namespace the mounts below `/` are locked to it, and overlayfs takes no such lower layer.
pub(crate) fn prepare_root(plan: &Plan) -> Result<Option<OwnedFd>> {
    let overlay = plan.ops.iter().find_map(|op| match op {
        Op::Root { overlay, .. } => overlay.as_ref(),
        _ => None,
    });
    overlay
        .map(|overlay| overlay_tree(overlay, false))
        .transpose()
}

/// A new overlay's detached mount. `user_attributes`: overlayfs keeps its marks in `user.*`, as it must without privilege.
fn overlay_tree(overlay: &Overlay, user_attributes: bool) -> Result<OwnedFd> {
    let context = FsContext::open(c"overlay").context(|| "fsopen overlay".into())?;
    let options = [
        (c"lowerdir", &overlay.lower),
        (c"upperdir", &overlay.upper),
        (c"workdir", &overlay.work),
    ];
    for (key, value) in options {
        context
            .set_string(key, &c_string(value)?)
            .context(|| format!("overlay {value}"))?;
    }
    if user_attributes {
        context
            .set_flag(c"userxattr")
            .context(|| "overlay userxattr".into())?;
    }
    context
        .mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
        .context(|| format!("overlay {}", context.log()))
}

/// The mount that `path` lies on: walks up until a directory is a mount point, as runc's rootfsParentMountPrivate.
fn make_holder_private(path: &str) -> Result<()> {
    let mut place = path;
    loop {
        match host::change(if place.is_empty() { "/" } else { place }, MS_PRIVATE) {
            Ok(()) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !place.is_empty() => {
                place = place.rsplit_once('/').map_or("", |(parent, _)| parent);
            }
            Err(error) => {
                return Err(crate::error::Error::io(
                    format!("make the mount of {path} private"),
                    &error,
                ));
            }
        }
    }
}

pub(super) fn pivot_root(mode: PivotMode, state: &mut State) -> Result<()> {
    let root = state.root()?;
    fchdir(root.fd()).context(|| "enter the root".into())?;
    match mode {
        PivotMode::Pivot => pivot(),
        PivotMode::Move => {
            host::move_to(root.fd(), c"/").context(|| "move the root".into())?;
            chroot(".").context(|| "chroot".into())
        }
        PivotMode::Chroot => chroot(".").context(|| "chroot".into()),
    }?;
    joined_root(state)
}

/// The root is `/`: after pivot_root, or because a running container's mount namespace was joined.
pub(super) fn joined_root(state: &mut State) -> Result<()> {
    chdir("/").context(|| "chdir /".into())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let new: OwnedFd = open("/", flags, Mode::empty()).context(|| "open /".into())?;
    state.root = Some(Root::new(new));
    Ok(())
}

fn pivot() -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = open("/", flags, Mode::empty()).context(|| "open the old root".into())?;
    host::pivot_root_here().context(|| "pivot_root".into())?;
    fchdir(&old).context(|| "enter the old root".into())?;
    // Slave: unmounting the old root must not travel back to the host (runc pivotRoot).
    host::change(".", MS_SLAVE | MS_REC).context(|| "make the old root a slave".into())?;
    host::detach(c".").context(|| "detach the old root".into())?;
    check_nothing_covers_the_root()
}

/// A mount that was stacked over the old root is what was detached then, and the old root is still there: behind `/..`.
fn check_nothing_covers_the_root() -> Result<()> {
    let place = |path: &str| stat(path).context(|| format!("stat of {path}"));
    let (root, above) = (place("/")?, place("/..")?);
    if (root.st_dev, root.st_ino) == (above.st_dev, above.st_ino) {
        Ok(())
    } else {
        Err(crate::error::Error::plain(
            "the old root is still mounted over the new one",
        ))
    }
}

pub(super) fn readonly_root(state: &State) -> Result<()> {
    let attributes = MountAttr {
        set: MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    host::set_attributes(state.root()?.fd(), attributes, false)
        .context(|| "make / read-only".into())
}
