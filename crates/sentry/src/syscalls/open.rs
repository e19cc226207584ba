//! open(2) and its kin.

use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::arguments::Flags;
use super::{Cx, Found, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{MAY_READ, MAY_WRITE};
use crate::memory::{Address, word};
use crate::vfs::attributes::Attributes;
use crate::vfs::cache::Spot;
use crate::vfs::confined::{BENEATH, CACHED, Confined, IN_ROOT};
use crate::vfs::description::{Description, O_ACCMODE};
use crate::vfs::device::Device;
use crate::vfs::file::File;
use crate::vfs::host::HostFile;
use crate::vfs::place::Place;
use crate::vfs::walk::Parent;

/// Flags that reach the host's open; the others are the sentry's own business.
const PASSED: i32 = O_ACCMODE
    | libc::O_APPEND
    | libc::O_DIRECT
    | libc::O_DSYNC
    | libc::O_SYNC
    | libc::O_NOATIME
    | libc::O_DIRECTORY;
/// Flags that stay with the description. fcntl(2) F_GETFL: not the creation flags.
const KEPT: u32 =
    !(libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY | libc::O_TRUNC | libc::O_CLOEXEC)
        .cast_unsigned();
/// The kernel's own bit for files over 2 GiB, always set on 64 bits; libc defines it as 0.
const LARGEFILE: u32 = 0x8000;
/// O_TMPFILE without O_DIRECTORY.
const TMPFILE_BIT: i32 = 0x40_0000;

/// All flags that Linux knows. VALID_OPEN_FLAGS.
const VALID: u32 = 0x7F_FFC3;

pub fn open(cx: &mut Cx<'_>, path: Address, flags: Flags, mode: u32) -> SysResult {
    openat(cx, libc::AT_FDCWD, path, flags, mode)
}

pub fn creat(cx: &mut Cx<'_>, path: Address, mode: u32) -> SysResult {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    openat(cx, libc::AT_FDCWD, path, Flags(flags.cast_unsigned()), mode)
}

pub fn openat(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    flags: Flags,
    mode: u32,
) -> SysResult {
    let path = cx.memory().read_path(path)?;
    open_path(cx, directory, &path, flags, mode)
}

pub fn openat2(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    how: Address,
    size: usize,
) -> SysResult {
    const MIN: usize = 24;
    const KNOWN: u64 = 0x3F;
    if size < MIN {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let bytes = cx.memory().read_vec(how, size)?;
    if bytes[MIN..].iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let (flags, mode, resolve) = (word(&bytes, 0), word(&bytes, 8), word(&bytes, 16));
    let is_scoped_twice = resolve & BENEATH != 0 && resolve & IN_ROOT != 0;
    if resolve & !KNOWN != 0 || is_scoped_twice || flags & !u64::from(VALID) != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = Flags(flags as u32);
    let creates = flags.has(libc::O_CREAT) || flags.has(TMPFILE_BIT);
    if mode & !0o7777 != 0 || (!creates && mode != 0) {
        return Err(Errno::EINVAL);
    }
    let with_path =
        (libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC).cast_unsigned();
    if flags.has(libc::O_PATH) && flags.0 & !with_path != 0 {
        return Err(Errno::EINVAL);
    }
    if resolve & CACHED != 0 && (creates || flags.has(libc::O_TRUNC)) {
        return Err(Errno::EAGAIN);
    }
    let path = cx.memory().read_path(path)?;
    if resolve & !CACHED != 0 {
        return open_confined(cx, directory, &path, flags, mode as u32, resolve);
    }
    open_path(cx, directory, &path, flags, mode as u32)
}

/// As `open_path`, by a walk that `resolve` confines.
fn open_confined(
    cx: &mut Cx<'_>,
    directory: i32,
    path: &[u8],
    flags: Flags,
    mode: u32,
    resolve: u64,
) -> SysResult {
    check_flags(flags)?;
    let scoped = resolve & (BENEATH | IN_ROOT) != 0;
    let start = cx.start(directory, if scoped { b"" } else { path })?;
    if !start.attributes(cx.kernel)?.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let context = cx.fs()?;
    let creates = flags.has(libc::O_CREAT) && !flags.has(libc::O_PATH);
    let exclusive = creates && flags.has(libc::O_EXCL);
    let follow = !flags.has(libc::O_NOFOLLOW) && !exclusive;
    let walker = cx.walker(&context)?;
    let confined = Confined {
        walker: &walker,
        start: &start,
        flags: resolve,
    };
    match confined.resolve(path, follow) {
        Ok(_) if exclusive => Err(Errno::EEXIST),
        Ok(place) if flags.has(TMPFILE_BIT) => open_unnamed_in(cx, &place, flags, mode),
        Ok(place) if creates && place.attributes(cx.kernel)?.is_directory() => Err(Errno::EISDIR),
        Ok(place) => open_place(cx, place, flags),
        Err(Errno::ENOENT) if creates => {
            // A dangling link at the end is not created through: its target's directory would need the same walk.
            let cut = path.iter().rposition(|byte| *byte == b'/');
            let (parent, name) = path.split_at(cut.map_or(0, |slash| slash + 1));
            let parent = if parent.is_empty() { b"." } else { parent };
            let parent = Parent {
                directory: confined.resolve(parent, true)?,
                name: name.to_vec(),
                wants_directory: false,
            };
            walker.may_search(&parent.directory)?;
            if parent.name.is_empty() {
                return Err(Errno::EISDIR);
            }
            if confined.step(&parent.directory, &parent.name).is_ok() {
                return Err(Errno::ELOOP);
            }
            create(cx, &parent, flags, mode)
        }
        Err(error) => Err(error),
    }
}

/// Linux: build_open_flags().
fn check_flags(flags: Flags) -> Result<()> {
    if flags.has(libc::O_PATH) {
        return Ok(());
    }
    if flags.has(TMPFILE_BIT) {
        let writes = flags.has(libc::O_WRONLY) || flags.has(libc::O_RDWR);
        if !flags.has(libc::O_DIRECTORY) || !writes || flags.has(libc::O_CREAT) {
            return Err(Errno::EINVAL);
        }
    }
    // Linux 6.3: a directory is not to be made by open.
    if flags.has(libc::O_CREAT) && flags.has(libc::O_DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

pub fn open_path(
    cx: &mut Cx<'_>,
    directory: i32,
    path: &[u8],
    flags: Flags,
    mode: u32,
) -> SysResult {
    check_flags(flags)?;
    if flags.has(TMPFILE_BIT) && !flags.has(libc::O_PATH) {
        let place = cx.resolve(directory, path, true)?;
        return open_unnamed_in(cx, &place, flags, mode);
    }
    if flags.has(libc::O_CREAT) && !flags.has(libc::O_PATH) {
        return open_or_create(cx, directory, path, flags, mode);
    }
    let follow = !flags.has(libc::O_NOFOLLOW);
    match cx.find(directory, path, follow)? {
        Found::Spot(spot) => open_spot(cx, &spot, flags),
        Found::Place(place) => open_place(cx, place, flags),
    }
}

fn open_or_create(
    cx: &mut Cx<'_>,
    directory: i32,
    path: &[u8],
    flags: Flags,
    mode: u32,
) -> SysResult {
    let follow = !flags.has(libc::O_NOFOLLOW) && !flags.has(libc::O_EXCL);
    if path.ends_with(b"/") {
        // Linux: open_last_lookups(): a name with a slash behind it is not created, whatever is there.
        let parent = cx.resolve_parent(directory, path)?;
        if !super::directories::is_dot(&parent.name) {
            return Err(Errno::EISDIR);
        }
    }
    match cx.find(directory, path, follow) {
        Ok(_) if flags.has(libc::O_EXCL) => return Err(Errno::EEXIST),
        Ok(Found::Spot(spot)) => {
            if cx.kernel.files.permissions(&spot)?.is_directory() {
                return Err(Errno::EISDIR);
            }
            return open_spot(cx, &spot, flags);
        }
        Ok(Found::Place(place)) => {
            if place.attributes(cx.kernel)?.is_directory() {
                return Err(Errno::EISDIR);
            }
            return open_place(cx, place, flags);
        }
        Err(Errno::ENOENT) => {}
        Err(error) => return Err(error),
    }
    let (start, path) = last_link(cx, directory, path, follow)?;
    let context = cx.fs()?;
    let parent = cx.walker(&context)?.resolve_parent(&start, &path)?;
    if parent.wants_directory {
        return Err(Errno::EISDIR);
    }
    create(cx, &parent, flags, mode)
}

/// A dangling link at the end names the file to be created: where that is. open(2), O_CREAT.
fn last_link(cx: &Cx<'_>, directory: i32, path: &[u8], follow: bool) -> Result<(Place, Vec<u8>)> {
    let mut start = cx.start(directory, path)?;
    let mut path = path.to_vec();
    let context = cx.fs()?;
    for _ in 0..40 {
        let walker = cx.walker(&context)?;
        let parent = walker.resolve_parent(&start, &path)?;
        if !follow || walker.look(&parent.directory, &parent.name).is_err() {
            return Ok((start, path));
        }
        let link = walker.step(&parent.directory, &parent.name)?;
        path = link.read_link(cx.kernel, cx.tid())?;
        start = parent.directory;
    }
    Err(Errno::ELOOP)
}

fn create(cx: &mut Cx<'_>, parent: &Parent, flags: Flags, mode: u32) -> SysResult {
    let task = cx.task()?;
    let mode = mode & 0o7777 & !task.fs.lock().umask;
    may_write_directory(cx, &parent.directory)?;
    super::ownership::refuse_set_id(cx, mode)?;
    let host = parent.directory.host().map_err(|_| Errno::EACCES)?;
    let bits = passed(flags) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = crate::host::openat(&**host, &parent.name, bits, Mode::from_raw_mode(mode));
    cx.kernel
        .files
        .entry_changed(&parent.directory, &parent.name);
    let fd = match made {
        // Somebody else made it meanwhile: then it is opened.
        Err(rustix::io::Errno::EXIST) if !flags.has(libc::O_EXCL) => {
            let context = cx.fs()?;
            let place = cx.walker(&context)?.step(&parent.directory, &parent.name)?;
            return open_place(cx, place, flags);
        }
        other => other?,
    };
    own_in(cx, &fd, &parent.directory)?;
    keep_set_id(cx, &fd, mode)?;
    let file = HostFile::watched(&cx.kernel.files, fd, bits)?;
    finish(cx, Arc::new(file), flags)
}

/// What is created belongs to the caller, where that is not who the host takes the sentry for; its group is the directory's if that has the set-group-ID
/// bit (inode(7)). A host that cannot give files away (a user namespace of one id) leaves them as they are.
pub fn own_in(cx: &Cx<'_>, fd: &impl std::os::fd::AsFd, directory: &Place) -> Result<()> {
    let who = &cx.task()?.credentials;
    if who.fsuid == cx.kernel.host_uid && who.fsgid == cx.kernel.host_gid {
        return Ok(());
    }
    let parent = directory.attributes(cx.kernel)?;
    let inherits = parent.mode & libc::S_ISGID != 0;
    let gid = if inherits { parent.gid } else { who.fsgid };
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(who.fsuid),
        rustix::fs::Gid::from_raw(gid),
    );
    let flags = rustix::fs::AtFlags::EMPTY_PATH | rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::chownat(fd, "", Some(uid), Some(gid), flags) {
        Ok(()) | Err(rustix::io::Errno::PERM | rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Giving a file away took its set-id bits, as chown(2) does; a new one is to have them, but not a group's that its maker is no member of (inode(7)).
fn keep_set_id(cx: &Cx<'_>, fd: &std::os::fd::OwnedFd, mode: u32) -> Result<()> {
    let who = &cx.task()?.credentials;
    let was_given = who.fsuid != cx.kernel.host_uid || who.fsgid != cx.kernel.host_gid;
    if !was_given || mode & (libc::S_ISUID | libc::S_ISGID) == 0 {
        return Ok(());
    }
    let raw = crate::host::fstat(fd)?;
    let may_set_group =
        who.in_group(raw.stx_gid) || who.has(crate::kernel::credentials::CAP_FSETID);
    let mode = if may_set_group {
        mode
    } else {
        mode & !libc::S_ISGID
    };
    // The host refuses where it did not give the file away either; then the bits are still there.
    let link = format!("self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
    let mode = Mode::from_raw_mode(mode);
    let _ = rustix::fs::chmodat(
        &cx.kernel.host_proc,
        link,
        mode,
        rustix::fs::AtFlags::empty(),
    );
    Ok(())
}

pub fn may_write_directory(cx: &Cx<'_>, directory: &Place) -> Result<()> {
    let attributes = directory.permissions(cx.kernel)?;
    let who = &cx.task()?.credentials;
    let wanted = MAY_WRITE | crate::kernel::credentials::MAY_EXEC;
    if who.may(wanted, attributes.mode, attributes.uid, attributes.gid) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

fn open_unnamed_in(cx: &mut Cx<'_>, place: &Place, flags: Flags, mode: u32) -> SysResult {
    if !place.attributes(cx.kernel)?.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    may_write_directory(cx, place)?;
    super::ownership::refuse_set_id(cx, mode)?;
    let mode = mode & 0o7777 & !cx.task()?.fs.lock().umask;
    let exclusive = if flags.has(libc::O_EXCL) {
        OFlags::EXCL
    } else {
        OFlags::empty()
    };
    let bits = (passed(flags) & !OFlags::DIRECTORY) | OFlags::TMPFILE | exclusive | OFlags::CLOEXEC;
    let fd = crate::host::openat(&**place.host()?, ".", bits, Mode::from_raw_mode(mode))?;
    own_in(cx, &fd, place)?;
    let file = HostFile::watched(&cx.kernel.files, fd, bits)?;
    finish(cx, Arc::new(file), flags)
}

pub fn passed(flags: Flags) -> OFlags {
    OFlags::from_bits_retain(flags.0 & PASSED.cast_unsigned())
}

/// Opens what a walk through the remembered tree arrived at.
fn open_spot(cx: &mut Cx<'_>, spot: &Spot<'_>, flags: Flags) -> SysResult {
    let attributes = cx.kernel.files.permissions(spot)?;
    let is_directory = attributes.is_directory();
    if flags.has(libc::O_DIRECTORY) && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    if !flags.has(libc::O_PATH) && (is_directory || attributes.kind() == libc::S_IFREG) {
        check_access(cx, &attributes, flags)?;
        let truncate = if flags.has(libc::O_TRUNC) {
            OFlags::TRUNC
        } else {
            OFlags::empty()
        };
        let files = cx.kernel.files.clone();
        if let Some(opened) = files.open(spot, passed(flags) | truncate)? {
            return finish(cx, Arc::new(HostFile::opened(opened)), flags);
        }
    }
    let place = cx.kernel.files.place(spot)?;
    open_place(cx, place, flags)
}

/// Opens what a walk arrived at.
pub fn open_place(cx: &mut Cx<'_>, place: Place, flags: Flags) -> SysResult {
    let attributes = place.attributes(cx.kernel)?;
    if flags.has(libc::O_DIRECTORY) && !attributes.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if flags.has(libc::O_PATH) {
        return finish(
            cx,
            Arc::new(crate::vfs::by_path::PathFile::new(place, attributes)),
            flags,
        );
    }
    if attributes.is_symlink() {
        return Err(Errno::ELOOP);
    }
    check_access(cx, &attributes, flags)?;
    let file = match &place {
        Place::Proc(node) => return node.open(cx, flags),
        Place::Pts(node) => node.open(cx, flags)?,
        Place::Host(fd) => match attributes.kind() {
            libc::S_IFREG | libc::S_IFDIR => {
                let truncate = if flags.has(libc::O_TRUNC) {
                    OFlags::TRUNC
                } else {
                    OFlags::empty()
                };
                let asked = passed(flags) | truncate;
                let opened = cx.kernel.reopen(fd, asked)?;
                if attributes.is_directory() {
                    Arc::new(HostFile::directory(opened))
                } else {
                    Arc::new(HostFile::watched(&cx.kernel.files, opened, asked)?)
                }
            }
            libc::S_IFIFO => return super::descriptors::open_fifo(cx, &place, &attributes, flags),
            libc::S_IFCHR => open_device(cx, &place, attributes, flags)?,
            _ => return Err(Errno::ENXIO),
        },
    };
    finish(cx, file, flags)
}

fn check_access(cx: &Cx<'_>, attributes: &Attributes, flags: Flags) -> Result<()> {
    let access = flags.0 & O_ACCMODE.cast_unsigned();
    let mut wanted = match access.cast_signed() {
        libc::O_RDONLY => MAY_READ,
        libc::O_WRONLY => MAY_WRITE,
        _ => MAY_READ | MAY_WRITE,
    };
    if flags.has(libc::O_TRUNC) {
        wanted |= MAY_WRITE;
    }
    if attributes.is_directory() && wanted & MAY_WRITE != 0 {
        return Err(Errno::EISDIR);
    }
    let who = &cx.task()?.credentials;
    if !who.may(wanted, attributes.mode, attributes.uid, attributes.gid) {
        return Err(Errno::EACCES);
    }
    let is_file = attributes.kind() == libc::S_IFREG;
    if is_file && wanted & MAY_WRITE != 0 && cx.kernel.is_executed(attributes) {
        return Err(Errno::ETXTBSY);
    }
    if flags.has(libc::O_NOATIME) && !who.owns(attributes.uid) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// The devices that a sandbox has, by number: no node of the host's is ever opened.
fn open_device(
    cx: &mut Cx<'_>,
    place: &Place,
    attributes: Attributes,
    flags: Flags,
) -> Result<Arc<dyn File>> {
    if let Some(device) = Device::of(attributes, place.clone()) {
        return Ok(Arc::new(device));
    }
    crate::vfs::tty::devpts::open_node(cx, place, attributes, flags).unwrap_or(Err(Errno::ENXIO))
}

/// Makes a description of the file, and a descriptor of that.
pub fn finish(cx: &mut Cx<'_>, file: Arc<dyn File>, flags: Flags) -> SysResult {
    let kept = if flags.has(libc::O_PATH) {
        flags.0 & (libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW).cast_unsigned()
    } else {
        (flags.0 & KEPT) | LARGEFILE
    };
    let description = Description::new(file, kept);
    value(cx.add_description(description, flags.has(libc::O_CLOEXEC))?)
}
