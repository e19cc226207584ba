//! clone3(2): its structure is read once, checked as Linux does, and the clone remade as a plain one (`kernel/recloning.rs`).

use super::clone::{CLONE_DETACHED, CLONE_NAMESPACES, CLONE_PIDFD, CSIGNAL, KNOWN, check_pidfd};
use super::clone::{CLONE_PARENT_SETTID, CLONE_SIGHAND};
use super::{Cx, SysResult, file_systems};
use crate::errno::{Errno, Result};
use crate::kernel::bind::{CLONE_PARENT, CLONE_THREAD, CLONE_VM};
use crate::kernel::machine::read_below;
use crate::kernel::recloning::Recloning;
use crate::memory::{Address, half, word};

const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// CLONE_ARGS_SIZE_VER0, and VER2, the newest.
const FIRST_SIZE: usize = 64;
const SIZE: usize = 88;
const PAGE: usize = 4096;
const TASK_SIZE: u64 = 0x7FFF_FFFF_F000;
const LAST_SIGNAL: u64 = 64;
const MOST_NAMESPACES: u64 = 32;
/// The sandbox's pid namespace, and the one around it: as much as a program can know of.
const NAMESPACES: usize = 2;
/// PID_MAX_DEFAULT.
const MOST_PROCESSES: i32 = 1 << 15;

/// `struct clone_args`.
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

pub fn clone3(cx: &mut Cx<'_>, arguments: Address, size: usize) -> SysResult {
    let given = read(cx, arguments, size)?;
    let set_tids = given.check(cx, size)?;
    if given.flags & CLONE_NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    check_set_tids(cx, &set_tids)?;
    let has_pidfd = given.flags & CLONE_PIDFD != 0;
    if has_pidfd {
        if given.flags & CLONE_PARENT_SETTID != 0 && given.pidfd == given.parent_tid {
            return Err(Errno::EINVAL);
        }
        check_pidfd(cx, Address(given.pidfd))?;
    }
    if given.flags & CLONE_INTO_CGROUP != 0 {
        return Err(check_cgroup(cx, given.cgroup as i32));
    }
    let recloning = Recloning {
        stack: given.stack.wrapping_add(given.stack_size),
        parent_tid: given.parent_tid,
        child_tid: given.child_tid,
        tls: given.tls,
        pidfd: has_pidfd.then_some(given.pidfd),
        clears_handlers: given.flags & CLONE_CLEAR_SIGHAND != 0,
        ..Recloning::new(given.flags & KNOWN, given.exit_signal)
    };
    let call = cx.call;
    cx.kernel.begin_recloning(&call, recloning, true)
}

/// Linux: copy_struct_from_user().
fn read(cx: &Cx<'_>, at: Address, size: usize) -> Result<Arguments> {
    if size > PAGE {
        return Err(Errno::E2BIG);
    }
    if size < FIRST_SIZE {
        return Err(Errno::EINVAL);
    }
    let mut bytes = cx.memory().read_vec(at, size)?;
    if bytes.iter().skip(SIZE).any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    bytes.resize(SIZE, 0);
    Ok(Arguments {
        flags: word(&bytes, 0),
        pidfd: word(&bytes, 8),
        child_tid: word(&bytes, 16),
        parent_tid: word(&bytes, 24),
        exit_signal: word(&bytes, 32),
        stack: word(&bytes, 40),
        stack_size: word(&bytes, 48),
        tls: word(&bytes, 56),
        set_tid: word(&bytes, 64),
        set_tid_size: word(&bytes, 72),
        cgroup: word(&bytes, 80),
    })
}

impl Arguments {
    /// Linux: copy_clone_args_from_user(), clone3_args_valid(), and what copy_process() looks at first. The numbers of set_tid come back.
    fn check(&self, cx: &Cx<'_>, size: usize) -> Result<Vec<i32>> {
        let (has_tids, count) = (self.set_tid != 0, self.set_tid_size);
        if count > MOST_NAMESPACES || has_tids != (count > 0) || self.exit_signal > LAST_SIGNAL {
            return Err(Errno::EINVAL);
        }
        let into_cgroup = self.flags & CLONE_INTO_CGROUP != 0;
        if into_cgroup && (self.cgroup > i32::MAX as u64 || size < SIZE) {
            return Err(Errno::EINVAL);
        }
        let raw = cx
            .memory()
            .read_vec(Address(self.set_tid), 4 * count as usize)?;
        let is_shared = self.flags & CLONE_SIGHAND != 0;
        let known = KNOWN & !CSIGNAL & !CLONE_DETACHED | CLONE_NAMESPACES;
        let is_wrong = self.flags & !(known | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP) != 0
            || is_shared && self.flags & CLONE_CLEAR_SIGHAND != 0
            || self.flags & (CLONE_THREAD | CLONE_PARENT) != 0 && self.exit_signal != 0
            || !self.has_valid_stack()
            || self.flags & CLONE_THREAD != 0 && !is_shared
            || is_shared && self.flags & CLONE_VM == 0;
        if is_wrong {
            return Err(Errno::EINVAL);
        }
        Ok((0..count as usize)
            .map(|index| half(&raw, 4 * index).cast_signed())
            .collect())
    }

    /// Linux: clone3_stack_valid().
    fn has_valid_stack(&self) -> bool {
        if self.stack == 0 || self.stack_size == 0 {
            return self.stack == self.stack_size;
        }
        self.stack
            .checked_add(self.stack_size)
            .is_some_and(|end| end <= TASK_SIZE)
    }
}

/// Linux: alloc_pid(). To choose numbers takes CAP_CHECKPOINT_RESTORE in the host's pid namespace of the sandbox, which no program has.
fn check_set_tids(cx: &Cx<'_>, tids: &[i32]) -> Result<()> {
    let Some(first) = tids.first() else {
        return Ok(());
    };
    let most = read_below(&cx.kernel.host_proc, "sys/kernel/pid_max", 32)
        .and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok());
    let most = most.unwrap_or(MOST_PROCESSES);
    if tids.len() > NAMESPACES || !(1..most).contains(first) {
        return Err(Errno::EINVAL);
    }
    Err(Errno::EPERM)
}

/// Linux: cgroup_get_from_fd(), cgroup_may_write(). No cgroup is writable.
fn check_cgroup(cx: &Cx<'_>, fd: i32) -> Errno {
    let is_cgroup = cx
        .description(fd)
        .is_ok_and(|description| file_systems::is_cgroup2(&*description.file));
    if is_cgroup {
        Errno::EACCES
    } else {
        Errno::EBADF
    }
}
