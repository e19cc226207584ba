//! From the kernel's first process to one that serves: file systems, modules, the stream to the host.

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use casemate_guest_protocol::{Root, Share};
use rustix::fs::{Gid, Mode, OFlags, Uid, chmod, chown, stat};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::error::{About, Error, Result};
use crate::files::Files;

/// Where the host's directories are.
pub(crate) const SHARE: &str = "/share";
/// A root that is an image, and what is written over it: casemate/isolation/microvm.py names both in the container's plan.
const IMAGE: &str = "/image";
const LAYER: &str = "/layer";
/// The kernel's modules that this guest needs, in the order they are loaded in: made by casemate/guest/initramfs.py.
const MODULES: &str = "/modules";
const LINK_PARAMETER: &str = "casemate.link=";

/// Leaves the kernel's first file system for an empty one: pivot_root(2), by which containers get their root, refuses to leave that. This executable stays
/// reachable by /proc/self/exe.
pub(crate) fn switch_root() -> Result<()> {
    let guarded = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", "/run", "tmpfs", guarded, Some(c"mode=755")).about("mount the root")?;
    rustix::process::chdir("/run").about("enter the root")?;
    rustix::mount::mount_move(".", "/").about("move the root")?;
    rustix::process::chroot(".").about("chroot")?;
    rustix::process::chdir("/").about("chdir")
}

/// What the agent itself and `init` need. A container mounts its own.
pub(crate) fn mount_system() -> Result<()> {
    let guarded = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let rows = [
        ("proc", "/proc", guarded, c""),
        ("sysfs", "/sys", guarded, c""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, c""),
        ("tmpfs", "/run", guarded, c"mode=755"),
        ("cgroup2", "/sys/fs/cgroup", guarded, c""),
    ];
    for (kind, place, flags, options) in rows {
        make_directory(place)?;
        match mount(kind, place, kind, flags, Some(options)) {
            Ok(()) => {}
            // CONFIG_DEVTMPFS_MOUNT
            Err(rustix::io::Errno::BUSY) => {}
            Err(errno) => return Err(errno).about(format!("mount {place}")),
        }
    }
    make_directory("/dev/pts")?;
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        MountFlags::NOSUID,
        Some(c"ptmxmode=666"),
    )
    .about("mount /dev/pts")
}

fn make_directory(path: &str) -> Result<()> {
    fs::create_dir_all(path).about(path)
}

/// Loads the modules of the kernel's first file system. The kernel's command line has parameters of theirs (`virtio_mmio.device=`), which it hands to
/// drivers that are built in only.
pub(crate) fn load_modules() -> Result<()> {
    let line = command_line()?;
    let Ok(entries) = fs::read_dir(MODULES) else {
        return Ok(());
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let file = fs::File::open(&path).about(path.display())?;
        match rustix::system::finit_module(&file, &parameters(&path, &line), 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno).about(format!("module {}", path.display())),
        }
    }
    Ok(())
}

fn parameters(module: &Path, line: &str) -> CString {
    // NN-NNN-name.ko
    let file = module.file_stem().unwrap_or_default().to_string_lossy();
    let prefix = format!("{}.", file.rsplit('-').next().unwrap_or_default());
    let words: Vec<&str> = line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix(&prefix))
        .collect();
    CString::new(words.join(" ")).unwrap_or_default()
}

fn command_line() -> Result<String> {
    let read = || fs::read_to_string("/proc/cmdline");
    if let Ok(line) = read() {
        return Ok(line);
    }
    let guarded = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", guarded, None).about("mount /proc")?;
    read().about("/proc/cmdline")
}

/// Ends the machine.
pub(crate) fn end_machine() {
    let how = match command_line() {
        // QEMU's microvm has nothing to be switched off by: it ends when it would restart.
        Ok(line) if line.contains("casemate.end=restart") => RebootCommand::Restart,
        _ => RebootCommand::PowerOff,
    };
    let _ = reboot(how);
}

/// A container's limit is kept by the killer of its cgroup, as on a host with more memory than the limit: the guest itself has little more, and its kernel's
/// guess would refuse large allocations, most of which nobody touches.
pub(crate) fn permit_overcommit() {
    // Not writable in a kernel that was built without: then it guesses.
    let _ = fs::write("/proc/sys/vm/overcommit_memory", "1");
}

/// From now on no module can be loaded, whoever becomes root in here.
pub(crate) fn forbid_modules() {
    // Not there in a kernel without modules.
    let _ = fs::write("/proc/sys/kernel/modules_disabled", "1");
}

