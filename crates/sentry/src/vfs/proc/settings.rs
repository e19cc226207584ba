//! /proc/PID files that can be written, and those that tell what was set: names, out-of-memory scores, limits, id maps.

use std::num::{IntErrorKind, ParseIntError};

use rustix::fs::{Mode, OFlags};

use super::process::{process, task};
use super::{ProcNode, Who};
use crate::errno::{Errno, Result};
use crate::host;
use crate::kernel::Kernel;
use crate::kernel::credentials::{CAP_AUDIT_CONTROL, CAP_SYS_RESOURCE};
use crate::kernel::machine::read_below;
use crate::syscalls::Cx;

/// Hugetlb, elf headers, shared and private anonymous memory. core(5), the default.
const DEFAULT_CORE_FILTER: u32 = 0x33;
const OOM_MAX: i32 = 1000;
/// AUDIT_UID_UNSET, AUDIT_SID_UNSET.
const UNSET: u32 = u32::MAX;
pub const DEFAULT_TIMER_SLACK_NS: u64 = 50_000;

/// Takes what was written to a file.
pub fn store(cx: &mut Cx<'_>, node: &ProcNode, bytes: &[u8]) -> Result<()> {
    let ProcNode::Entry(who, path) = node else {
        return Err(Errno::EIO);
    };
    process(cx.kernel, *who)?;
    match *path {
        "comm" => set_name(cx, *who, bytes),
        "oom_score_adj" => set_oom_score_adj(cx, *who, number(bytes)?),
        "oom_adj" => {
            // The old scale ends at 15, and -17 is never. proc_pid_oom_adj(5).
            let old = number(bytes)?;
            if !(-17..=15).contains(&old) {
                return Err(Errno::EINVAL);
            }
            let new = if old == 15 {
                OOM_MAX
            } else {
                old * OOM_MAX / 17
            };
            set_oom_score_adj(cx, *who, new)
        }
        "coredump_filter" => {
            let filter = hexadecimal(bytes)?;
            cx.kernel.process_mut(who.pid)?.settings.core_filter = Some(filter);
            Ok(())
        }
        "timerslack_ns" => {
            let value = u64::try_from(number(bytes)?).map_err(|_| Errno::EINVAL)?;
            let host = task(cx.kernel, *who)?.host_tid;
            cx.kernel.task_mut(host)?.settings.timer_slack_ns = (value != 0).then_some(value);
            Ok(())
        }
        "loginuid" => set_login(cx, *who, bytes),
        // Maps are written once, at the making of a user namespace.
        "uid_map" | "gid_map" | "projid_map" | "setgroups" => Err(Errno::EPERM),
        // No security module: an attribute cannot be set.
        "attr/current" | "sched" => Err(Errno::EINVAL),
        _ => Err(Errno::EIO),
    }
}

/// A thread of the same process may rename. Linux: comm_write().
fn set_name(cx: &mut Cx<'_>, who: Who, bytes: &[u8]) -> Result<()> {
    if cx.task()?.pid != who.pid {
        return Err(Errno::EINVAL);
    }
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    // A newline at the end is kept, as Linux keeps it.
    let name = bytes[..end.min(15)].to_vec();
    let host = task(cx.kernel, who)?.host_tid;
    cx.kernel.task_mut(host)?.name = name;
    Ok(())
}

/// Of itself only, and once. Linux: proc_loginuid_write(), audit_set_loginuid().
fn set_login(cx: &mut Cx<'_>, who: Who, bytes: &[u8]) -> Result<()> {
    if task(cx.kernel, who)?.host_tid != cx.tid() {
        return Err(Errno::EPERM);
    }
    let uid: u32 = trimmed(bytes)?.parse().map_err(|error: ParseIntError| {
        if *error.kind() == IntErrorKind::PosOverflow {
            Errno::ERANGE
        } else {
            Errno::EINVAL
        }
    })?;
    let own = cx.task()?;
    if own.settings.login.is_some() && !own.credentials.has(CAP_AUDIT_CONTROL) {
        return Err(Errno::EPERM);
    }
    let login = (uid != UNSET).then(|| {
        cx.kernel.logins = cx.kernel.logins.wrapping_add(1);
        (uid, cx.kernel.logins)
    });
    cx.task_mut()?.settings.login = login;
    Ok(())
}

pub fn login_uid(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let login = task(kernel, who)?.settings.login;
    Ok(login.map_or(UNSET, |(uid, _)| uid).to_string().into_bytes())
}

pub fn session_id(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let login = task(kernel, who)?.settings.login;
    Ok(login.map_or(UNSET, |(_, id)| id).to_string().into_bytes())
}

