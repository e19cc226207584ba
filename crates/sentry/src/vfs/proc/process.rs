//! /proc/PID and /proc/PID/task/TID: one row per file, who may look, and where the links lead. proc_pid(5).

use super::{
    Listed, ProcNode, Who, entry_kind, fds, maps, mounts, network, settings, stat, status, system,
};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::credentials::Credentials;
use crate::kernel::task::{Process, Task};
use crate::vfs::attributes::Attributes;
use crate::vfs::place::Place;

const CAP_SYS_PTRACE: u32 = 19;
const FILE: u32 = libc::S_IFREG;
const DIRECTORY: u32 = libc::S_IFDIR;
const LINK: u32 = libc::S_IFLNK;

/// Who may read a file, beyond its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Anybody,
    /// Who could trace the process. ptrace(2), "Ptrace access mode checking".
    Tracer,
}
use Access::{Anybody, Tracer};

struct Row {
    path: &'static str,
    mode: u32,
    access: Access,
    text: fn(&Kernel, Who) -> Result<Vec<u8>>,
}

const fn row(
    path: &'static str,
    mode: u32,
    access: Access,
    text: fn(&Kernel, Who) -> Result<Vec<u8>>,
) -> Row {
    Row {
        path,
        mode,
        access,
        text,
    }
}

fn no_text(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    Err(Errno::EINVAL)
}

/// All files, as Linux lists and guards them. Directories stand before what they hold.
const ROWS: &[Row] = &[
    row("attr", DIRECTORY | 0o555, Anybody, no_text),
    row("attr/current", FILE | 0o666, Anybody, no_text),
    row("auxv", FILE | 0o400, Tracer, status::auxiliary),
    row("cgroup", FILE | 0o444, Anybody, status::cgroup),
    row("children", FILE | 0o444, Anybody, status::children),
    row("cmdline", FILE | 0o444, Anybody, status::command_line),
    row("comm", FILE | 0o644, Anybody, status::command),
    row(
        "coredump_filter",
        FILE | 0o644,
        Anybody,
        settings::core_filter,
    ),
    row("cpuset", FILE | 0o444, Anybody, |_, _| Ok(b"/\n".to_vec())),
    row("cwd", LINK | 0o777, Tracer, no_text),
    row("environ", FILE | 0o400, Tracer, status::environment),
    row("exe", LINK | 0o777, Tracer, no_text),
    row("fd", DIRECTORY | 0o500, Tracer, no_text),
    row("fdinfo", DIRECTORY | 0o555, Tracer, no_text),
    row("gid_map", FILE | 0o644, Anybody, settings::gid_map),
    row("io", FILE | 0o400, Tracer, status::io),
    row("limits", FILE | 0o444, Anybody, settings::limits),
    row("loginuid", FILE | 0o644, Anybody, settings::login_uid),
    row("maps", FILE | 0o444, Tracer, maps::maps),
    row("mem", FILE | 0o600, Tracer, no_text),
    row("mountinfo", FILE | 0o444, Anybody, mounts::mountinfo),
    row("mounts", FILE | 0o444, Anybody, mounts::mounts),
    row("mountstats", FILE | 0o400, Anybody, mounts::mountstats),
    row("net", DIRECTORY | 0o555, Anybody, no_text),
    row("net/arp", FILE | 0o444, Anybody, network::arp),
    row("net/dev", FILE | 0o444, Anybody, network::dev),
    row("net/if_inet6", FILE | 0o444, Anybody, network::empty),
    row("net/netlink", FILE | 0o444, Anybody, network::netlink),
    row("net/packet", FILE | 0o444, Anybody, network::packet),
    row("net/protocols", FILE | 0o444, Anybody, network::empty),
    row("net/raw", FILE | 0o444, Anybody, network::raw),
    row("net/raw6", FILE | 0o444, Anybody, network::raw6),
    row("net/route", FILE | 0o444, Anybody, network::route),
    row("net/sockstat", FILE | 0o444, Anybody, network::sockstat),
    row("net/tcp", FILE | 0o444, Anybody, network::tcp),
    row("net/tcp6", FILE | 0o444, Anybody, network::tcp6),
    row("net/udp", FILE | 0o444, Anybody, network::udp),
    row("net/udp6", FILE | 0o444, Anybody, network::udp6),
    row("net/unix", FILE | 0o444, Anybody, network::unix),
    row("ns", DIRECTORY | 0o511, Tracer, no_text),
    row("ns/cgroup", LINK | 0o777, Tracer, no_text),
    row("ns/ipc", LINK | 0o777, Tracer, no_text),
    row("ns/mnt", LINK | 0o777, Tracer, no_text),
    row("ns/net", LINK | 0o777, Tracer, no_text),
    row("ns/pid", LINK | 0o777, Tracer, no_text),
    row("ns/pid_for_children", LINK | 0o777, Tracer, no_text),
    row("ns/time", LINK | 0o777, Tracer, no_text),
    row("ns/time_for_children", LINK | 0o777, Tracer, no_text),
    row("ns/user", LINK | 0o777, Tracer, no_text),
    row("ns/uts", LINK | 0o777, Tracer, no_text),
    row("oom_adj", FILE | 0o644, Anybody, settings::oom_adj),
    row("oom_score", FILE | 0o444, Anybody, settings::oom_score),
    row(
        "oom_score_adj",
        FILE | 0o644,
        Anybody,
        settings::oom_score_adj,
    ),
    row("pagemap", FILE | 0o400, Tracer, no_text),
    row("personality", FILE | 0o400, Tracer, settings::personality),
    row("projid_map", FILE | 0o644, Anybody, settings::uid_map),
    row("root", LINK | 0o777, Tracer, no_text),
    row("sched", FILE | 0o644, Anybody, status::sched),
    row("schedstat", FILE | 0o444, Anybody, status::schedstat),
    row("sessionid", FILE | 0o444, Anybody, settings::session_id),
    row("setgroups", FILE | 0o644, Anybody, |_, _| {
        Ok(b"allow\n".to_vec())
    }),
    row("smaps", FILE | 0o444, Tracer, maps::smaps),
    row("smaps_rollup", FILE | 0o444, Tracer, maps::smaps_rollup),
    row("stack", FILE | 0o400, Tracer, |_, _| Ok(Vec::new())),
    row("stat", FILE | 0o444, Anybody, stat::stat),
    row("statm", FILE | 0o444, Anybody, stat::statm),
    row("status", FILE | 0o444, Anybody, status::status),
    row("syscall", FILE | 0o400, Tracer, |_, _| {
        Ok(b"running\n".to_vec())
    }),
    row("task", DIRECTORY | 0o555, Anybody, no_text),
    row("timers", FILE | 0o444, Anybody, |_, _| Ok(Vec::new())),
    row(
        "timerslack_ns",
        FILE | 0o666,
        Anybody,
        settings::timer_slack,
    ),
    row("uid_map", FILE | 0o644, Anybody, settings::uid_map),
    row("wchan", FILE | 0o444, Anybody, |_, _| Ok(b"0".to_vec())),
];

