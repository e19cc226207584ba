//! What a thread shares with others, taken apart again; and rare calls on the caller's own memory, which the host carries out. unshare(2), setns(2).

use super::arguments::Flags;
use super::clone::{CLONE_FILES, CLONE_FS, CLONE_NAMESPACES, CLONE_SIGHAND, CLONE_SYSVSEM};
use super::{Cx, DONE, Outcome, SysResult};
use crate::errno::Errno;
use crate::kernel::bind::{CLONE_THREAD, CLONE_VM};
use crate::memory::Address;

pub fn unshare(cx: &mut Cx<'_>, flags: u64) -> SysResult {
    let alone = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
    let known = alone | CLONE_NAMESPACES | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM;
    if flags & !known != 0 || (flags & alone != 0 && cx.process()?.threads.len() > 1) {
        return Err(Errno::EINVAL);
    }
    if flags & CLONE_NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    let task = cx.task_mut()?;
    if flags & CLONE_FS != 0 {
        task.fs = task.fs.copy();
    }
    if flags & CLONE_FILES != 0 {
        task.files = task.files.copy();
    }
    DONE
}

/// There is no descriptor of a namespace to give. Linux looks at that first.
pub fn setns(cx: &mut Cx<'_>, fd: i32, _kind: i32) -> SysResult {
    cx.open_description(fd)?;
    Err(Errno::EPERM)
}

/// The caller's own; another's may be read by its tracer, which nobody is.
pub fn get_robust_list(cx: &mut Cx<'_>, tid: i32, _head: Address, _len: Address) -> SysResult {
    if tid == 0 || tid == cx.task()?.tid {
        return Ok(Outcome::Native);
    }
    let is_there = cx.kernel.tids.contains_key(&tid);
    Err(if is_there { Errno::EPERM } else { Errno::ESRCH })
}

macro_rules! own_memory {
    ($($name:ident($($type:ty),*);)*) => {
        $(
            pub fn $name(_cx: &mut Cx<'_>, $(_: $type),*) -> SysResult {
                Ok(Outcome::Native)
            }
        )*
    };
}

own_memory! {
    pkey_mprotect(u64, u64, Flags, i32);
    pkey_alloc(Flags, u64);
    pkey_free(i32);
    futex_waitv(Address, u32, Flags, Address, i32);
    futex_wake(Address, u64, i32, Flags);
    futex_wait(Address, u64, u64, Flags, Address, i32);
    futex_requeue(Address, Flags, i32, i32);
}