fn set_oom_score_adj(cx: &mut Cx<'_>, who: Who, value: i32) -> Result<()> {
    if !(-OOM_MAX..=OOM_MAX).contains(&value) {
        return Err(Errno::EINVAL);
    }
    let is_privileged = cx.task()?.credentials.has(CAP_SYS_RESOURCE);
    let process = cx.kernel.process_mut(who.pid)?;
    let (host_pid, settings) = (process.host_pid, &mut process.settings);
    if value < settings.oom_score_adj_min && !is_privileged {
        return Err(Errno::EACCES);
    }
    settings.oom_score_adj = value;
    if is_privileged {
        settings.oom_score_adj_min = value;
    }
    tell_host_score(cx.kernel, host_pid, value);
    Ok(())
}

/// Who of the sandbox is killed first when memory is short is for its programs to say, but none is spared before the sentry: never below the zygote's score.
fn tell_host_score(kernel: &Kernel, host_pid: i32, value: i32) {
    let path = |pid: i32| format!("{pid}/oom_score_adj");
    let least = read_below(&kernel.host_proc, &path(kernel.zygote), 16).unwrap_or_default();
    let Ok(least) = number(&least) else { return };
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = host::openat(&kernel.host_proc, path(host_pid), flags, Mode::empty()) {
        // Refused where the host's own limit is higher: it stays as it was.
        let _ = host::write(file, value.max(least).to_string().as_bytes());
    }
}

fn trimmed(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map(str::trim)
        .map_err(|_| Errno::EINVAL)
}

fn number(bytes: &[u8]) -> Result<i32> {
    trimmed(bytes)?.parse().map_err(|_| Errno::EINVAL)
}

fn hexadecimal(bytes: &[u8]) -> Result<u32> {
    let text = trimmed(bytes)?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| Errno::EINVAL)
}

pub fn core_filter(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let filter = process(kernel, who)?.settings.core_filter;
    Ok(format!("{:08x}\n", filter.unwrap_or(DEFAULT_CORE_FILTER)).into_bytes())
}

pub fn oom_score_adj(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    Ok(format!("{}\n", process(kernel, who)?.settings.oom_score_adj).into_bytes())
}

pub fn oom_adj(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let value = process(kernel, who)?.settings.oom_score_adj;
    let old = if value == OOM_MAX {
        15
    } else {
        value * 17 / OOM_MAX
    };
    Ok(format!("{old}\n").into_bytes())
}

/// Linux: oom_badness(), scaled to 2000 and shifted as proc_oom_score() does: memory's share of all, and the adjustment.
pub fn oom_score(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let process = process(kernel, who)?;
    let path = format!("{}/statm", process.host_pid);
    let statm = read_below(&kernel.host_proc, &path, 256).unwrap_or_default();
    let resident: i64 = String::from_utf8_lossy(&statm)
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    let total = (kernel.machine.memory(&kernel.host_proc).total / 4096).max(1) as i64;
    let points = resident * 1000 / total + i64::from(process.settings.oom_score_adj);
    Ok(format!("{}\n", ((1000 + points) * 2 / 3).max(0)).into_bytes())
}

pub fn personality(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    Ok(format!("{:08x}\n", process(kernel, who)?.settings.personality).into_bytes())
}

pub fn timer_slack(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let slack = task(kernel, who)?.settings.timer_slack_ns;
    Ok(format!("{}\n", slack.unwrap_or(DEFAULT_TIMER_SLACK_NS)).into_bytes())
}

/// As the host has it for the container's user namespace.
fn id_map(kernel: &Kernel, file: &str) -> Vec<u8> {
    let path = format!("{}/{file}", kernel.who);
    read_below(&kernel.host_proc, &path, 64 << 10).unwrap_or_default()
}

pub fn uid_map(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    Ok(id_map(kernel, "uid_map"))
}

pub fn gid_map(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    Ok(id_map(kernel, "gid_map"))
}

pub fn limits(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let shown = |limit: u64| {
        if limit == u64::MAX {
            "unlimited".to_owned()
        } else {
            limit.to_string()
        }
    };
    let mut text = format!(
        "{:<25} {:<20} {:<20} {:<10}\n",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    );
    for ((name, unit), (soft, hard)) in NAMES.iter().zip(process(kernel, who)?.limits.0) {
        text.push_str(&format!(
            "{name:<25} {:<20} {:<20} ",
            shown(soft),
            shown(hard)
        ));
        if !unit.is_empty() {
            text.push_str(&format!("{unit:<10}"));
        }
        text.push('\n');
    }
    Ok(text.into_bytes())
}