/// Files that only a process has, and only a thread.
const NOT_OF_THREADS: &[&str] = &[
    "task",
    "coredump_filter",
    "mountstats",
    "timers",
    "timerslack_ns",
];
const ONLY_OF_THREADS: &[&str] = &["children"];

/// The namespaces that `ns` names, by the order of `namespace_number`.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

fn find(path: &str) -> Result<&'static Row> {
    ROWS.iter()
        .find(|row| row.path == path)
        .ok_or(Errno::ENOENT)
}

fn has(who: Who, path: &str) -> bool {
    let wrong = match who.thread {
        Some(_) => NOT_OF_THREADS,
        None => ONLY_OF_THREADS,
    };
    !wrong.contains(&path)
}

pub fn mode(path: &str) -> u32 {
    find(path).map_or(FILE, |row| row.mode)
}

/// The process of that number; a thread's number is known too, but not listed. proc(5), "/proc/TID subdirectories".
pub fn by_name(kernel: &Kernel, name: &str) -> Option<Who> {
    let number = number(name)?;
    if kernel.processes.contains_key(&number) {
        return Some(Who {
            pid: number,
            thread: None,
        });
    }
    let host = kernel.tids.get(&number)?;
    let pid = kernel.tasks.get(host)?.pid;
    Some(Who { pid, thread: None })
}

/// A number as the kernel writes it: no sign, no leading zero.
pub fn number(name: &str) -> Option<i32> {
    let is_plain =
        name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if is_plain { name.parse().ok() } else { None }
}

