//! Extended attributes. xattr(7). `user.` follows the file's permissions, `system.posix_acl_` its owner; `trusted.` and `security.` are as for somebody
//! without privileges in the host's own user namespace, whatever capabilities the sandbox's root has.

use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, XattrFlags};

use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{MAY_READ, MAY_WRITE};
use crate::memory::Address;
use crate::vfs::attributes::Attributes;
use crate::vfs::place::Place;

/// Linux: XATTR_NAME_MAX, XATTR_SIZE_MAX, XATTR_LIST_MAX.
const NAME_MAX: usize = 255;
const SIZE_MAX: usize = 64 << 10;

/// Which attributes a name belongs to, and so whose they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    User,
    Acl,
    Trusted,
    Security,
}

fn space_of(name: &[u8]) -> Result<Space> {
    let spaces: [(&[u8], Space); 3] = [
        (b"user.", Space::User),
        (b"trusted.", Space::Trusted),
        (b"security.", Space::Security),
    ];
    if name == b"system.posix_acl_access" || name == b"system.posix_acl_default" {
        return Ok(Space::Acl);
    }
    let found = spaces
        .into_iter()
        .find(|(prefix, _)| name.starts_with(prefix));
    let (prefix, space) = found.ok_or(Errno::EOPNOTSUPP)?;
    if name.len() == prefix.len() {
        return Err(Errno::EINVAL);
    }
    Ok(space)
}

fn read_name(cx: &Cx<'_>, name: Address) -> Result<Vec<u8>> {
    let name = cx.memory().read_string(name, NAME_MAX + 1, Errno::ERANGE)?;
    if name.is_empty() {
        Err(Errno::ERANGE)
    } else {
        Ok(name)
    }
}

fn by_path(cx: &Cx<'_>, path: Address, follow: bool) -> Result<Place> {
    let path = cx.memory().read_path(path)?;
    cx.resolve(libc::AT_FDCWD, &path, follow)
}

fn by_descriptor(cx: &Cx<'_>, fd: i32) -> Result<Place> {
    let description = cx.open_description(fd)?;
    description.file.place().cloned().ok_or(Errno::EOPNOTSUPP)
}

/// A descriptor that attributes can be asked of: O_PATH's cannot, and no name is looked up again.
fn reopen(cx: &Cx<'_>, place: &Place, attributes: &Attributes) -> Result<OwnedFd> {
    let host = place.host().map_err(|_| Errno::EOPNOTSUPP)?;
    // Opening anything else could block, or mean something to a device.
    if ![libc::S_IFREG, libc::S_IFDIR].contains(&attributes.kind()) {
        return Err(Errno::EOPNOTSUPP);
    }
    match cx.kernel.reopen(host, OFlags::RDONLY) {
        Err(Errno::EACCES) if !attributes.is_directory() => cx.kernel.reopen(host, OFlags::WRONLY),
        other => other,
    }
}

pub fn setxattr(
    cx: &mut Cx<'_>,
    path: Address,
    name: Address,
    data: Address,
    size: usize,
    flags: u32,
) -> SysResult {
    let request = read_set(cx, name, data, size, flags)?;
    let place = by_path(cx, path, true)?;
    set(cx, &place, &request)
}

pub fn lsetxattr(
    cx: &mut Cx<'_>,
    path: Address,
    name: Address,
    data: Address,
    size: usize,
    flags: u32,
) -> SysResult {
    let request = read_set(cx, name, data, size, flags)?;
    let place = by_path(cx, path, false)?;
    set(cx, &place, &request)
}

pub fn fsetxattr(
    cx: &mut Cx<'_>,
    fd: i32,
    name: Address,
    data: Address,
    size: usize,
    flags: u32,
) -> SysResult {
    cx.open_description(fd)?;
    let request = read_set(cx, name, data, size, flags)?;
    let place = by_descriptor(cx, fd)?;
    set(cx, &place, &request)
}

/// What setxattr(2) asks for.
struct Set {
    name: Vec<u8>,
    data: Vec<u8>,
    flags: u32,
}

fn read_set(cx: &Cx<'_>, name: Address, data: Address, size: usize, flags: u32) -> Result<Set> {
    if flags & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    let name = read_name(cx, name)?;
    if size > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let data = cx.memory().read_vec(data, size)?;
    Ok(Set { name, data, flags })
}

fn set(cx: &Cx<'_>, place: &Place, request: &Set) -> SysResult {
    let attributes = place.attributes(cx.kernel)?;
    may_change(cx, &attributes, space_of(&request.name)?)?;
    let file = reopen(cx, place, &attributes)?;
    let flags = XattrFlags::from_bits_retain(request.flags);
    let done = rustix::fs::fsetxattr(&file, &request.name[..], &request.data, flags);
    cx.kernel.files.file_changed(&attributes);
    done?;
    DONE
}

/// Linux: xattr_permission(), set_posix_acl().
fn may_change(cx: &Cx<'_>, file: &Attributes, space: Space) -> Result<()> {
    let who = &cx.task()?.credentials;
    match space {
        Space::Trusted | Space::Security => Err(Errno::EPERM),
        Space::Acl if file.is_symlink() => Err(Errno::EOPNOTSUPP),
        Space::Acl if who.owns(file.uid) => Ok(()),
        Space::Acl => Err(Errno::EPERM),
        Space::User => {
            let has_any = [libc::S_IFREG, libc::S_IFDIR].contains(&file.kind());
            let is_sticky = file.is_directory() && file.mode & libc::S_ISVTX != 0;
            if !has_any || (is_sticky && !who.owns(file.uid)) {
                return Err(Errno::EPERM);
            }
            if who.may(MAY_WRITE, file.mode, file.uid, file.gid) {
                Ok(())
            } else {
                Err(Errno::EACCES)
            }
        }
    }
}

