//! The tree: listing, entering, making, naming, removing.

use rustix::fs::{AtFlags, Mode, RenameFlags};

use super::arguments::Flags;
use super::open::{may_write_directory, own_in};
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{MAY_EXEC, MAY_READ, MAY_WRITE};
use crate::memory::Address;
use crate::vfs::attributes::Attributes;
use crate::vfs::file::Entry;
use crate::vfs::place::Place;
use crate::vfs::walk::Parent;

/// Bytes of `struct linux_dirent64` before the name.
const DIRENT: usize = 19;

pub fn getdents64(cx: &mut Cx<'_>, fd: i32, buf: Address, size: usize) -> SysResult {
    let description = cx.open_description(fd)?;
    if let Some(packed) = description.file.packed_entries(&description, size) {
        let packed = packed?;
        cx.memory().write(buf, &packed)?;
        return value(packed.len());
    }
    list(cx, fd, buf, size, |entry, bytes, len| {
        bytes.extend(entry.ino.to_le_bytes());
        bytes.extend(entry.next.to_le_bytes());
        bytes.extend((len as u16).to_le_bytes());
        bytes.push(entry.kind);
        bytes.extend_from_slice(&entry.name);
    })
}

/// The older layout, of the same length: the kind is its last byte.
pub fn getdents(cx: &mut Cx<'_>, fd: i32, buf: Address, size: u32) -> SysResult {
    list(cx, fd, buf, size as usize, |entry, bytes, len| {
        let last = bytes.len() + len - 1;
        bytes.extend(entry.ino.to_le_bytes());
        bytes.extend(entry.next.to_le_bytes());
        bytes.extend((len as u16).to_le_bytes());
        bytes.extend_from_slice(&entry.name);
        bytes.resize(last, 0);
        bytes.push(entry.kind);
    })
}

fn list(
    cx: &mut Cx<'_>,
    fd: i32,
    buf: Address,
    size: usize,
    put: impl Fn(&Entry, &mut Vec<u8>, usize),
) -> SysResult {
    let description = cx.open_description(fd)?;
    let before = *description.position();
    let file = description.file.clone();
    let entries = file.entries(cx, &description, size)?;
    let mut bytes = Vec::new();
    let mut written = 0;
    for entry in &entries {
        let len = (DIRENT + entry.name.len() + 1 + 7) & !7;
        if bytes.len() + len > size {
            break;
        }
        let end = bytes.len() + len;
        put(entry, &mut bytes, len);
        bytes.resize(end, 0);
        written += 1;
    }
    if written < entries.len() {
        // What did not fit is for the next call.
        let position = match written {
            0 => before.cast_signed(),
            _ => entries[written - 1].next,
        };
        file.seek(&description, position, libc::SEEK_SET)?;
    }
    if bytes.is_empty() && !entries.is_empty() {
        return Err(Errno::EINVAL);
    }
    cx.memory().write(buf, &bytes)?;
    value(bytes.len())
}

pub fn getcwd(cx: &mut Cx<'_>, buf: Address, size: usize) -> SysResult {
    let context = cx.fs()?;
    let path = context.cwd.path(cx.kernel)?;
    if path.ends_with(b" (deleted)") {
        return Err(Errno::ENOENT);
    }
    let root = context.root.path(cx.kernel)?;
    let mut path = below(&root, &path);
    path.push(0);
    if path.len() > size {
        return Err(Errno::ERANGE);
    }
    cx.memory().write(buf, &path)?;
    value(path.len())
}

/// The path as seen from a root; outside of it as Linux marks it.
fn below(root: &[u8], path: &[u8]) -> Vec<u8> {
    if root == b"/" {
        return path.to_vec();
    }
    match path.strip_prefix(root) {
        Some(b"") => b"/".to_vec(),
        Some(rest) if rest.starts_with(b"/") => rest.to_vec(),
        _ => [b"(unreachable)", path].concat(),
    }
}

pub fn chdir(cx: &mut Cx<'_>, path: Address) -> SysResult {
    let path = cx.memory().read_path(path)?;
    let place = cx.resolve(libc::AT_FDCWD, &path, true)?;
    enter(cx, place)
}

