//! inotify(7): the host's, one of its instances for each of the sandbox's. Only places that the program has reached are watched.

use std::os::fd::AsRawFd;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::arguments::Flags;
use super::event::add;
use super::{Cx, DONE, SysResult, value};
use crate::errno::Errno;
use crate::kernel::credentials::MAY_READ;
use crate::memory::Address;
use crate::vfs::host_events::HostEvents;

pub fn inotify_init(cx: &mut Cx<'_>) -> SysResult {
    inotify_init1(cx, Flags(0))
}

pub fn inotify_init1(cx: &mut Cx<'_>, flags: Flags) -> SysResult {
    flags.only(libc::IN_CLOEXEC | libc::IN_NONBLOCK)?;
    let host = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let file = HostEvents::new(host, &cx.kernel.watcher)?;
    add(cx, file, libc::O_RDONLY, flags)
}

pub fn inotify_add_watch(cx: &mut Cx<'_>, fd: i32, path: Address, mask: Flags) -> SysResult {
    const ALL: u32 = 0xFFF;
    // What Linux looks at. IN_DONT_FOLLOW was heeded by then.
    const KNOWN: u32 = 0xF500_EFFF;
    const BOTH: u32 = libc::IN_MASK_ADD | libc::IN_MASK_CREATE;
    if mask.0 & (ALL | libc::IN_UNMOUNT | libc::IN_Q_OVERFLOW | libc::IN_IGNORED) == 0
        || mask.0 & BOTH == BOTH
    {
        return Err(Errno::EINVAL);
    }
    let description = cx.open_description(fd)?;
    let host = HostEvents::of(&description)?;
    let path = cx.memory().read_path(path)?;
    let follow = mask.0 & libc::IN_DONT_FOLLOW == 0;
    let place = cx.resolve(libc::AT_FDCWD, &path, follow)?;
    check_readable(cx, &place)?;
    // The link leads to the very place that was walked to: no name is looked up again.
    let link = format!("/proc/self/fd/{}", place.host()?.as_raw_fd());
    cx.kernel.files.opens_are_watched();
    let flags = WatchFlags::from_bits_retain(mask.0 & KNOWN);
    value(inotify::add_watch(host, link, flags)?)
}

/// A watch needs permission to read. inotify_add_watch(2), EACCES.
fn check_readable(cx: &Cx<'_>, place: &crate::vfs::place::Place) -> crate::errno::Result<()> {
    let attributes = place.attributes(cx.kernel)?;
    let who = &cx.task()?.credentials;
    if who.may(MAY_READ, attributes.mode, attributes.uid, attributes.gid) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

pub fn inotify_rm_watch(cx: &mut Cx<'_>, fd: i32, watch: i32) -> SysResult {
    let description = cx.open_description(fd)?;
    let host = HostEvents::of(&description)?;
    if watch < 0 {
        return Err(Errno::EINVAL);
    }
    inotify::remove_watch(host, watch)?;
    DONE
}