/// Opens the stream to the host that the kernel's command line names.
pub(crate) fn open_link() -> Result<OwnedFd> {
    let line = command_line()?;
    let name = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(LINK_PARAMETER))
        .ok_or_else(|| Error::new(format!("no {LINK_PARAMETER} on the command line"), 0))?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = find_device(name);
    let link = rustix::fs::open(path.as_str(), flags, Mode::empty()).about(&path)?;
    if let Ok(mut settings) = tcgetattr(&link) {
        settings.make_raw();
        tcsetattr(&link, OptionalActions::Now, &settings).about(&path)?;
    }
    Ok(link)
}

/// The device of this name, or the first whose name begins with it: a port of virtio-serial is numbered by the order in which drivers found devices. It appears
/// some time after its driver was loaded; if it does not, the error is open(2)'s.
fn find_device(name: &str) -> String {
    let found = || {
        let mut names: Vec<String> = fs::read_dir("/dev")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|found| found.starts_with(name))
            .collect();
        names.sort();
        names.first().map(|found| format!("/dev/{found}"))
    };
    wait_for(found).unwrap_or_else(|| format!("/dev/{name}"))
}

/// What `look` finds, soon: ten seconds are many, and nothing else is to be done meanwhile.
fn wait_for<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    for _ in 0..1000 {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    None
}

/// Mounts the host's directories.
pub(crate) fn mount_share(share: Share) -> Result<Option<Files>> {
    make_directory(SHARE)?;
    if share == Share::Protocol {
        return Files::mount(SHARE).map(Some);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    // The device of a machine that was restored is plugged in about now.
    let result = wait_for(|| match mount("share", SHARE, "virtiofs", flags, None) {
        Err(rustix::io::Errno::INVAL) => None,
        result => Some(result),
    });
    result
        .unwrap_or(Err(rustix::io::Errno::INVAL))
        .about("mount the host's directories")?;
    Ok(None)
}

/// Mounts an image and a layer over it, which the container's plan makes one root of.
pub(crate) fn mount_root(root: &Root) -> Result<()> {
    make_directory(IMAGE)?;
    make_directory(LAYER)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let (image, data) = match root.image.strip_prefix("mapped:") {
        // "always": a kernel that cannot is no kernel to go on with, page by page in the guest's own memory.
        Some(device) => (find_device(device), Some(c"dax=always")),
        None => (find_disk(&root.image), None),
    };
    mount(
        image.as_str(),
        IMAGE,
        "erofs",
        flags | MountFlags::RDONLY,
        data,
    )
    .about(format!("mount the image of the root ({image})"))?;
    match &root.disk {
        Some(disk) => mount(find_disk(disk).as_str(), LAYER, "ext4", flags, None),
        None => mount("layer", LAYER, "tmpfs", flags, Some(c"mode=755")),
    }
    .about("mount the root's writable layer")?;
    let (upper, work) = (format!("{LAYER}/upper"), format!("{LAYER}/work"));
    make_directory(&upper)?;
    make_directory(&work)?;
    // An overlay's root has the attributes of the upper directory.
    let like = stat(IMAGE).about(IMAGE)?;
    let (owner, group) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    chown(upper.as_str(), Some(owner), Some(group)).about(&upper)?;
    chmod(upper.as_str(), Mode::from_raw_mode(like.st_mode)).about(&upper)
}

/// The device of a disk. It appears some time after its driver was loaded, or a machine that was restored got it.
fn find_disk(name: &str) -> String {
    let Some(serial) = name.strip_prefix("serial:") else {
        return find_device(name);
    };
    let has_serial = |disk: &str| {
        fs::read_to_string(format!("/sys/block/{disk}/serial"))
            .is_ok_and(|found| found.trim_end() == serial)
    };
    let found = || {
        let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        disks
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .find(|disk| has_serial(disk))
            .map(|disk| format!("/dev/{disk}"))
            .filter(|path| Path::new(path).exists())
    };
    wait_for(found).unwrap_or_else(|| name.to_owned())
}

/// The host's time, and entropy that is this guest's own: a restored copy has the same state as its sisters.
pub(crate) fn configure(time_ns: u64, entropy: &[u8]) -> Result<()> {
    let second = 1_000_000_000;
    let time = Timespec {
        tv_sec: i64::try_from(time_ns / second).unwrap_or(0),
        tv_nsec: i64::try_from(time_ns % second).unwrap_or(0),
    };
    clock_settime(ClockId::Realtime, time).about("set the clock")?;
    casemate_host::entropy::reseed(entropy).about("/dev/urandom")
}

/// Says on the console why the machine ends.
pub(crate) fn complain(message: &str) {
    if let Ok(mut console) = fs::OpenOptions::new().write(true).open("/dev/console") {
        // Nobody may be listening.
        let _ = writeln!(console, "casemate: {message}");
    }
}
