//! Small operations on the process and its namespaces.

use std::fs;
use std::io::Write;

use casemate_host::sched::{
    SchedAttr, set_affinity, set_io_priority, set_memory_policy, set_scheduler,
};
use casemate_host::{clone, process};
use casemate_plan::Namespace;
use casemate_plan::op::Scheduler;
use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, openat2};
use rustix::io::Errno;

use super::mount::c_string;
use crate::error::{Context, Error, Result};

pub(super) fn unshare(kinds: &[Namespace]) -> Result<()> {
    for kind in kinds {
        let flag = match kind {
            Namespace::Cgroup => 0x200_0000,
            Namespace::Time => 0x80,
            other => return Err(Error::plain(format!("{other:?} is cloned, not unshared"))),
        };
        clone::unshare(flag).context(|| format!("unshare {kind:?}").to_lowercase())?;
    }
    Ok(())
}

pub(super) fn time_offsets(
    monotonic: Option<(i64, u32)>,
    boottime: Option<(i64, u32)>,
) -> Result<()> {
    let lines: Vec<String> = [("monotonic", monotonic), ("boottime", boottime)]
        .into_iter()
        .filter_map(|(clock, offset)| {
            offset.map(|(seconds, nanoseconds)| format!("{clock} {seconds} {nanoseconds}\n"))
        })
        .collect();
    fs::write("/proc/self/timens_offsets", lines.concat())
        .context(|| "/proc/self/timens_offsets".into())
}

pub(super) fn loopback_up() -> Result<()> {
    process::loopback_up().context(|| "bring lo up".into())
}

/// Writes /proc/sys. The key's dots are slashes; a key that would leave the directory is refused (it was checked by the lowering, too).
pub(super) fn sysctl(key: &str, value: &str) -> Result<()> {
    let path = if key.contains('/') {
        key.to_owned()
    } else {
        key.replace('.', "/")
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::plain(format!(
            "sysctl {key:?} is not a path below /proc/sys"
        )));
    }
    write_proc(&format!("/proc/sys/{path}"), value).context(|| format!("sysctl {key} = {value:?}"))
}

/// Writes a file of procfs in the container. What lies at /proc is the image's or a mount's choice: it must be procfs, and no link may lead out of it
/// (CVE-2025-52881: the write would have gone where the image wanted).
pub(super) fn write_proc(path: &str, text: &str) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    if fstatfs(&file)?.f_type != PROC_SUPER_MAGIC {
        return Err(std::io::Error::from_raw_os_error(libc::EXDEV));
    }
    fs::File::from(file).write_all(text.as_bytes())
}

pub(super) fn hostname(value: &str) -> Result<()> {
    process::set_hostname(value.as_bytes()).context(|| format!("hostname {value:?}"))
}

pub(super) fn domainname(value: &str) -> Result<()> {
    process::set_domainname(value.as_bytes()).context(|| format!("domainname {value:?}"))
}

pub(super) fn setsid() -> Result<()> {
    match rustix::process::setsid() {
        Ok(_) | Err(Errno::PERM) => Ok(()), // EPERM: already a group's leader, as process 1 of a pid namespace can be
        Err(error) => Err(Error::io("setsid", &error.into())),
    }
}

pub(super) fn keyring(name: &str) -> Result<()> {
    match process::join_session_keyring(&c_string(name)?) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EDQUOT)) => {
            Err(Error::io("session keyring", &error))
        }
        _ => Ok(()),
    }
}

pub(super) fn rlimit(kind: &str, soft: u64, hard: u64) -> Result<()> {
    let number = rlimit_number(kind)?;
    process::set_rlimit(number, soft, hard).context(|| format!("{kind} soft {soft} hard {hard}"))
}

/// Raises this process's own hard limit to `hard` if it is lower; its soft one stays.
pub(super) fn raise_hard_limit(kind: &str, hard: u64) -> Result<()> {
    let number = rlimit_number(kind)?;
    let (soft, current) = process::rlimit(number).context(|| kind.to_owned())?;
    if hard <= current {
        return Ok(());
    }
    process::set_rlimit(number, soft, hard).context(|| format!("{kind} hard {hard}"))
}

/// The kernel's number of a limit's name.
pub(super) fn rlimit_number(kind: &str) -> Result<u32> {
    const NAMES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    let name = kind.strip_prefix("RLIMIT_").unwrap_or(kind);
    let number = NAMES
        .iter()
        .position(|known| *known == name)
        .and_then(|index| u32::try_from(index).ok());
    number.ok_or_else(|| Error::plain(format!("unknown rlimit {kind:?}")))
}

pub(super) fn scheduler(scheduler: &Scheduler) -> Result<()> {
    let attributes = SchedAttr {
        size: 0,
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        util_min: scheduler.util_min,
        util_max: scheduler.util_max,
    };
    set_scheduler(attributes).context(|| format!("scheduler policy {}", scheduler.policy))
}

pub(super) fn io_priority(class: i32, priority: i32) -> Result<()> {
    set_io_priority(class, priority)
        .context(|| format!("io priority class {class} level {priority}"))
}

pub(super) fn cpu_affinity(cpus: &[u32]) -> Result<()> {
    set_affinity(cpus).context(|| format!("affinity to CPUs {cpus:?}"))
}

pub(super) fn memory_policy(mode: i32, flags: i32, nodes: &[u32]) -> Result<()> {
    set_memory_policy(mode, flags, nodes)
        .context(|| format!("memory policy {mode} on nodes {nodes:?}"))
}

pub(super) fn personality(persona: u64) -> Result<()> {
    process::set_personality(persona).context(|| format!("personality {persona:#x}"))
}
