//! Changing who the caller is: setuid(2) and its kin, setgroups(2).

use std::sync::Arc;

use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{CAP_SETGID, Credentials};
use crate::memory::{Address, half};

/// Linux: NGROUPS_MAX.
const MOST_GROUPS: usize = 65536;

/// Gives the caller's thread other credentials (a process's other threads are the C library's to change). Linux: commit_creds().
pub fn commit(cx: &mut Cx<'_>, new: Credentials) -> Result<()> {
    let old = cx.task()?.credentials.clone();
    let ids = |who: &Credentials| (who.euid, who.egid, who.fsuid, who.fsgid);
    let gained = new.permitted & !old.permitted != 0;
    let is_other = ids(&old) != ids(&new) || gained;
    let (is_leader, uid) = (cx.task()?.tid == cx.task()?.pid, new.uid);
    let task = cx.task_mut()?;
    task.credentials = Arc::new(new);
    if is_other {
        task.parent_death_signal = 0;
    }
    let process = cx.process_mut()?;
    if is_other {
        process.dumpable = false;
    }
    if is_leader {
        process.uid = uid;
    }
    let tid = cx.tid();
    cx.kernel.ids_changed(tid);
    Ok(())
}

/// Whether the container's user namespace has all of these ids. user_namespaces(7); Linux: make_kuid(), uid_valid().
fn exists(cx: &Cx<'_>, who: &Credentials) -> bool {
    let machine = &cx.kernel.machine;
    let uids = [who.uid, who.euid, who.suid, who.fsuid];
    let gids = [who.gid, who.egid, who.sgid, who.fsgid];
    uids.iter().all(|uid| machine.uids.has(*uid))
        && gids
            .iter()
            .chain(&who.groups)
            .all(|gid| machine.gids.has(*gid))
}

fn change(cx: &mut Cx<'_>, how: impl FnOnce(&mut Credentials) -> Result<()>) -> SysResult {
    let mut new = (*cx.task()?.credentials).clone();
    how(&mut new)?;
    if !exists(cx, &new) {
        return Err(Errno::EINVAL);
    }
    commit(cx, new)?;
    DONE
}

pub fn setuid(cx: &mut Cx<'_>, uid: u32) -> SysResult {
    change(cx, |who| who.set_uid(uid))
}

pub fn setgid(cx: &mut Cx<'_>, gid: u32) -> SysResult {
    change(cx, |who| who.set_gid(gid))
}

pub fn setreuid(cx: &mut Cx<'_>, real: u32, effective: u32) -> SysResult {
    change(cx, |who| who.set_reuid(real, effective))
}

pub fn setregid(cx: &mut Cx<'_>, real: u32, effective: u32) -> SysResult {
    change(cx, |who| who.set_regid(real, effective))
}

pub fn setresuid(cx: &mut Cx<'_>, real: u32, effective: u32, saved: u32) -> SysResult {
    change(cx, |who| who.set_resuid([real, effective, saved]))
}

pub fn setresgid(cx: &mut Cx<'_>, real: u32, effective: u32, saved: u32) -> SysResult {
    change(cx, |who| who.set_resgid([real, effective, saved]))
}

/// Returns the id before, whether it changed or not.
pub fn setfsuid(cx: &mut Cx<'_>, uid: u32) -> SysResult {
    let old = cx.task()?.credentials.fsuid;
    if !cx.kernel.machine.uids.has(uid) {
        return value(old);
    }
    change(cx, |who| {
        who.set_fsuid(uid);
        Ok(())
    })?;
    value(old)
}

pub fn setfsgid(cx: &mut Cx<'_>, gid: u32) -> SysResult {
    let old = cx.task()?.credentials.fsgid;
    if !cx.kernel.machine.gids.has(gid) {
        return value(old);
    }
    change(cx, |who| {
        who.set_fsgid(gid);
        Ok(())
    })?;
    value(old)
}

pub fn getresuid(cx: &mut Cx<'_>, real: Address, effective: Address, saved: Address) -> SysResult {
    let who = cx.task()?.credentials.clone();
    let memory = cx.memory();
    memory.write_u32(real, who.uid)?;
    memory.write_u32(effective, who.euid)?;
    memory.write_u32(saved, who.suid)?;
    DONE
}

pub fn getresgid(cx: &mut Cx<'_>, real: Address, effective: Address, saved: Address) -> SysResult {
    let who = cx.task()?.credentials.clone();
    let memory = cx.memory();
    memory.write_u32(real, who.gid)?;
    memory.write_u32(effective, who.egid)?;
    memory.write_u32(saved, who.sgid)?;
    DONE
}

pub fn getgroups(cx: &mut Cx<'_>, size: i32, list: Address) -> SysResult {
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    let who = cx.task()?.credentials.clone();
    if size > 0 {
        if who.groups.len() > size {
            return Err(Errno::EINVAL);
        }
        let bytes: Vec<u8> = who
            .groups
            .iter()
            .flat_map(|gid| gid.to_le_bytes())
            .collect();
        cx.memory().write(list, &bytes)?;
    }
    value(who.groups.len())
}

pub fn setgroups(cx: &mut Cx<'_>, size: i32, list: Address) -> SysResult {
    if !cx.task()?.credentials.has(CAP_SETGID) {
        return Err(Errno::EPERM);
    }
    let size = usize::try_from(size)
        .ok()
        .filter(|size| *size <= MOST_GROUPS)
        .ok_or(Errno::EINVAL)?;
    let bytes = cx.memory().read_vec(list, 4 * size)?;
    let mut groups: Vec<u32> = (0..size).map(|index| half(&bytes, 4 * index)).collect();
    if groups.contains(&u32::MAX) {
        return Err(Errno::EINVAL);
    }
    groups.sort_unstable();
    change(cx, |who| {
        who.groups = groups;
        Ok(())
    })
}
