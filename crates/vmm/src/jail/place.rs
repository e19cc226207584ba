//! Where a jailed monitor is: its root, its groups, its network.
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use casemate_host::clone::{setns, unshare};
use casemate_host::mount::{
    MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MountAttr, attach,
    clone_tree, set_attributes,
};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, makedev, mkdirat, mknodat,
    openat2, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

use super::options::{Bind, Options};
use super::{JailError, failed};

/// Device files of the jail. Those that the host has not are left out.
const DEVICES: &[&str] = &["kvm", "net/tun", "urandom", "null", "userfaultfd"];

/// An empty root but for the device files and a folder for sockets, owned by the monitor's user.
///
/// An earlier inhabitant of the same jail owned these folders, and may have left links in their places: nothing here follows one.
pub(super) fn make_root(root: &Path, options: &Options) -> Result<(), JailError> {
    let shown = root.display().to_string();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .map_err(failed(&shown))?;
    // Those above stay root's, but have to be passed.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).map_err(failed(&shown))?;
    own(&root, options).map_err(failed(&shown))?;
    for folder in ["dev", "dev/net", "run"] {
        let folder = make_folder(root.as_fd(), folder)?;
        own(&folder, options).map_err(failed("fchown"))?;
    }
    for device in DEVICES {
        make_device(root.as_fd(), device, options)?;
    }
    Ok(())
}

fn own(fd: &OwnedFd, options: &Options) -> rustix::io::Result<()> {
    let (user, group) = owner(options);
    rustix::fs::fchown(fd, user, group)
}

fn owner(options: &Options) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(options.uid)),
        Some(Gid::from_raw(options.gid)),
    )
}

/// A folder of the jail, without a link on the way to it.
fn open_folder(at: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, JailError> {
    open_plainly(at, name, OFlags::DIRECTORY, Mode::empty()).map_err(failed(name))
}

fn open_plainly(
    at: BorrowedFd<'_>,
    name: &str,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    openat2(at, name, flags | OFlags::CLOEXEC, mode, resolve)
}

fn make_folder(root: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, JailError> {
    let (parent, last) = parent(root, name)?;
    match mkdirat(&parent, last, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => open_folder(parent.as_fd(), last),
        Err(error) => Err(failed(name)(error)),
    }
}

/// The folder that `name` lies in, which is there, and its last part.
fn parent<'a>(root: BorrowedFd<'_>, name: &'a str) -> Result<(OwnedFd, &'a str), JailError> {
    let (folder, last) = name.rsplit_once('/').unwrap_or((".", name));
    Ok((open_folder(root, folder)?, last))
}

fn make_device(root: BorrowedFd<'_>, name: &str, options: &Options) -> Result<(), JailError> {
    let Ok(host) = fs::metadata(Path::new("/dev").join(name)) else {
        return Ok(());
    };
    let inside = format!("dev/{name}");
    let (folder, last) = parent(root, &inside)?;
    // Never one that an earlier inhabitant of the jail has put there.
    match unlinkat(&folder, last, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(failed(name)(error)),
    }
    let (major, minor) = (
        rustix::fs::major(host.rdev()),
        rustix::fs::minor(host.rdev()),
    );
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(
        &folder,
        last,
        FileType::CharacterDevice,
        mode,
        makedev(major, minor),
    )
    .map_err(failed(name))?;
    let (user, group) = owner(options);
    chownat(&folder, last, user, group, AtFlags::SYMLINK_NOFOLLOW).map_err(failed(name))
}

/// Shows a file or folder of the host at its place in the jail, for as long as the monitor lives: in its mount namespace, and nowhere else.
pub(super) fn bind(root: BorrowedFd<'_>, bind: &Bind) -> Result<(), JailError> {
    let shown = bind.source.display().to_string();
    let source = rustix::fs::open(&bind.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed(&shown))?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&source).map_err(failed(&shown))?.st_mode);
    let target = make_place(root, &bind.target, kind == FileType::Directory)?;
    let tree = clone_tree(source.as_fd(), false).map_err(failed(&shown))?;
    let never = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let attributes = MountAttr {
        set: never
            | if bind.is_writable {
                0
            } else {
                MOUNT_ATTR_RDONLY
            },
        ..MountAttr::default()
    };
    set_attributes(tree.as_fd(), attributes, false).map_err(failed(&shown))?;
    attach(tree.as_fd(), target.as_fd()).map_err(failed(&shown))
}

