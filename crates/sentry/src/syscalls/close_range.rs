//! close_range(2).

use super::arguments::Flags;
use super::{Cx, DONE, SysResult};
use crate::errno::Errno;

const UNSHARE: i32 = 2;
const CLOEXEC: i32 = 4;

pub fn close_range(cx: &mut Cx<'_>, first: u32, last: u32, flags: Flags) -> SysResult {
    flags.only(UNSHARE | CLOEXEC)?;
    if first > last {
        return Err(Errno::EINVAL);
    }
    if flags.has(UNSHARE) {
        let task = cx.task_mut()?;
        if task.files.is_shared() {
            task.files = task.files.copy();
        }
    }
    let (files, pid) = {
        let task = cx.task()?;
        (task.files.clone(), task.pid)
    };
    let mut closed = Vec::new();
    {
        let mut table = files.lock();
        for fd in table.numbers() {
            if !(first..=last).contains(&fd.cast_unsigned()) {
                continue;
            }
            if flags.has(CLOEXEC) {
                table.set_close_on_exec(fd, true)?;
            } else {
                closed.push((fd, table.remove(fd)?));
            }
        }
    }
    for (fd, description) in closed {
        cx.kernel.descriptor_closed(pid, fd, &description);
    }
    DONE
}
