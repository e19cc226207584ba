//! The root of path names, and what only the host's administrator does to the tree: chroot(2), mount(2) and its kin, sethostname(2).

use super::{Cx, DONE, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{CAP_SYS_ADMIN, CAP_SYS_CHROOT, MAY_EXEC};
use crate::memory::Address;

/// Linux: __NEW_UTS_LEN.
const NAME_LEN: usize = 64;

pub fn chroot(cx: &mut Cx<'_>, path: Address) -> SysResult {
    let path = cx.memory().read_path(path)?;
    let place = cx.resolve(libc::AT_FDCWD, &path, true)?;
    let attributes = place.attributes(cx.kernel)?;
    if !attributes.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let task = cx.task()?;
    let who = &task.credentials;
    if !who.may(MAY_EXEC, attributes.mode, attributes.uid, attributes.gid) {
        return Err(Errno::EACCES);
    }
    if !who.has(CAP_SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    task.fs.lock().root = place;
    cx.kernel.files.answers.retract_all();
    DONE
}

pub fn sethostname(cx: &mut Cx<'_>, name: Address, len: i32) -> SysResult {
    cx.kernel.hostname = new_name(cx, name, len)?;
    DONE
}

pub fn setdomainname(cx: &mut Cx<'_>, name: Address, len: i32) -> SysResult {
    cx.kernel.domainname = new_name(cx, name, len)?;
    DONE
}

fn new_name(cx: &Cx<'_>, name: Address, len: i32) -> Result<Vec<u8>> {
    if !cx.task()?.credentials.has(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= NAME_LEN)
        .ok_or(Errno::EINVAL)?;
    cx.memory().read_vec(name, len)
}
