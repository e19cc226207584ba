//! Another process's memory, copied through the sentry: process_vm_readv(2).

use std::collections::VecDeque;

use super::{Cx, SysResult, value};
use crate::errno::{Errno, Result};
use crate::memory::{Address, Buffer, Memory, Stretch};
use crate::vfs::proc::process::may_trace_as;

const CHUNK: usize = 64 << 10;

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

pub fn process_vm_readv(
    cx: &mut Cx<'_>,
    pid: i32,
    local: Address,
    nr_local: u64,
    remote: Address,
    nr_remote: u64,
    flags: u64,
) -> SysResult {
    transfer(
        cx,
        pid,
        (local, nr_local),
        (remote, nr_remote),
        flags,
        Way::Read,
    )
}

pub fn process_vm_writev(
    cx: &mut Cx<'_>,
    pid: i32,
    local: Address,
    nr_local: u64,
    remote: Address,
    nr_remote: u64,
    flags: u64,
) -> SysResult {
    transfer(
        cx,
        pid,
        (local, nr_local),
        (remote, nr_remote),
        flags,
        Way::Write,
    )
}

fn transfer(
    cx: &mut Cx<'_>,
    pid: i32,
    local: (Address, u64),
    remote: (Address, u64),
    flags: u64,
    way: Way,
) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let local = cx.memory().read_iovec(local.0, local.1)?;
    let remote = cx.memory().read_iovec(remote.0, remote.1)?;
    let own = Buffer::new(cx.memory(), local);
    if own.remaining() == 0 || remote.iter().all(|stretch| stretch.len == 0) {
        return value(0);
    }
    let target = target(cx, pid)?;
    value(copy(own, target, remote.into(), way)?)
}

/// Whose memory it is, if the caller may touch it: by the real ids. Linux: mm_access(PTRACE_MODE_ATTACH_REALCREDS).
fn target(cx: &Cx<'_>, pid: i32) -> Result<Memory> {
    let host = *cx.kernel.tids.get(&pid).ok_or(Errno::ESRCH)?;
    let task = cx.kernel.task(host)?;
    let own = cx.task()?;
    let ids = (own.credentials.uid, own.credentials.gid);
    if own.pid != task.pid && !may_trace_as(cx.kernel, &own.credentials, ids, task) {
        return Err(Errno::EPERM);
    }
    Ok(Memory { tid: host })
}

/// Up to the first byte that is not there; `EFAULT` if that is the very first.
fn copy(mut own: Buffer, target: Memory, mut remote: VecDeque<Stretch>, way: Way) -> Result<usize> {
    let mut done = 0;
    while let Some(stretch) = remote.pop_front() {
        let mut theirs = Buffer::new(target, vec![stretch]);
        while theirs.remaining() > 0 && own.remaining() > 0 {
            let (from, to) = match way {
                Way::Read => (&mut theirs, &mut own),
                Way::Write => (&mut own, &mut theirs),
            };
            let room = to.remaining().min(CHUNK);
            let copied = from.take_vec(room).and_then(|bytes| {
                let wanted = bytes.len();
                to.put(&bytes).map(|count| (count, wanted))
            });
            match copied {
                Ok((count, wanted)) => {
                    done += count;
                    if count < wanted || count == 0 {
                        return Ok(done);
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            }
        }
    }
    Ok(done)
}
