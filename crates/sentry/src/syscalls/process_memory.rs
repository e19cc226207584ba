//! Another process's memory, copied through the sentry: process_vm_readv(2).

use super::{Cx, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::ptrace::sites::View;
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
    let is_own = cx.kernel.process_of(target.tid)?.pid == cx.process()?.pid;
    let view = (!is_own).then(|| cx.kernel.memory_view(target.tid));
    if way == Way::Write && !is_own {
        for stretch in &remote {
            let (start, len) = (stretch.address.0, stretch.len as u64);
            cx.kernel.restore_sites(target.tid, start, len);
        }
    }
    value(Theirs { target, view, way }.copy(own, &remote)?)
}

/// The other memory. Of another process there is what a debugger sees; one's own is as it is, which unwinders read by this call.
struct Theirs {
    target: Memory,
    view: Option<View>,
    way: Way,
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

impl Theirs {
    /// Up to the first byte that is not there; `EFAULT` if that is the very first.
    fn copy(&self, mut own: Buffer, remote: &[Stretch]) -> Result<usize> {
        let mut done = 0;
        for stretch in remote {
            let (moved, is_whole) = match self.copy_stretch(&mut own, *stretch) {
                Ok(moved) => moved,
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            };
            done += moved;
            if !is_whole {
                break;
            }
        }
        Ok(done)
    }

    /// How much of a stretch was moved, and whether that is all that was to be. `EFAULT`: nothing of it is there.
    fn copy_stretch(&self, own: &mut Buffer, stretch: Stretch) -> Result<(usize, bool)> {
        let Stretch { address, len } = stretch;
        let view = self.view.as_ref();
        let shown = view.map_or(len, |view| view.shown(address.0, len));
        let wanted = len.min(own.remaining());
        if shown == 0 && wanted > 0 {
            return Err(Errno::EFAULT);
        }
        let mut moved = 0;
        while moved < wanted.min(shown) {
            let at = address.offset(moved as u64);
            let len = (wanted.min(shown) - moved).min(CHUNK);
            let piece = Stretch { address: at, len };
            let mut theirs = Buffer::new(self.target, vec![piece]);
            let count = match self.copy_piece(own, &mut theirs, at) {
                Ok(count) => count,
                Err(error) if moved == 0 => return Err(error),
                Err(_) => break,
            };
            moved += count;
            if count < len {
                break;
            }
        }
        Ok((moved, moved == wanted))
    }

    fn copy_piece(&self, own: &mut Buffer, theirs: &mut Buffer, at: Address) -> Result<usize> {
        let len = theirs.remaining();
        if self.way == Way::Write {
            return theirs.put(&own.take_vec(len)?);
        }
        let mut bytes = theirs.take_vec(len)?;
        if let Some(view) = &self.view {
            view.show_sites(at.0, &mut bytes);
        }
        own.put(&bytes)
    }
}
