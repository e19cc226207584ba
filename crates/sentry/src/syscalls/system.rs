//! The system at large, and the caller's own settings.

use super::arguments::Flags;
use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::kernel::credentials::CAP_SYS_RESOURCE;
use crate::memory::{Address, word};

/// What the sandbox says it is. A kernel's release tells libraries what they may try.
pub const RELEASE: &str = "6.1.0";
pub const VERSION: &str = "#1 SMP casemate";

pub fn uname(cx: &mut Cx<'_>, name: Address) -> SysResult {
    const FIELD: usize = 65;
    let mut bytes = Vec::with_capacity(6 * FIELD);
    for text in [
        b"Linux",
        &cx.kernel.hostname[..],
        RELEASE.as_bytes(),
        VERSION.as_bytes(),
        b"x86_64",
        &cx.kernel.domainname,
    ] {
        let end = bytes.len() + FIELD;
        bytes.extend_from_slice(&text[..text.len().min(FIELD - 1)]);
        bytes.resize(end, 0);
    }
    cx.memory().write(name, &bytes)?;
    DONE
}

pub fn umask(cx: &mut Cx<'_>, mask: u32) -> SysResult {
    let task = cx.task()?;
    let old = std::mem::replace(&mut task.fs.lock().umask, mask & 0o777);
    value(old)
}

pub fn getrandom(cx: &mut Cx<'_>, buf: Address, count: usize, flags: Flags) -> SysResult {
    flags.only(7)?;
    let mut bytes = vec![0; count.min(32 << 20)];
    crate::host::random(&mut bytes)?;
    cx.memory().write(buf, &bytes)?;
    value(bytes.len())
}

/// Base registers are the thread's own.
pub fn arch_prctl(_cx: &mut Cx<'_>, code: i32, _address: u64) -> SysResult {
    // ARCH_SET_GS, ARCH_SET_FS, ARCH_GET_FS, ARCH_GET_GS.
    if (0x1001..=0x1004).contains(&code) {
        Ok(Outcome::Native)
    } else {
        Err(Errno::EINVAL)
    }
}

pub fn set_tid_address(_cx: &mut Cx<'_>, _address: Address) -> SysResult {
    Ok(Outcome::Native)
}

pub fn set_robust_list(_cx: &mut Cx<'_>, _head: Address, _len: usize) -> SysResult {
    Ok(Outcome::Native)
}

pub fn rseq(
    _cx: &mut Cx<'_>,
    _area: Address,
    _len: u32,
    _flags: Flags,
    _signature: u32,
) -> SysResult {
    Ok(Outcome::Native)
}

