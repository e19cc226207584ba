//! Where a jailed monitor is: its root, its groups, its network.
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use casemate_host::clone::{setns, unshare};
use rustix::fs::{CWD, Dev, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

use super::options::Options;
use super::{JailError, failed};

/// Device files of the jail. Those that the host has not are left out.
const DEVICES: &[&str] = &["kvm", "net/tun", "urandom", "null", "userfaultfd"];

/// An empty root but for the device files and a folder for sockets, owned by the monitor's user.
pub(super) fn make_root(root: &Path, options: &Options) -> Result<(), JailError> {
    let shown = root.display().to_string();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .map_err(failed(&shown))?;
    chown(root, Some(options.uid), Some(options.gid)).map_err(failed(&shown))?;
    // Those above stay root's, but have to be passed.
    for folder in ["dev", "dev/net", "run"] {
        let path = root.join(folder);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed(folder)(error));
            }
            _ => {}
        }
        chown(&path, Some(options.uid), Some(options.gid)).map_err(failed(folder))?;
    }
    for device in DEVICES {
        make_device(root, device, options)?;
    }
    Ok(())
}

fn make_device(root: &Path, name: &str, options: &Options) -> Result<(), JailError> {
    let Ok(host) = fs::metadata(Path::new("/dev").join(name)) else {
        return Ok(());
    };
    let path = root.join("dev").join(name);
    // Never one that an earlier inhabitant of the jail has put there.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(name)(error)),
        _ => {}
    }
    let number: Dev = makedev(
        rustix::fs::major(host.rdev()),
        rustix::fs::minor(host.rdev()),
    );
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &path, FileType::CharacterDevice, mode, number).map_err(failed(name))?;
    chown(&path, Some(options.uid), Some(options.gid)).map_err(failed(name))
}

/// Makes `root` the root of a mount namespace in which nothing else is mounted.
pub(super) fn change_root(root: &Path) -> Result<(), JailError> {
    unshare(libc::CLONE_NEWNS).map_err(failed("unshare"))?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).map_err(failed("private mounts"))?;
    mount_bind(root, root).map_err(failed("bind of the jail"))?;
    rustix::process::chdir(root).map_err(failed("chdir"))?;
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