pub fn fchdir(cx: &mut Cx<'_>, fd: i32) -> SysResult {
    let place = cx
        .description(fd)?
        .file
        .place()
        .cloned()
        .ok_or(Errno::ENOTDIR)?;
    enter(cx, place)
}

fn enter(cx: &mut Cx<'_>, place: Place) -> SysResult {
    let attributes = place.attributes(cx.kernel)?;
    if !attributes.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let task = cx.task()?;
    if !task
        .credentials
        .may(MAY_EXEC, attributes.mode, attributes.uid, attributes.gid)
    {
        return Err(Errno::EACCES);
    }
    task.fs.lock().cwd = place;
    cx.kernel.files.answers.directory_changes();
    DONE
}

/// The directory to change, and the name in it; refused where the caller may not write.
pub fn target(cx: &Cx<'_>, directory: i32, path: Address) -> Result<Parent> {
    let path = cx.memory().read_path(path)?;
    cx.resolve_parent(directory, &path)
}

pub fn writable(cx: &Cx<'_>, parent: &Parent) -> Result<()> {
    may_write_directory(cx, &parent.directory)?;
    parent.directory.host().map(drop)
}

pub fn is_dot(name: &[u8]) -> bool {
    name.is_empty() || name == b"." || name == b".."
}

pub fn mkdir(cx: &mut Cx<'_>, path: Address, mode: u32) -> SysResult {
    mkdirat(cx, libc::AT_FDCWD, path, mode)
}

pub fn mkdirat(cx: &mut Cx<'_>, directory: i32, path: Address, mode: u32) -> SysResult {
    let parent = target(cx, directory, path)?;
    if is_dot(&parent.name) || exists(cx, &parent)? {
        return Err(Errno::EEXIST);
    }
    writable(cx, &parent)?;
    let mode = mode & 0o1777 & !cx.fs()?.umask;
    let host = parent.directory.host()?;
    let made = rustix::fs::mkdirat(&**host, &parent.name, Mode::from_raw_mode(mode));
    entry_changed(cx, &parent);
    made?;
    own_new(cx, &parent)
}

/// Tells the cache that the name means something else now.
pub fn entry_changed(cx: &Cx<'_>, parent: &Parent) {
    cx.kernel
        .files
        .entry_changed(&parent.directory, &parent.name);
}

