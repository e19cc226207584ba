//! Mode and owner: chmod(2), chown(2). Who may is decided by the sandbox's own credentials; the host may refuse further, as it would in a user namespace
//! that lacks an id.

use std::os::fd::AsRawFd;
use std::sync::PoisonError;

use rustix::fs::{AtFlags, Gid, Mode, Uid};

use super::arguments::Flags;
use super::{Cx, DONE, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{CAP_CHOWN, CAP_FSETID, Credentials};
use crate::memory::Address;
use crate::vfs::attributes::Attributes;
use crate::vfs::place::Place;
use crate::vfs::tty::devpts::PtsNode;

const AT_FLAGS: i32 = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;

pub fn chmod(cx: &mut Cx<'_>, path: Address, mode: u32) -> SysResult {
    fchmodat(cx, libc::AT_FDCWD, path, mode)
}

pub fn fchmodat(cx: &mut Cx<'_>, directory: i32, path: Address, mode: u32) -> SysResult {
    fchmodat2(cx, directory, path, mode, Flags(0))
}

pub fn fchmodat2(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    mode: u32,
    flags: Flags,
) -> SysResult {
    flags.only(AT_FLAGS)?;
    let place = place_at(cx, directory, path, flags)?;
    change_mode(cx, &place, mode)
}

pub fn fchmod(cx: &mut Cx<'_>, fd: i32, mode: u32) -> SysResult {
    let description = cx.open_description(fd)?;
    match description.file.place().cloned() {
        Some(place) => change_mode(cx, &place, mode),
        // Pipes and sockets have an inode of their own, whose mode means nothing to anybody.
        None if description.file.host().is_none() => DONE,
        None => Err(Errno::EPERM),
    }
}

/// Linux: chmod_common(), setattr_prepare().
fn change_mode(cx: &mut Cx<'_>, place: &Place, mode: u32) -> SysResult {
    let attributes = place.attributes(cx.kernel)?;
    if attributes.is_symlink() {
        return Err(Errno::EOPNOTSUPP);
    }
    let who = &cx.task()?.credentials;
    if !who.owns(attributes.uid) {
        return Err(Errno::EPERM);
    }
    refuse_set_id(cx, mode)?;
    let mut mode = mode & 0o7777;
    if !who.in_group(attributes.gid) && !who.has(CAP_FSETID) {
        mode &= !libc::S_ISGID;
    }
    if let Place::Pts(node) = place {
        return change_terminal(cx, *node, |kept| kept.mode = kept.kind() | mode);
    }
    let host = place.host()?;
    // fchmodat2(2) with AT_EMPTY_PATH is Linux 6.6's; the descriptor's own link means the same on all.
    let link = format!("self/fd/{}", host.as_raw_fd());
    let mode = Mode::from_raw_mode(mode);
    let done = rustix::fs::chmodat(&cx.kernel.host_proc, link, mode, AtFlags::empty());
    cx.kernel.files.file_changed(&attributes);
    done?;
    DONE
}

/// `EPERM` for the set-id bits in a sandbox that makes files of an owner of the host: outside, they would give that owner's rights away.
pub fn refuse_set_id(cx: &Cx<'_>, mode: u32) -> Result<()> {
    if mode & (libc::S_ISUID | libc::S_ISGID) != 0 && !cx.kernel.set_id_files {
        return Err(Errno::EPERM);
    }
    Ok(())
}

pub fn chown(cx: &mut Cx<'_>, path: Address, uid: u32, gid: u32) -> SysResult {
    fchownat(cx, libc::AT_FDCWD, path, uid, gid, Flags(0))
}

pub fn lchown(cx: &mut Cx<'_>, path: Address, uid: u32, gid: u32) -> SysResult {
    let flags = Flags(libc::AT_SYMLINK_NOFOLLOW.cast_unsigned());
    fchownat(cx, libc::AT_FDCWD, path, uid, gid, flags)
}

pub fn fchownat(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    uid: u32,
    gid: u32,
    flags: Flags,
) -> SysResult {
    flags.only(AT_FLAGS)?;
    let place = place_at(cx, directory, path, flags)?;
    change_owner(cx, &place, uid, gid)
}

pub fn fchown(cx: &mut Cx<'_>, fd: i32, uid: u32, gid: u32) -> SysResult {
    let description = cx.open_description(fd)?;
    match description.file.place().cloned() {
        Some(place) => change_owner(cx, &place, uid, gid),
        None if description.file.host().is_none() => {
            let attributes = description.file.attributes()?;
            may_change_owner(&cx.task()?.credentials, &attributes, uid, gid)?;
            DONE
        }
        None => Err(Errno::EPERM),
    }
}

fn change_owner(cx: &mut Cx<'_>, place: &Place, uid: u32, gid: u32) -> SysResult {
    let attributes = place.attributes(cx.kernel)?;
    may_change_owner(&cx.task()?.credentials, &attributes, uid, gid)?;
    if let Place::Pts(node) = place {
        return change_terminal(cx, *node, |kept| {
            for (kept, new) in [(&mut kept.uid, uid), (&mut kept.gid, gid)] {
                if new != u32::MAX {
                    *kept = new;
                }
            }
            kept.mode &= !libc::S_ISUID;
            if kept.mode & libc::S_IXGRP != 0 {
                kept.mode &= !libc::S_ISGID;
            }
        });
    }
    let host = place.host()?;
    let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
    let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let done = rustix::fs::chownat(&**host, "", uid, gid, flags);
    cx.kernel.files.file_changed(&attributes);
    done?;
    DONE
}

/// A slave's owner and mode are the sentry's to keep: who opens a terminal for somebody gives it to that one. The directory and ptmx are the mount's.
fn change_terminal(cx: &Cx<'_>, node: PtsNode, change: impl FnOnce(&mut Attributes)) -> SysResult {
    let PtsNode::Slave(number) = node else {
        return Err(Errno::EPERM);
    };
    let tty = cx.kernel.terminals.get(number).ok_or(Errno::EIO)?;
    let mut kept = tty
        .attributes
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    change(&mut kept);
    DONE
}

/// Linux: chown_ok(), chgrp_ok(). A value of all ones changes nothing.
fn may_change_owner(who: &Credentials, file: &Attributes, uid: u32, gid: u32) -> Result<()> {
    if who.has(CAP_CHOWN) {
        return Ok(());
    }
    let is_owner = who.fsuid == file.uid;
    let uid_stays = uid == u32::MAX || (is_owner && uid == file.uid);
    let gid_is_fine = gid == u32::MAX || (is_owner && (gid == file.gid || who.in_group(gid)));
    if uid_stays && gid_is_fine {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// What a `*at` call with AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW means.
pub fn place_at(cx: &Cx<'_>, directory: i32, path: Address, flags: Flags) -> Result<Place> {
    let path = if path.is_null() && flags.has(libc::AT_EMPTY_PATH) {
        Vec::new()
    } else {
        cx.memory().read_path(path)?
    };
    if !path.is_empty() || !flags.has(libc::AT_EMPTY_PATH) {
        return cx.resolve(directory, &path, !flags.has(libc::AT_SYMLINK_NOFOLLOW));
    }
    if directory == libc::AT_FDCWD {
        return Ok(cx.fs()?.cwd);
    }
    let description = cx.description(directory)?;
    description.file.place().cloned().ok_or(Errno::EPERM)
}
