//! fcntl(2)'s commands that few use: who gets SIGIO, write hints, leases, directory notification.

use std::sync::Arc;

use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::memory::Address;
use crate::vfs::description::Description;
use crate::vfs::fasync::{self, Kind, Owner};
use crate::vfs::tty::master::Master;
use crate::vfs::tty::slave::Slave;

const F_SETOWN: i32 = 8;
const F_GETOWN: i32 = 9;
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
pub const FIOSETOWN: u32 = 0x8901;
pub const SIOCSPGRP: u32 = 0x8902;
pub const FIOGETOWN: u32 = 0x8903;
pub const SIOCGPGRP: u32 = 0x8904;
const F_SETLEASE: i32 = 1024;
const F_GETLEASE: i32 = 1025;
const F_NOTIFY: i32 = 1026;
const DN_MULTISHOT: i32 = i32::MIN;
const F_DUPFD_QUERY: i32 = 1027;
const F_GET_RW_HINT: i32 = 1035;
const F_SET_RW_HINT: i32 = 1036;
/// RWH_WRITE_LIFE_EXTREME.
const LAST_HINT: u64 = 5;

const OWNER_TID: i32 = 0;
const OWNER_PID: i32 = 1;
const OWNER_PGRP: i32 = 2;

pub fn fcntl(
    cx: &mut Cx<'_>,
    description: &Arc<Description>,
    command: i32,
    argument: u64,
) -> SysResult {
    let number = argument as i32;
    let address = Address(argument);
    match command {
        F_GETOWN => value(signed(cx, description.owner())),
        F_SETOWN => {
            set_owner(cx, description, number)?;
            DONE
        }
        F_GETOWN_EX => {
            let owner = description.owner();
            let kind = match owner.kind {
                Kind::Thread => OWNER_TID,
                Kind::Process => OWNER_PID,
                Kind::Group => OWNER_PGRP,
            };
            let mut bytes = kind.to_le_bytes().to_vec();
            bytes.extend(owner.living(cx.kernel).to_le_bytes());
            cx.memory().write(address, &bytes)?;
            DONE
        }
        F_SETOWN_EX => {
            let bytes = cx.memory().read_u64(address)?.to_le_bytes();
            let part = |at: usize| crate::memory::half(&bytes, at).cast_signed();
            let kind = match part(0) {
                OWNER_TID => Kind::Thread,
                OWNER_PID => Kind::Process,
                OWNER_PGRP => Kind::Group,
                _ => return Err(Errno::EINVAL),
            };
            name_owner(cx, description, kind, part(4))?;
            DONE
        }
        F_GETSIG => value(description.owner().signal),
        F_SETSIG => {
            if !(0..=64).contains(&number) {
                return Err(Errno::EINVAL);
            }
            fasync::lock(description.shared_owner()).signal = number;
            DONE
        }
        F_GETLEASE => value(libc::F_UNLCK),
        F_SETLEASE => match number {
            // None is ever held, and none is given: as where the file is open elsewhere (fcntl(2), "Leases").
            libc::F_RDLCK | libc::F_WRLCK | libc::F_UNLCK => Err(Errno::EAGAIN),
            _ => Err(Errno::EINVAL),
        },
        // No events: there is nothing to take back. Otherwise as a kernel without CONFIG_DNOTIFY.
        F_NOTIFY if number & !DN_MULTISHOT == 0 => DONE,
        F_NOTIFY => Err(Errno::EINVAL),
        F_DUPFD_QUERY => {
            let other = cx.description(number)?;
            value(i32::from(Arc::ptr_eq(description, &other)))
        }
        F_GET_RW_HINT => {
            let ino = key(description)?;
            let hint = cx.kernel.write_hints.get(&ino).copied().unwrap_or(0);
            cx.memory().write_u64(address, hint)?;
            DONE
        }
        F_SET_RW_HINT => {
            let hint = cx.memory().read_u64(address)?;
            if hint > LAST_HINT {
                return Err(Errno::EINVAL);
            }
            set_hint(cx, key(description)?, hint);
            DONE
        }
        _ => Err(Errno::EINVAL),
    }
}

