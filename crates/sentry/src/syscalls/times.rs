//! A file's times: utimensat(2), utime(2), futimesat(2).

use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::arguments::Flags;
use super::ownership::place_at;
use super::{Cx, DONE, SysResult};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::MAY_WRITE;
use crate::memory::{Address, word};
use crate::vfs::place::Place;

const NOW: i64 = 0x3FFF_FFFF;
const OMIT: i64 = 0x3FFF_FFFE;
const SECOND_NS: i64 = 1_000_000_000;

/// Access and modification time: seconds, and nanoseconds or `NOW` or `OMIT`. `None`: both now, asked for by a null pointer.
type Wanted = Option<[(i64, i64); 2]>;

pub fn utimensat(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    times: Address,
    flags: Flags,
) -> SysResult {
    let wanted = read_times(cx, times)?;
    if let Some([(_, OMIT), (_, OMIT)]) = wanted {
        return DONE;
    }
    if let Some(times) = wanted
        && times
            .iter()
            .any(|(_, ns)| !(0..SECOND_NS).contains(ns) && *ns != NOW && *ns != OMIT)
    {
        return Err(Errno::EINVAL);
    }
    set_at(cx, directory, path, wanted, flags)
}

pub fn utimes(cx: &mut Cx<'_>, path: Address, times: Address) -> SysResult {
    futimesat(cx, libc::AT_FDCWD, path, times)
}

pub fn futimesat(cx: &mut Cx<'_>, directory: i32, path: Address, times: Address) -> SysResult {
    let wanted = match read_times(cx, times)? {
        None => None,
        Some(times) if times.iter().any(|(_, us)| !(0..1_000_000).contains(us)) => {
            return Err(Errno::EINVAL);
        }
        Some(times) => Some(times.map(|(seconds, us)| (seconds, us * 1000))),
    };
    set_at(cx, directory, path, wanted, Flags(0))
}

pub fn utime(cx: &mut Cx<'_>, path: Address, times: Address) -> SysResult {
    let wanted = if times.is_null() {
        None
    } else {
        let bytes = cx.memory().read_vec(times, 16)?;
        let seconds = |at| word(&bytes, at).cast_signed();
        Some([(seconds(0), 0), (seconds(8), 0)])
    };
    set_at(cx, libc::AT_FDCWD, path, wanted, Flags(0))
}

fn read_times(cx: &Cx<'_>, times: Address) -> Result<Wanted> {
    if times.is_null() {
        return Ok(None);
    }
    let bytes = cx.memory().read_vec(times, 32)?;
    let at = |offset| word(&bytes, offset).cast_signed();
    Ok(Some([(at(0), at(8)), (at(16), at(24))]))
}

/// Linux: do_utimes(). A null path means the descriptor itself.
fn set_at(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    wanted: Wanted,
    flags: Flags,
) -> SysResult {
    if path.is_null() && directory != libc::AT_FDCWD {
        if flags.0 != 0 {
            return Err(Errno::EINVAL);
        }
        let description = cx.open_description(directory)?;
        return match description.file.place().cloned() {
            Some(place) => set(cx, &place, wanted),
            None if description.file.host().is_none() => DONE,
            None => Err(Errno::EPERM),
        };
    }
    flags.only(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    let place = place_at(cx, directory, path, flags)?;
    set(cx, &place, wanted)
}

fn set(cx: &mut Cx<'_>, place: &Place, wanted: Wanted) -> SysResult {
    let attributes = place.attributes(cx.kernel)?;
    let who = &cx.task()?.credentials;
    let is_now = matches!(wanted, None | Some([(_, NOW), (_, NOW)]));
    if !who.owns(attributes.uid) {
        // Whoever may write may say that it was just used; another time is the owner's to claim.
        if !is_now {
            return Err(Errno::EPERM);
        }
        if !who.may(MAY_WRITE, attributes.mode, attributes.uid, attributes.gid) {
            return Err(Errno::EACCES);
        }
    }
    let [access, modification] = wanted.unwrap_or([(0, NOW); 2]);
    let times = Timestamps {
        last_access: timespec(access),
        last_modification: timespec(modification),
    };
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let done = rustix::fs::utimensat(&**place.host()?, "", &times, flags);
    cx.kernel.files.file_changed(&attributes);
    done?;
    DONE
}

fn timespec((seconds, nanoseconds): (i64, i64)) -> Timespec {
    Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    }
}