/// What is mounted over: an empty file or folder, with the folders on the way to it.
fn make_place(root: BorrowedFd<'_>, target: &str, is_folder: bool) -> Result<OwnedFd, JailError> {
    let mut made = 0;
    while let Some(next) = target[made..].find('/') {
        make_folder(root, &target[..made + next])?;
        made += next + 1;
    }
    if is_folder {
        return make_folder(root, target);
    }
    let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    open_plainly(root, target, flags, Mode::RUSR | Mode::WUSR).map_err(failed(target))
}

/// Namespaces of its own for mounts, System V's objects, host name and cgroups.
pub(super) fn leave_namespaces() -> Result<(), JailError> {
    let kinds = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    unshare(kinds).map_err(failed("unshare"))?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).map_err(failed("private mounts"))
}

/// Makes the jail the root of the mount namespace, with nothing else mounted but what `binds` show.
pub(super) fn change_root(root: &Path, binds: &[Bind]) -> Result<(), JailError> {
    mount_bind(root, root).map_err(failed("bind of the jail"))?;
    rustix::process::chdir(root).map_err(failed("chdir"))?;
    // Opened anew: below the descriptor of before lies what the mount covers.
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let here = rustix::fs::open(".", flags, Mode::empty()).map_err(failed("."))?;
    binds.iter().try_for_each(|one| bind(here.as_fd(), one))?;
    // The old root lies over the new one, and is taken off (pivot_root(2), "pivot_root(".", ".")").
    rustix::process::pivot_root(".", ".").map_err(failed("pivot_root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("umount"))?;
    rustix::process::chdir("/").map_err(failed("chdir"))
}

pub(super) fn join_network(options: &Options) -> Result<(), JailError> {
    let Some(path) = &options.netns else {
        return Ok(());
    };
    let shown = path.display().to_string();
    let file = fs::File::open(path).map_err(failed(&shown))?;
    setns(file.as_fd(), libc::CLONE_NEWNET).map_err(failed(&shown))
}

/// Each file's value goes into a group of this monitor's own below the parent's, one per controller in version 1.
pub(super) fn join_cgroups(options: &Options) -> Result<(), JailError> {
    let mut joined: Vec<PathBuf> = Vec::new();
    for (file, value) in &options.cgroups {
        let base = if options.is_cgroup2 {
            PathBuf::from("/sys/fs/cgroup")
        } else {
            let controller = file.split('.').next().unwrap_or_default();
            Path::new("/sys/fs/cgroup").join(controller)
        };
        let group = base.join(&options.parent_cgroup).join(&options.id);
        fs::create_dir_all(&group).map_err(failed(group.display().to_string()))?;
        fs::write(group.join(file), value).map_err(failed(file))?;
        if !joined.contains(&group) {
            joined.push(group);
        }
    }
    for group in joined {
        let own = std::process::id().to_string();
        fs::write(group.join("cgroup.procs"), own).map_err(failed("cgroup.procs"))?;
    }
    Ok(())
}

pub(super) fn set_limits(options: &Options) -> Result<(), JailError> {
    for (resource, value) in &options.limits {
        casemate_host::process::set_rlimit(*resource, *value, *value)
            .map_err(failed("setrlimit"))?;
    }
    Ok(())
}

/// A session of its own, and /dev/null of the jail for the standard streams.
pub(super) fn leave_terminal() -> Result<(), JailError> {
    // A process that leads a group has to become another one first; one that does not is fine as it is.
    let _ = rustix::process::setsid();
    let null = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(failed("/dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(failed("dup2"))?;
    rustix::stdio::dup2_stdout(&null).map_err(failed("dup2"))?;
    rustix::stdio::dup2_stderr(&null).map_err(failed("dup2"))
}
