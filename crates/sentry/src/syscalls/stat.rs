//! Attributes of files: stat(2), statx(2), access(2), readlink(2).

use super::arguments::Flags;
use super::{Cx, DONE, Found, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::Credentials;
use crate::memory::Address;
use crate::vfs::attributes::Attributes;

pub fn stat(cx: &mut Cx<'_>, path: Address, statbuf: Address) -> SysResult {
    newfstatat(cx, libc::AT_FDCWD, path, statbuf, Flags(0))
}

pub fn lstat(cx: &mut Cx<'_>, path: Address, statbuf: Address) -> SysResult {
    newfstatat(
        cx,
        libc::AT_FDCWD,
        path,
        statbuf,
        Flags(libc::AT_SYMLINK_NOFOLLOW.cast_unsigned()),
    )
}

pub fn fstat(cx: &mut Cx<'_>, fd: i32, statbuf: Address) -> SysResult {
    let attributes = of_descriptor(cx, fd)?;
    cx.memory().write(statbuf, &attributes.to_stat())?;
    DONE
}

pub fn newfstatat(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    statbuf: Address,
    flags: Flags,
) -> SysResult {
    flags.only(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT)?;
    let attributes = attributes_at(cx, directory, path, flags)?;
    cx.memory().write(statbuf, &attributes.to_stat())?;
    DONE
}

pub fn statx(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    flags: Flags,
    mask: u32,
    statxbuf: Address,
) -> SysResult {
    const SYNC: i32 = 0x6000;
    flags.only(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT | SYNC)?;
    if mask & 0x8000_0000 != 0 || flags.0 & SYNC.cast_unsigned() == SYNC.cast_unsigned() {
        return Err(Errno::EINVAL);
    }
    let attributes = attributes_at(cx, directory, path, flags)?;
    cx.memory().write(statxbuf, &attributes.to_statx())?;
    DONE
}

fn of_descriptor(cx: &Cx<'_>, fd: i32) -> Result<Attributes> {
    let description = cx.description(fd)?;
    match description.file.place() {
        Some(place) if description.is_path() => place.attributes(cx.kernel),
        _ => description.file.attributes(),
    }
}

fn attributes_at(cx: &Cx<'_>, directory: i32, path: Address, flags: Flags) -> Result<Attributes> {
    // Linux 6.11: a null path with AT_EMPTY_PATH is an empty one.
    let path = if path.is_null() && flags.has(libc::AT_EMPTY_PATH) {
        Vec::new()
    } else {
        cx.memory().read_path(path)?
    };
    if path.is_empty() && flags.has(libc::AT_EMPTY_PATH) {
        if directory == libc::AT_FDCWD {
            return cx.fs()?.cwd.attributes(cx.kernel);
        }
        return of_descriptor(cx, directory);
    }
    let start = cx.start(directory, &path)?;
    let context = cx.fs()?;
    let follow = !flags.has(libc::AT_SYMLINK_NOFOLLOW);
    cx.walker(&context)?.attributes(&start, &path, follow)
}

pub fn access(cx: &mut Cx<'_>, path: Address, mode: u32) -> SysResult {
    faccessat2(cx, libc::AT_FDCWD, path, mode, Flags(0))
}

pub fn faccessat(cx: &mut Cx<'_>, directory: i32, path: Address, mode: u32) -> SysResult {
    faccessat2(cx, directory, path, mode, Flags(0))
}

/// With the real ids, unless AT_EACCESS asks for the effective ones.
pub fn faccessat2(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    mode: u32,
    flags: Flags,
) -> SysResult {
    flags.only(libc::AT_EACCESS | libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    if mode & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let attributes = attributes_at(cx, directory, path, flags)?;
    let who = cx.task()?.credentials.clone();
    let who = if flags.has(libc::AT_EACCESS) {
        (*who).clone()
    } else {
        as_real(&who)
    };
    if mode != 0 && !who.may(mode, attributes.mode, attributes.uid, attributes.gid) {
        return Err(Errno::EACCES);
    }
    DONE
}

/// access(2): a real root has all of its capabilities, anybody else none.
fn as_real(who: &Credentials) -> Credentials {
    let mut real = who.clone();
    (real.fsuid, real.fsgid) = (who.uid, who.gid);
    real.effective = if who.uid == 0 { who.permitted } else { 0 };
    real
}

pub fn readlink(cx: &mut Cx<'_>, path: Address, buf: Address, size: usize) -> SysResult {
    readlinkat(cx, libc::AT_FDCWD, path, buf, size)
}

pub fn readlinkat(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    buf: Address,
    size: usize,
) -> SysResult {
    if size == 0 || size > i32::MAX as usize {
        return Err(Errno::EINVAL);
    }
    let path = cx.memory().read_path(path)?;
    let place = if path.is_empty() {
        cx.description(directory)?
            .file
            .place()
            .cloned()
            .ok_or(Errno::ENOENT)?
    } else {
        match cx.find(directory, &path, false)? {
            Found::Spot(spot) => {
                let target = cx.kernel.files.read_link(&spot)?;
                let len = target.len().min(size);
                cx.memory().write(buf, &target[..len])?;
                return value(len);
            }
            Found::Place(place) => place,
        }
    };
    if !place.attributes(cx.kernel)?.is_symlink() {
        return Err(if path.is_empty() {
            Errno::ENOENT
        } else {
            Errno::EINVAL
        });
    }
    let mut target = place.read_link(cx.kernel, cx.tid())?;
    target.truncate(size);
    cx.memory().write(buf, &target)?;
    value(target.len())
}