pub fn getxattr(
    cx: &mut Cx<'_>,
    path: Address,
    name: Address,
    data: Address,
    size: usize,
) -> SysResult {
    let place = by_path(cx, path, true);
    get(cx, place, name, data, size)
}

pub fn lgetxattr(
    cx: &mut Cx<'_>,
    path: Address,
    name: Address,
    data: Address,
    size: usize,
) -> SysResult {
    let place = by_path(cx, path, false);
    get(cx, place, name, data, size)
}

pub fn fgetxattr(cx: &mut Cx<'_>, fd: i32, name: Address, data: Address, size: usize) -> SysResult {
    cx.open_description(fd)?;
    let place = by_descriptor(cx, fd);
    get(cx, place, name, data, size)
}

fn get(cx: &Cx<'_>, place: Result<Place>, name: Address, data: Address, size: usize) -> SysResult {
    let name = read_name(cx, name)?;
    let place = place?;
    let attributes = place.attributes(cx.kernel)?;
    let who = &cx.task()?.credentials;
    let is_visible = |file: &Attributes| [libc::S_IFREG, libc::S_IFDIR].contains(&file.kind());
    match space_of(&name)? {
        Space::Trusted => return Err(Errno::ENODATA),
        Space::User if !is_visible(&attributes) => return Err(Errno::ENODATA),
        Space::Security if !is_visible(&attributes) || name != b"security.capability" => {
            return Err(Errno::ENODATA);
        }
        Space::User if !who.may(MAY_READ, attributes.mode, attributes.uid, attributes.gid) => {
            return Err(Errno::EACCES);
        }
        _ => {}
    }
    let file = reopen(cx, &place, &attributes)?;
    let mut buffer = vec![0; SIZE_MAX];
    let count = rustix::fs::fgetxattr(&file, &name[..], &mut buffer[..])?;
    if size > 0 {
        if count > size {
            return Err(Errno::ERANGE);
        }
        cx.memory().write(data, &buffer[..count])?;
    }
    value(count)
}

pub fn listxattr(cx: &mut Cx<'_>, path: Address, list: Address, size: usize) -> SysResult {
    let place = by_path(cx, path, true)?;
    names(cx, &place, list, size)
}

pub fn llistxattr(cx: &mut Cx<'_>, path: Address, list: Address, size: usize) -> SysResult {
    let place = by_path(cx, path, false)?;
    names(cx, &place, list, size)
}

pub fn flistxattr(cx: &mut Cx<'_>, fd: i32, list: Address, size: usize) -> SysResult {
    match by_descriptor(cx, fd) {
        Ok(place) => names(cx, &place, list, size),
        Err(Errno::EOPNOTSUPP) => value(0),
        Err(error) => Err(error),
    }
}

/// Those names that `getxattr` would answer.
fn names(cx: &Cx<'_>, place: &Place, list: Address, size: usize) -> SysResult {
    let attributes = place.attributes(cx.kernel)?;
    let file = match reopen(cx, place, &attributes) {
        Ok(file) => file,
        Err(Errno::EOPNOTSUPP) => return value(0),
        Err(error) => return Err(error),
    };
    let mut buffer = vec![0; SIZE_MAX];
    let count = rustix::fs::flistxattr(&file, &mut buffer[..])?;
    let mut shown = Vec::new();
    for name in buffer[..count.min(SIZE_MAX)].split(|byte| *byte == 0) {
        let is_shown = match space_of(name) {
            Ok(Space::User | Space::Acl) => true,
            Ok(Space::Security) => name == b"security.capability",
            _ => false,
        };
        if is_shown {
            shown.extend_from_slice(name);
            shown.push(0);
        }
    }
    if size > 0 {
        if shown.len() > size {
            return Err(Errno::ERANGE);
        }
        cx.memory().write(list, &shown)?;
    }
    value(shown.len())
}

pub fn removexattr(cx: &mut Cx<'_>, path: Address, name: Address) -> SysResult {
    let name = read_name(cx, name)?;
    let place = by_path(cx, path, true)?;
    remove(cx, &place, &name)
}

pub fn lremovexattr(cx: &mut Cx<'_>, path: Address, name: Address) -> SysResult {
    let name = read_name(cx, name)?;
    let place = by_path(cx, path, false)?;
    remove(cx, &place, &name)
}

pub fn fremovexattr(cx: &mut Cx<'_>, fd: i32, name: Address) -> SysResult {
    cx.open_description(fd)?;
    let name = read_name(cx, name)?;
    let place = by_descriptor(cx, fd)?;
    remove(cx, &place, &name)
}

fn remove(cx: &Cx<'_>, place: &Place, name: &[u8]) -> SysResult {
    let attributes = place.attributes(cx.kernel)?;
    may_change(cx, &attributes, space_of(name)?)?;
    let file = reopen(cx, place, &attributes)?;
    let done = rustix::fs::fremovexattr(&file, name);
    cx.kernel.files.file_changed(&attributes);
    done?;
    DONE
}