/// What F_SETFL and FIOASYNC do about O_ASYNC: only a change counts, and the signals then name `fd`. `ENOTTY`: the file signals nobody, and keeps
/// the flag that it was opened with. Linux: fasync_helper(), __tty_fasync().
pub fn set_async(cx: &Cx<'_>, description: &Description, fd: i32, on: bool) -> Result<()> {
    if on == description.is_async() {
        return Ok(());
    }
    let lists = description.file.fasync();
    if lists.iter().all(Option::is_none) {
        return Err(Errno::ENOTTY);
    }
    let owner = description.shared_owner();
    let mut has_changed = false;
    for list in lists.into_iter().flatten() {
        has_changed |= if on {
            list.add(owner, fd)
        } else {
            list.remove(owner)
        };
    }
    if on || has_changed {
        description.set_async(on);
    }
    let has_nobody = fasync::lock(owner).id == 0;
    if on
        && has_changed
        && has_nobody
        && let Some((kind, id)) = default_owner(cx, description)?
    {
        let mut owner = fasync::lock(owner);
        *owner = owner.named(cx, kind, id)?;
    }
    Ok(())
}

/// A terminal has an owner without being told one: its foreground group.
fn default_owner(cx: &Cx<'_>, description: &Description) -> Result<Option<(Kind, i32)>> {
    let file = &description.file;
    let foreground = match file.downcast_ref::<Slave>() {
        Some(slave) => slave.tty.lock().foreground,
        None if file.is::<Master>() => 0,
        None => return Ok(None),
    };
    Ok(Some(if foreground == 0 {
        (Kind::Process, cx.task()?.pid)
    } else {
        (Kind::Group, foreground)
    }))
}

/// The same of sockets, by ioctl(2). socket(7).
pub fn socket_owner(
    cx: &mut Cx<'_>,
    description: &Description,
    request: u32,
    argument: Address,
) -> Result<()> {
    if request == FIOSETOWN || request == SIOCSPGRP {
        let number = cx.memory().read_u32(argument)?.cast_signed();
        set_owner(cx, description, number)
    } else {
        let number = signed(cx, description.owner());
        cx.memory().write_i32(argument, number)
    }
}

/// As F_GETOWN tells it: a group by a negative number.
fn signed(cx: &Cx<'_>, owner: Owner) -> i32 {
    let id = owner.living(cx.kernel);
    if owner.kind == Kind::Group { -id } else { id }
}

/// Linux: f_setown().
fn set_owner(cx: &Cx<'_>, description: &Description, number: i32) -> Result<()> {
    if number >= 0 {
        return name_owner(cx, description, Kind::Process, number);
    }
    let group = number.checked_neg().ok_or(Errno::EINVAL)?;
    name_owner(cx, description, Kind::Group, group)
}

/// `ESRCH`: nothing has that number, of whatever kind. Linux: find_vpid().
fn name_owner(cx: &Cx<'_>, description: &Description, kind: Kind, id: i32) -> Result<()> {
    let kernel = &cx.kernel;
    let is_there = id == 0
        || kernel.processes.contains_key(&id)
        || kernel.tids.contains_key(&id)
        || kernel
            .processes
            .values()
            .any(|process| process.group == id || process.session == id);
    if !is_there {
        return Err(Errno::ESRCH);
    }
    let mut owner = fasync::lock(description.shared_owner());
    *owner = owner.named(cx, kind, id)?;
    Ok(())
}

fn key(description: &Description) -> Result<(u64, u64)> {
    let attributes = description.file.attributes()?;
    Ok((attributes.dev, attributes.ino))
}

/// Hints mean nothing here but to be told back; more of them than this are forgotten.
fn set_hint(cx: &mut Cx<'_>, key: (u64, u64), hint: u64) {
    const MOST: usize = 1024;
    let hints = &mut cx.kernel.write_hints;
    if hint == 0 {
        hints.remove(&key);
    } else if hints.len() < MOST || hints.contains_key(&key) {
        hints.insert(key, hint);
    }
}
