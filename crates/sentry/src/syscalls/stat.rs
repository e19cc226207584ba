//! Attributes of files: stat(2), statx(2), access(2), readlink(2).

use super::arguments::Flags;
use super::{Cx, DONE, Found, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::Credentials;
use crate::memory::Address;
use crate::vfs::attributes::Attributes;
use crate::vfs::cache::{Trail, answers};
use crate::vfs::walk::Walker;

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
    let trail = cx.trail_of_descriptor();
    let bytes = of_descriptor(cx, fd, trail.as_ref())?.to_stat();
    cx.leave_answer(trail.as_ref(), b"", Ok((0, &bytes)));
    cx.memory().write(statbuf, &bytes)?;
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
    let asked = Asked::new(cx, directory, path, flags)?;
    let found = asked.attributes(cx).map(|found| found.to_stat());
    asked.leave(cx, &found);
    cx.memory().write(statbuf, &found?)?;
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
    let asked = Asked::new(cx, directory, path, flags)?;
    let found = asked.attributes(cx).map(|found| found.to_statx());
    asked.leave(cx, &found);
    cx.memory().write(statxbuf, &found?)?;
    DONE
}

fn of_descriptor(cx: &Cx<'_>, fd: i32, trail: Option<&Trail>) -> Result<Attributes> {
    let description = cx.description(fd)?;
    match (description.file.place(), trail) {
        (Some(place), _) if description.is_path() => {
            answers::leave(trail);
            place.attributes(cx.kernel)
        }
        (_, Some(trail)) => {
            let answers = &cx.kernel.files.answers;
            let mut files = cx.task()?.files.lock();
            files.tell(fd, &description, answers, trail);
            drop(files);
            description.file.attributes_told(trail)
        }
        (_, None) => description.file.attributes(),
    }
}

/// A question by a path, whose answer its caller may keep.
struct Asked {
    directory: i32,
    path: Vec<u8>,
    flags: Flags,
    trail: Option<Trail>,
}

impl Asked {
    fn new(cx: &Cx<'_>, directory: i32, path: Address, flags: Flags) -> Result<Self> {
        // Linux 6.11: a null path with AT_EMPTY_PATH is an empty one.
        let path = if path.is_null() && flags.has(libc::AT_EMPTY_PATH) {
            Vec::new()
        } else {
            cx.memory().read_path(path)?
        };
        let is_descriptor =
            path.is_empty() && flags.has(libc::AT_EMPTY_PATH) && directory != libc::AT_FDCWD;
        let trail = if is_descriptor {
            cx.trail_of_descriptor()
        } else {
            cx.trail_of_path(directory, &path)
        };
        Ok(Self {
            directory,
            path,
            flags,
            trail,
        })
    }

    fn attributes(&self, cx: &Cx<'_>) -> Result<Attributes> {
        if self.path.is_empty() && self.flags.has(libc::AT_EMPTY_PATH) {
            if self.directory == libc::AT_FDCWD {
                return cx.fs()?.cwd.attributes(cx.kernel);
            }
            return of_descriptor(cx, self.directory, self.trail.as_ref());
        }
        let start = cx.start(self.directory, &self.path)?;
        let context = cx.fs()?;
        let follow = !self.flags.has(libc::AT_SYMLINK_NOFOLLOW);
        let walker = Walker {
            trail: self.trail.as_ref(),
            ..cx.walker(&context)?
        };
        walker.attributes(&start, &self.path, follow)
    }

    fn leave<const N: usize>(&self, cx: &Cx<'_>, found: &Result<[u8; N]>) {
        let told = match found {
            Ok(bytes) => Ok((0, bytes.as_slice())),
            Err(error) => Err(*error),
        };
        cx.leave_answer(self.trail.as_ref(), &self.path, told);
    }
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
    let asked = Asked::new(cx, directory, path, flags)?;
    let attributes = asked
        .attributes(cx)
        .inspect_err(|error| asked.leave::<0>(cx, &Err(*error)))?;
    let who = cx.task()?.credentials.clone();
    let who = if flags.has(libc::AT_EACCESS) {
        (*who).clone()
    } else {
        as_real(&who)
    };
    if mode != 0 && !who.may(mode, attributes.mode, attributes.uid, attributes.gid) {
        return Err(Errno::EACCES);
    }
    asked.leave(cx, &Ok([]));
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
        let trail = cx.trail_of_path(directory, &path);
        let start = cx.start(directory, &path)?;
        let context = cx.fs()?;
        let walker = Walker {
            trail: trail.as_ref(),
            ..cx.walker(&context)?
        };
        let found = walker.find(&start, &path, false).inspect_err(|error| {
            cx.leave_answer(trail.as_ref(), &path, Err(*error));
        });
        match found? {
            Found::Spot(spot) => {
                let target = cx.kernel.files.read_link(&spot, trail.as_ref())?;
                let text = &target[..target.len().min(size)];
                let told = Ok((text.len() as i64, text));
                cx.leave_answer(trail.as_ref(), &path, told);
                cx.memory().write(buf, text)?;
                return value(text.len());
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