pub fn exists(cx: &Cx<'_>, parent: &Parent) -> Result<bool> {
    let context = cx.fs()?;
    match cx.walker(&context)?.look(&parent.directory, &parent.name) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What was just made belongs to the caller.
pub fn own_new(cx: &Cx<'_>, parent: &Parent) -> SysResult {
    let who = &cx.task()?.credentials;
    if who.fsuid != cx.kernel.host_uid || who.fsgid != cx.kernel.host_gid {
        let context = cx.fs()?;
        let place = cx.walker(&context)?.step(&parent.directory, &parent.name)?;
        own_in(cx, place.host()?, &parent.directory)?;
        entry_changed(cx, parent);
    }
    DONE
}

pub fn rmdir(cx: &mut Cx<'_>, path: Address) -> SysResult {
    unlinkat(
        cx,
        libc::AT_FDCWD,
        path,
        Flags(libc::AT_REMOVEDIR.cast_unsigned()),
    )
}

pub fn unlink(cx: &mut Cx<'_>, path: Address) -> SysResult {
    unlinkat(cx, libc::AT_FDCWD, path, Flags(0))
}

pub fn unlinkat(cx: &mut Cx<'_>, directory: i32, path: Address, flags: Flags) -> SysResult {
    flags.only(libc::AT_REMOVEDIR)?;
    let parent = target(cx, directory, path)?;
    let removes_directory = flags.has(libc::AT_REMOVEDIR);
    match &parent.name[..] {
        b"." if removes_directory => return Err(Errno::EINVAL),
        b".." if removes_directory => return Err(Errno::ENOTEMPTY),
        b"" if removes_directory => return Err(Errno::EBUSY),
        b"" | b"." | b".." => return Err(Errno::EISDIR),
        _ => {}
    }
    let context = cx.fs()?;
    let victim = cx.walker(&context)?.look(&parent.directory, &parent.name)?;
    writable(cx, &parent)?;
    may_delete(cx, &parent.directory, victim.uid)?;
    if parent.wants_directory && !victim.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let host_flags = if removes_directory {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    let done = rustix::fs::unlinkat(&**parent.directory.host()?, &parent.name, host_flags);
    entry_changed(cx, &parent);
    cx.kernel.files.file_changed(&victim);
    done?;
    DONE
}

/// In a directory with the sticky bit only owners delete. inode(7).
fn may_delete(cx: &Cx<'_>, directory: &Place, owner: u32) -> Result<()> {
    let attributes = directory.permissions(cx.kernel)?;
    let who = &cx.task()?.credentials;
    let sticky = attributes.mode & libc::S_ISVTX != 0;
    if sticky && !who.owns(owner) && !who.owns(attributes.uid) {
        Err(Errno::EPERM)
    } else {
        Ok(())
    }
}

pub fn rename(cx: &mut Cx<'_>, from: Address, to: Address) -> SysResult {
    renameat2(cx, libc::AT_FDCWD, from, libc::AT_FDCWD, to, Flags(0))
}

pub fn renameat(
    cx: &mut Cx<'_>,
    from_directory: i32,
    from: Address,
    to_directory: i32,
    to: Address,
) -> SysResult {
    renameat2(cx, from_directory, from, to_directory, to, Flags(0))
}

pub fn renameat2(
    cx: &mut Cx<'_>,
    from_directory: i32,
    from: Address,
    to_directory: i32,
    to: Address,
    flags: Flags,
) -> SysResult {
    const NOREPLACE: u32 = 1;
    const EXCHANGE: u32 = 2;
    if flags.0 & !(NOREPLACE | EXCHANGE) != 0 || flags.0 == NOREPLACE | EXCHANGE {
        return Err(Errno::EINVAL);
    }
    let source = target(cx, from_directory, from)?;
    let destination = target(cx, to_directory, to)?;
    if is_dot(&source.name) || is_dot(&destination.name) {
        return Err(if flags.0 == NOREPLACE {
            Errno::EEXIST
        } else {
            Errno::EBUSY
        });
    }
    let context = cx.fs()?;
    let walker = cx.walker(&context)?;
    let moved = walker.look(&source.directory, &source.name)?;
    let replaced = walker.look(&destination.directory, &destination.name);
    let exchanged = replaced.as_ref().ok().filter(|_| flags.0 == EXCHANGE);
    let kept = exchanged.unwrap_or(&moved);
    if (source.wants_directory && !moved.is_directory())
        || (destination.wants_directory && !kept.is_directory())
    {
        return Err(Errno::ENOTDIR);
    }
    match &replaced {
        Ok(_) if flags.0 == NOREPLACE => return Err(Errno::EEXIST),
        // Two names of one file: nothing to be done, whoever asks.
        Ok(replaced) if replaced.id() == moved.id() => return DONE,
        Err(Errno::ENOENT) if flags.0 == EXCHANGE => return Err(Errno::ENOENT),
        _ => {}
    }
    // Before anybody is asked who may. Linux: do_renameat2(), lock_rename().
    if moved.is_directory() && holds(cx, &source, &destination.directory)? {
        return Err(Errno::EINVAL);
    }
    let is_directory = replaced.as_ref().is_ok_and(Attributes::is_directory);
    if is_directory && holds(cx, &destination, &source.directory)? {
        return Err(if flags.0 == EXCHANGE {
            Errno::EINVAL
        } else {
            Errno::ENOTEMPTY
        });
    }
    writable(cx, &source)?;
    writable(cx, &destination)?;
    may_delete(cx, &source.directory, moved.uid)?;
    if let Ok(replaced) = &replaced {
        may_delete(cx, &destination.directory, replaced.uid)?;
    }
    let (from, to) = (source.directory.host()?, destination.directory.host()?);
    let done = rustix::fs::renameat_with(
        &**from,
        &source.name,
        &**to,
        &destination.name,
        RenameFlags::from_bits_retain(flags.0),
    );
    entry_changed(cx, &source);
    entry_changed(cx, &destination);
    for file in [Ok(moved), replaced].into_iter().flatten() {
        cx.kernel.files.file_changed(&file);
    }
    done?;
    DONE
}

/// Whether a directory is the one of that name, or lies below it.
fn holds(cx: &Cx<'_>, named: &Parent, directory: &Place) -> Result<bool> {
    let mut above = named.directory.path(cx.kernel)?;
    if above.last() != Some(&b'/') {
        above.push(b'/');
    }
    above.extend(&named.name);
    let path = directory.path(cx.kernel)?;
    let rest = path.strip_prefix(&above[..]);
    Ok(rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/'))
}

pub fn link(cx: &mut Cx<'_>, from: Address, to: Address) -> SysResult {
    linkat(cx, libc::AT_FDCWD, from, libc::AT_FDCWD, to, Flags(0))
}

pub fn linkat(
    cx: &mut Cx<'_>,
    from_directory: i32,
    from: Address,
    to_directory: i32,
    to: Address,
    flags: Flags,
) -> SysResult {
    flags.only(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH)?;
    let path = cx.memory().read_path(from)?;
    let source = if path.is_empty() && flags.has(libc::AT_EMPTY_PATH) {
        cx.description(from_directory)?
            .file
            .place()
            .cloned()
            .ok_or(Errno::ENOENT)?
    } else {
        cx.resolve(from_directory, &path, flags.has(libc::AT_SYMLINK_FOLLOW))?
    };
    let destination = target(cx, to_directory, to)?;
    if is_dot(&destination.name) || exists(cx, &destination)? {
        return Err(Errno::EEXIST);
    }
    if destination.wants_directory {
        return Err(Errno::ENOENT);
    }
    let linked = source.attributes(cx.kernel)?;
    may_link(cx, &linked)?;
    writable(cx, &destination)?;
    if linked.is_directory() {
        return Err(Errno::EPERM);
    }
    // By the descriptor's own link in the sentry's proc: AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH.
    let by_descriptor = format!(
        "self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&**source.host()?)
    );
    let done = rustix::fs::linkat(
        &cx.kernel.host_proc,
        by_descriptor,
        &**destination.directory.host()?,
        &destination.name,
        AtFlags::SYMLINK_FOLLOW,
    );
    entry_changed(cx, &destination);
    cx.kernel.files.file_changed(&linked);
    done?;
    DONE
}

/// fs.protected_hardlinks: of somebody else's files only what the caller could write anyway. Linux: may_linkat().
fn may_link(cx: &Cx<'_>, linked: &Attributes) -> Result<()> {
    let who = &cx.task()?.credentials;
    let runs_as_group = libc::S_ISGID | libc::S_IXGRP;
    let is_harmless = linked.kind() == libc::S_IFREG
        && linked.mode & libc::S_ISUID == 0
        && linked.mode & runs_as_group != runs_as_group
        && who.may(MAY_READ | MAY_WRITE, linked.mode, linked.uid, linked.gid);
    if is_harmless || who.owns(linked.uid) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

pub fn symlink(cx: &mut Cx<'_>, target: Address, path: Address) -> SysResult {
    symlinkat(cx, target, libc::AT_FDCWD, path)
}

pub fn symlinkat(cx: &mut Cx<'_>, text: Address, directory: i32, path: Address) -> SysResult {
    let text = cx.memory().read_path(text)?;
    if text.is_empty() {
        return Err(Errno::ENOENT);
    }
    let parent = target(cx, directory, path)?;
    if is_dot(&parent.name) || exists(cx, &parent)? {
        return Err(Errno::EEXIST);
    }
    if parent.wants_directory {
        return Err(Errno::ENOENT);
    }
    writable(cx, &parent)?;
    let made = rustix::fs::symlinkat(text, &**parent.directory.host()?, &parent.name);
    entry_changed(cx, &parent);
    made?;
    own_new(cx, &parent)
}