pub fn process(kernel: &Kernel, who: Who) -> Result<&Process> {
    kernel.process(who.pid)
}

/// The thread that is meant: of a process its first. `ESRCH`: a zombie has none.
pub fn task(kernel: &Kernel, who: Who) -> Result<&Task> {
    match who.thread {
        Some(thread) => {
            let host = kernel.tids.get(&thread).ok_or(Errno::ESRCH)?;
            kernel.task(*host)
        }
        None => kernel.leader(process(kernel, who)?).ok_or(Errno::ESRCH),
    }
}

pub fn host_tid(kernel: &Kernel, who: Who) -> Result<i32> {
    task(kernel, who).map(|task| task.host_tid)
}

/// Sets mode and owner: the effective ids, or root where the process must not be looked into. Linux: task_dump_owner().
pub fn own(kernel: &Kernel, who: Who, mode: u32, attributes: &mut Attributes) -> Result<()> {
    attributes.mode = mode;
    let process = process(kernel, who).map_err(|_| Errno::ENOENT)?;
    let is_open = process.dumpable || mode == DIRECTORY | 0o555;
    if let Ok(task) = task(kernel, who) {
        if is_open {
            attributes.uid = task.credentials.euid;
            attributes.gid = task.credentials.egid;
        }
    } else if who.thread.is_some() {
        return Err(Errno::ENOENT);
    } else {
        attributes.uid = process.uid;
    }
    Ok(())
}