pub fn prlimit64(
    cx: &mut Cx<'_>,
    pid: i32,
    resource: u32,
    new: Address,
    old: Address,
) -> SysResult {
    let pid = if pid == 0 { cx.task()?.pid } else { pid };
    may_limit(cx, pid)?;
    let index = resource as usize;
    let current = *cx
        .kernel
        .process(pid)?
        .limits
        .0
        .get(index)
        .ok_or(Errno::EINVAL)?;
    if !new.is_null() {
        let bytes = cx.memory().read_vec(new, 16)?;
        let wanted = (word(&bytes, 0), word(&bytes, 8));
        if wanted.0 > wanted.1 {
            return Err(Errno::EINVAL);
        }
        if wanted.1 > current.1 && !cx.task()?.credentials.has(CAP_SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        if resource == libc::RLIMIT_NOFILE as _ && wanted.1 > MOST_FILES {
            return Err(Errno::EPERM);
        }
        let process = cx.kernel.process_mut(pid)?;
        process.limits.0[index] = wanted;
        if resource == libc::RLIMIT_FSIZE as _ {
            // A window knows no limit.
            crate::vfs::windows::all_ended();
        }
        let host_pid = process.host_pid;
        limit_host(cx.kernel, host_pid, resource, wanted.0);
    }
    if !old.is_null() {
        let mut bytes = current.0.to_le_bytes().to_vec();
        bytes.extend(current.1.to_le_bytes());
        cx.memory().write(old, &bytes)?;
    }
    DONE
}

/// /proc/sys/fs/nr_open: no process has more descriptors.
const MOST_FILES: u64 = 1 << 20;

/// Whose limits may be asked for and set. Linux: check_prlimit_permission().
fn may_limit(cx: &Cx<'_>, pid: i32) -> crate::errno::Result<()> {
    let own = cx.task()?;
    if own.pid == pid {
        return Ok(());
    }
    let target = cx
        .kernel
        .leader(cx.kernel.process(pid)?)
        .ok_or(Errno::ESRCH)?;
    let (who, theirs) = (&own.credentials, &target.credentials);
    let is_same = [theirs.uid, theirs.euid, theirs.suid] == [who.uid; 3]
        && [theirs.gid, theirs.egid, theirs.sgid] == [who.gid; 3];
    if is_same || who.has(CAP_SYS_RESOURCE) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// What concerns memory is the host's to enforce: its soft limit follows, as far as its own hard limit goes.
fn limit_host(kernel: &Kernel, host_pid: i32, resource: u32, soft: u64) {
    let is_hosts = [
        libc::RLIMIT_DATA as _,
        libc::RLIMIT_STACK as _,
        libc::RLIMIT_AS as _,
        libc::RLIMIT_MEMLOCK as _,
    ]
    .contains(&resource);
    if is_hosts {
        let hard = kernel.host_limits.0[resource as usize].1;
        // Refused: it holds on the books alone.
        let _ = casemate_platform::process::set_limit(host_pid, resource, soft.min(hard), hard);
    }
}

pub fn prctl(cx: &mut Cx<'_>, option: i32, a: u64, b: u64, c: u64, d: u64) -> SysResult {
    if cx.task()?.image.is_some() {
        // The zygote's child ties itself to the zygote; nothing else before the loader is anybody's business.
        let is_tie = option == libc::PR_SET_PDEATHSIG && a == libc::SIGKILL as u64;
        return if is_tie {
            Ok(Outcome::Native)
        } else {
            Err(Errno::EPERM)
        };
    }
    match option {
        libc::PR_SET_NAME => {
            let mut name = cx
                .memory()
                .read_string(Address(a), 16, Errno::EINVAL)
                .or_else(|_| cx.memory().read_vec(Address(a), 15))?;
            name.truncate(15);
            cx.task_mut()?.name = name;
            DONE
        }
        libc::PR_GET_NAME => {
            let mut name = cx.task()?.name.clone();
            name.resize(16, 0);
            cx.memory().write(Address(a), &name)?;
            DONE
        }
        libc::PR_SET_PDEATHSIG => {
            if a > 64 {
                return Err(Errno::EINVAL);
            }
            cx.task_mut()?.parent_death_signal = a as i32;
            DONE
        }
        libc::PR_GET_PDEATHSIG => {
            cx.memory()
                .write_i32(Address(a), cx.task()?.parent_death_signal)?;
            DONE
        }
        libc::PR_SET_DUMPABLE => {
            if a > 1 {
                return Err(Errno::EINVAL);
            }
            cx.process_mut()?.dumpable = a == 1;
            DONE
        }
        libc::PR_GET_DUMPABLE => value(i32::from(cx.process()?.dumpable)),
        libc::PR_SET_CHILD_SUBREAPER => {
            cx.process_mut()?.is_subreaper = a != 0;
            DONE
        }
        libc::PR_GET_CHILD_SUBREAPER => {
            cx.memory()
                .write_i32(Address(a), i32::from(cx.process()?.is_subreaper))?;
            DONE
        }
        libc::PR_SET_NO_NEW_PRIVS => {
            if a != 1 {
                return Err(Errno::EINVAL);
            }
            let mut who = (*cx.task()?.credentials).clone();
            who.no_new_privs = true;
            cx.task_mut()?.credentials = std::sync::Arc::new(who);
            DONE
        }
        libc::PR_GET_NO_NEW_PRIVS => value(i32::from(cx.task()?.credentials.no_new_privs)),
        libc::PR_CAPBSET_READ => {
            if a > 40 {
                return Err(Errno::EINVAL);
            }
            value(cx.task()?.credentials.bounding >> a & 1)
        }
        libc::PR_SET_VMA => DONE,
        _ => super::privileges::prctl(cx, option, a, b, c, d),
    }
}
