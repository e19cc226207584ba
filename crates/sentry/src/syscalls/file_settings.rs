//! fcntl(2)'s commands that few use: who gets SIGIO, write hints, leases, directory notification.

use std::sync::{Arc, PoisonError};

use super::{Cx, DONE, SysResult, value};
use crate::errno::Errno;
use crate::memory::Address;
use crate::vfs::description::Description;

const F_SETOWN: i32 = 8;
const F_GETOWN: i32 = 9;
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
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
    let owner = || {
        description
            .owner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    match command {
        F_GETOWN => value(owner().0),
        F_SETOWN => {
            check_owner(cx, number)?;
            owner().0 = number;
            DONE
        }
        F_GETOWN_EX => {
            let who = owner().0;
            let kind = if who < 0 { OWNER_PGRP } else { OWNER_PID };
            let mut bytes = kind.to_le_bytes().to_vec();
            bytes.extend(who.wrapping_abs().to_le_bytes());
            cx.memory().write(address, &bytes)?;
            DONE
        }
        F_SETOWN_EX => {
            let bytes = cx.memory().read_u64(address)?.to_le_bytes();
            let part = |at: usize| crate::memory::half(&bytes, at).cast_signed();
            let who = match part(0) {
                OWNER_TID | OWNER_PID => part(4),
                OWNER_PGRP => part(4).wrapping_neg(),
                _ => return Err(Errno::EINVAL),
            };
            check_owner(cx, who)?;
            owner().0 = who;
            DONE
        }
        F_GETSIG => value(owner().1),
        F_SETSIG => {
            if !(0..=64).contains(&number) {
                return Err(Errno::EINVAL);
            }
            owner().1 = number;
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

/// FIOASYNC: the flag is kept and told, SIGIO is not sent. Linux: ioctl_fioasync() asks the file only about a change. Pipes, sockets, terminals
/// and inotify have the operation; other files that can be waited for (eventfd, epoll, ...) have not.
pub fn set_async(description: &Description, on: bool) -> crate::errno::Result<()> {
    let bit = libc::O_ASYNC.cast_unsigned();
    let flags = description.flags() & !bit | if on { bit } else { 0 };
    if flags != description.flags() {
        let can_signal = matches!(description.file.anonymous(), None | Some("inotify"))
            && description.file.queue().is_some();
        if !can_signal {
            return Err(Errno::ENOTTY);
        }
        description.change_flags(flags);
    }
    Ok(())
}

fn key(description: &Description) -> crate::errno::Result<(u64, u64)> {
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

/// Linux: f_setown() looks the process or group up.
fn check_owner(cx: &Cx<'_>, who: i32) -> crate::errno::Result<()> {
    let exists = match who {
        0 => true,
        i32::MIN => return Err(Errno::EINVAL),
        1.. => cx.kernel.processes.contains_key(&who) || cx.kernel.tids.contains_key(&who),
        _ => cx
            .kernel
            .processes
            .values()
            .any(|process| process.group == -who),
    };
    if exists { Ok(()) } else { Err(Errno::ESRCH) }
}