/// Whether the native thread `caller` may look into a process. Linux: __ptrace_may_access().
pub fn may_trace(kernel: &Kernel, who: Who, caller: i32) -> Result<()> {
    let caller = kernel.task(caller).map_err(|_| Errno::EACCES)?;
    if caller.pid == who.pid {
        return Ok(());
    }
    let target = task(kernel, who)?;
    let credentials = (caller.credentials.fsuid, caller.credentials.fsgid);
    if may_trace_as(kernel, &caller.credentials, credentials, target) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

/// The rule itself, with the ids that the caller has for it: those for files (/proc) or the real ones (ptrace, process_vm_readv).
pub fn may_trace_as(kernel: &Kernel, caller: &Credentials, ids: (u32, u32), target: &Task) -> bool {
    let theirs = &target.credentials;
    let is_same = [theirs.uid, theirs.euid, theirs.suid] == [ids.0; 3]
        && [theirs.gid, theirs.egid, theirs.sgid] == [ids.1; 3];
    let is_dumpable = kernel
        .process(target.pid)
        .is_ok_and(|process| process.dumpable);
    let is_weaker = theirs.permitted & !caller.permitted == 0;
    caller.has(CAP_SYS_PTRACE) || (is_same && is_dumpable && is_weaker)
}

pub fn may_open(kernel: &Kernel, who: Who, caller: i32, path: &str) -> Result<()> {
    if find(path)?.access == Tracer
        && process(kernel, who).is_ok_and(|process| !process.is_zombie())
    {
        may_trace(kernel, who, caller)?;
    }
    Ok(())
}

pub fn text(kernel: &Kernel, who: Who, caller: i32, path: &str) -> Result<Vec<u8>> {
    let row = find(path)?;
    process(kernel, who)?;
    may_open(kernel, who, caller, path)?;
    // Who asks runs, whatever the host says of a thread that waits for this very answer.
    let is_own = match who.thread {
        None => kernel.task(caller).is_ok_and(|task| task.pid == who.pid),
        Some(thread) => kernel.task(caller).is_ok_and(|task| task.tid == thread),
    };
    match path {
        "stat" if is_own => return stat::of_caller(kernel, who),
        "status" if is_own => return status::of_caller(kernel, who),
        _ => {}
    }
    (row.text)(kernel, who)
}

pub fn lookup(kernel: &Kernel, who: Who, caller: i32, path: &str, name: &str) -> Result<ProcNode> {
    process(kernel, who).map_err(|_| Errno::ENOENT)?;
    match path {
        "task" => {
            let thread = number(name).ok_or(Errno::ENOENT)?;
            let host = kernel.tids.get(&thread).ok_or(Errno::ENOENT)?;
            if kernel.task(*host)?.pid != who.pid {
                return Err(Errno::ENOENT);
            }
            Ok(ProcNode::Process(Who {
                pid: who.pid,
                thread: Some(thread),
            }))
        }
        "fd" | "fdinfo" => {
            let fd = number(name).ok_or(Errno::ENOENT)?;
            if path == "fdinfo" {
                may_trace(kernel, who, caller)?;
            }
            fds::description(kernel, who, fd)?;
            Ok(if path == "fd" {
                ProcNode::Fd(who, fd)
            } else {
                ProcNode::FdInfo(who, fd)
            })
        }
        _ => {
            let full = system::join(path, name);
            let row = find(&full)?;
            if !has(who, row.path) {
                return Err(Errno::ENOENT);
            }
            Ok(ProcNode::Entry(who, row.path))
        }
    }
}

pub fn list(kernel: &Kernel, who: Who, caller: i32, path: &str) -> Result<Vec<Listed>> {
    let process = process(kernel, who).map_err(|_| Errno::ENOENT)?;
    match path {
        "task" => {
            let mut threads: Vec<i32> = process
                .threads
                .iter()
                .filter_map(|host| kernel.tasks.get(host).map(|task| task.tid))
                .collect();
            threads.sort_unstable();
            let listed = threads.into_iter().map(|thread| Listed {
                cookie: u64::from(thread.unsigned_abs()),
                name: thread.to_string(),
                node: ProcNode::Process(Who {
                    pid: who.pid,
                    thread: Some(thread),
                }),
                kind: libc::DT_DIR,
            });
            Ok(listed.collect())
        }
        "fd" | "fdinfo" => {
            may_trace(kernel, who, caller)?;
            fds::list(kernel, who, path == "fd")
        }
        _ => {
            let below = ROWS
                .iter()
                .enumerate()
                .filter(|(_, row)| system::parent(row.path) == path && has(who, row.path));
            let listed = below.map(|(index, row)| Listed {
                cookie: index as u64,
                name: row.path.rsplit('/').next().unwrap_or("").to_owned(),
                node: ProcNode::Entry(who, row.path),
                kind: entry_kind(row.mode),
            });
            Ok(listed.collect())
        }
    }
}

pub fn link(kernel: &Kernel, who: Who, caller: i32, path: &str) -> Result<Vec<u8>> {
    if let Some(kind) = path.strip_prefix("ns/") {
        may_trace(kernel, who, caller)?;
        let index = namespace(kind)?;
        return Ok(namespace_name(index).into_bytes());
    }
    if path == "exe" {
        may_trace(kernel, who, caller).map_err(gone)?;
        let name = &process(kernel, who)?.executable;
        return if name.is_empty() {
            Err(Errno::ENOENT)
        } else {
            Ok(name.clone())
        };
    }
    match target(kernel, who, caller, path)? {
        Some(place) => place.path(kernel),
        None => Err(Errno::EINVAL),
    }
}

/// A zombie's links lead nowhere.
fn gone(error: Errno) -> Errno {
    if error == Errno::ESRCH {
        Errno::ENOENT
    } else {
        error
    }
}

pub fn target(kernel: &Kernel, who: Who, caller: i32, path: &str) -> Result<Option<Place>> {
    let Ok(row) = find(path) else { return Ok(None) };
    if row.mode & libc::S_IFMT != LINK {
        return Ok(None);
    }
    may_trace(kernel, who, caller).map_err(gone)?;
    let task = task(kernel, who).map_err(gone)?;
    let place = match path {
        "cwd" => task.fs.lock().cwd.clone(),
        "root" => task.fs.lock().root.clone(),
        "exe" => process(kernel, who)?
            .settings
            .executable
            .clone()
            .ok_or(Errno::ENOENT)?,
        _ => {
            let kind = path.strip_prefix("ns/").ok_or(Errno::ENOENT)?;
            Place::Proc(ProcNode::Namespace(namespace(kind)?))
        }
    };
    Ok(Some(place))
}

fn namespace(kind: &str) -> Result<usize> {
    let kind = kind.trim_end_matches("_for_children");
    NAMESPACES
        .iter()
        .position(|name| *name == kind)
        .ok_or(Errno::ENOENT)
}

/// One of each: all processes of a sandbox are in the same namespaces.
pub fn namespace_number(index: usize) -> u64 {
    0xF000_1000 + index as u64
}

pub fn namespace_name(index: usize) -> String {
    let kind = NAMESPACES.get(index).unwrap_or(&"none");
    format!("{kind}:[{}]", namespace_number(index))
}
