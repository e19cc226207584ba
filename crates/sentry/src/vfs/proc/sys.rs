//! /sys: processors, the memory node, the cgroup's limits, and little else; read-only. sysfs(5).
//!
//! The tree is made when somebody first looks. What tells of processors (topology, caches) is copied from the host's, for those that the sandbox has.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::{Listed, ProcNode, entry_kind, system};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::machine::{Machine, cpu_list, cpu_mask};
use crate::vfs::attributes::Attributes;

/// A file or a link; directories are what lies on the way.
#[derive(Debug, Clone)]
pub enum Leaf {
    Text(String),
    Link(String),
    /// What changes: made by name at each reading.
    Live(Live),
}

#[derive(Debug, Clone, Copy)]
pub enum Live {
    MemoryCurrent,
    MemoryMax,
    PidsMax,
    CpuMax,
    PidsCurrent,
    CgroupProcesses,
    CgroupThreads,
    NodeMemory,
    CpuStat,
}

type Tree = BTreeMap<String, Leaf>;

/// Bytes of one of the host's files that are copied.
const MOST: usize = 4096;
const CPU: &str = "devices/system/cpu";
const NODE: &str = "devices/system/node";

fn tree(kernel: &Kernel) -> &Tree {
    kernel.machine.sys.get_or_init(|| build(&kernel.machine))
}

fn build(machine: &Machine) -> Tree {
    let mut tree = Tree::new();
    let mut put = |path: String, text: String| {
        tree.insert(path, Leaf::Text(text));
    };
    let cpus = cpu_list(&machine.cpus);
    let of_host =
        |name: &str| copy(&format!("{CPU}/{name}")).unwrap_or_else(|| format!("{cpus}\n"));
    put(format!("{CPU}/online"), format!("{cpus}\n"));
    // Arrays that are indexed by the current CPU are sized by these, and the host's number is what a thread is told.
    put(format!("{CPU}/possible"), of_host("possible"));
    put(format!("{CPU}/present"), of_host("present"));
    put(format!("{CPU}/offline"), "\n".to_owned());
    put(format!("{CPU}/isolated"), "\n".to_owned());
    put(format!("{CPU}/kernel_max"), of_host("kernel_max"));
    for cpu in &machine.cpus {
        put(format!("{CPU}/cpu{cpu}/online"), "1\n".to_owned());
    }
    let bits = machine.cpus.last().map_or(1, |last| last + 1);
    for name in [
        "has_cpu",
        "has_memory",
        "has_normal_memory",
        "online",
        "possible",
    ] {
        put(format!("{NODE}/{name}"), "0\n".to_owned());
    }
    put(format!("{NODE}/node0/cpulist"), format!("{cpus}\n"));
    put(
        format!("{NODE}/node0/cpumap"),
        format!("{}\n", cpu_mask(&machine.cpus, bits)),
    );
    put(format!("{NODE}/node0/distance"), "10\n".to_owned());
    let huge = "kernel/mm/transparent_hugepage";
    for (name, text) in [
        ("enabled", "always [madvise] never\n"),
        ("defrag", "always defer defer+madvise [madvise] never\n"),
        ("hpage_pmd_size", "2097152\n"),
    ] {
        put(
            format!("{huge}/{name}"),
            copy(&format!("{huge}/{name}")).unwrap_or_else(|| text.to_owned()),
        );
    }
    put_loopback(&mut put);
    put_cgroup(machine, &mut put);
    for cpu in &machine.cpus {
        for folder in ["topology", "cache"] {
            copy_folder(&format!("{CPU}/cpu{cpu}/{folder}"), &mut tree, 2);
        }
        tree.insert(
            format!("{CPU}/cpu{cpu}/node0"),
            Leaf::Link("../../node/node0".to_owned()),
        );
    }
    copy_folder(&format!("{CPU}/vulnerabilities"), &mut tree, 1);
    tree.insert(
        format!("{NODE}/node0/meminfo"),
        Leaf::Live(Live::NodeMemory),
    );
    tree.insert(
        "class/net/lo".to_owned(),
        Leaf::Link("../../devices/virtual/net/lo".to_owned()),
    );
    for (name, live) in [
        ("cpu.max", Live::CpuMax),
        ("memory.current", Live::MemoryCurrent),
        ("memory.max", Live::MemoryMax),
        ("pids.max", Live::PidsMax),
        ("pids.current", Live::PidsCurrent),
        ("cgroup.procs", Live::CgroupProcesses),
        ("cgroup.threads", Live::CgroupThreads),
        ("cpu.stat", Live::CpuStat),
    ] {
        tree.insert(format!("fs/cgroup/{name}"), Leaf::Live(live));
    }
    tree
}

fn put_loopback(put: &mut impl FnMut(String, String)) {
    for (name, text) in [
        ("address", "00:00:00:00:00:00"),
        ("addr_len", "6"),
        ("broadcast", "00:00:00:00:00:00"),
        ("carrier", "1"),
        ("flags", "0x9"),
        ("ifindex", "1"),
        ("iflink", "1"),
        ("mtu", "65536"),
        ("operstate", "unknown"),
        ("tx_queue_len", "1000"),
        ("type", "772"),
    ] {
        put(
            format!("devices/virtual/net/lo/{name}"),
            format!("{text}\n"),
        );
    }
}

/// cgroup v2's files, whichever version the host has.
fn put_cgroup(machine: &Machine, put: &mut impl FnMut(String, String)) {
    for (name, text) in [
        ("cgroup.controllers", "cpuset cpu memory pids".to_owned()),
        ("cgroup.subtree_control", String::new()),
        ("cgroup.type", "domain".to_owned()),
        ("cgroup.freeze", "0".to_owned()),
        ("cgroup.events", "populated 1\nfrozen 0".to_owned()),
        ("cpu.weight", "100".to_owned()),
        ("cpuset.cpus.effective", cpu_list(&machine.cpus)),
        ("cpuset.mems.effective", "0".to_owned()),
        ("memory.high", "max".to_owned()),
        ("memory.low", "0".to_owned()),
        ("memory.min", "0".to_owned()),
        ("memory.swap.current", "0".to_owned()),
        ("memory.swap.max", "0".to_owned()),
    ] {
        put(format!("fs/cgroup/{name}"), format!("{text}\n"));
    }
}

/// A file of the host's sysfs, which the container has mounted.
fn copy(path: &str) -> Option<String> {
    let bytes = crate::host::read_file(&format!("/sys/{path}"), MOST).ok()?;
    String::from_utf8(bytes).ok()
}

fn copy_folder(path: &str, tree: &mut Tree, depth: u32) {
    let entries = crate::host::list(&format!("/sys/{path}")).unwrap_or_default();
    for (name, kind) in entries {
        let path = format!("{path}/{name}");
        if kind.is_dir() && depth > 1 {
            copy_folder(&path, tree, depth - 1);
        } else if kind.is_file()
            && name != "uevent"
            && let Some(text) = copy(&path)
        {
            tree.insert(path, Leaf::Text(text));
        }
    }
}

fn is_directory(tree: &Tree, path: &str) -> bool {
    let prefix = format!("{path}/");
    path.is_empty()
        || ALWAYS.contains(&path)
        || tree
            .range(prefix.clone()..)
            .next()
            .is_some_and(|(key, _)| key.starts_with(&prefix))
        || ALWAYS.iter().any(|known| known.starts_with(&prefix))
}

/// Directories that are there, empty or not.
const ALWAYS: &[&str] = &[
    "block",
    "bus",
    "class",
    "class/net",
    "dev",
    "devices",
    "devices/virtual",
    "firmware",
    "fs",
    "kernel",
    "module",
    "power",
];

pub fn attributes(kernel: &Kernel, path: &str, mut attributes: Attributes) -> Result<Attributes> {
    let tree = tree(kernel);
    attributes.blksize = 4096;
    attributes.mode = match tree.get(path) {
        Some(Leaf::Link(_)) => libc::S_IFLNK | 0o777,
        Some(_) => {
            attributes.size = 4096;
            libc::S_IFREG | 0o444
        }
        None if is_directory(tree, path) => {
            attributes.nlink = 2;
            libc::S_IFDIR | 0o555
        }
        None => return Err(Errno::ENOENT),
    };
    Ok(attributes)
}

pub fn lookup(kernel: &Kernel, path: &str, name: &str) -> Result<ProcNode> {
    let full = system::join(path, name);
    let tree = tree(kernel);
    if tree.contains_key(path) {
        return Err(Errno::ENOTDIR);
    }
    if tree.contains_key(&full) || is_directory(tree, &full) {
        Ok(ProcNode::Sys(Arc::from(full)))
    } else {
        Err(Errno::ENOENT)
    }
}

pub fn link(kernel: &Kernel, path: &str) -> Result<Vec<u8>> {
    match tree(kernel).get(path) {
        Some(Leaf::Link(target)) => Ok(target.clone().into_bytes()),
        _ => Err(Errno::EINVAL),
    }
}

pub fn list(kernel: &Kernel, path: &str) -> Vec<Listed> {
    let prefix = if path.is_empty() {
        String::new()
    } else {
        format!("{path}/")
    };
    let tree = tree(kernel);
    let mut kinds: BTreeMap<&str, u8> = BTreeMap::new();
    let known = ALWAYS
        .iter()
        .filter_map(|known| known.strip_prefix(&*prefix))
        .map(|rest| (rest, None));
    let leaves = tree
        .range(prefix.clone()..)
        .take_while(|(key, _)| key.starts_with(&prefix));
    let leaves = leaves.map(|(key, leaf)| (&key[prefix.len()..], Some(leaf)));
    for (rest, leaf) in known.chain(leaves) {
        let (name, is_deeper) = rest
            .split_once('/')
            .map_or((rest, false), |(name, _)| (name, true));
        let kind = match leaf {
            Some(Leaf::Link(_)) if !is_deeper => libc::DT_LNK,
            Some(_) if !is_deeper => entry_kind(libc::S_IFREG),
            _ => libc::DT_DIR,
        };
        kinds.insert(name, kind);
    }
    let listed = kinds
        .into_iter()
        .enumerate()
        .map(|(index, (name, kind))| Listed {
            cookie: index as u64,
            name: name.to_owned(),
            node: ProcNode::Sys(Arc::from(format!("{prefix}{name}"))),
            kind,
        });
    listed.collect()
}

pub fn text(kernel: &Kernel, path: &str) -> Result<Vec<u8>> {
    match tree(kernel).get(path) {
        Some(Leaf::Text(text)) => Ok(text.clone().into_bytes()),
        Some(Leaf::Live(live)) => Ok(now(kernel, *live).into_bytes()),
        _ => Err(Errno::EISDIR),
    }
}

fn now(kernel: &Kernel, live: Live) -> String {
    let memory = || kernel.machine.memory(&kernel.host_proc);
    let limit = |limit: Option<u64>| limit.map_or("max\n".to_owned(), |limit| format!("{limit}\n"));
    match live {
        Live::MemoryMax => limit(kernel.machine.memory_limit()),
        Live::PidsMax => limit(kernel.machine.pids_limit()),
        Live::CpuMax => match kernel.machine.quota() {
            Some((quota, period)) => format!("{quota} {period}\n"),
            None => "max 100000\n".to_owned(),
        },
        Live::MemoryCurrent => {
            let memory = memory();
            format!("{}\n", memory.total.saturating_sub(memory.free))
        }
        Live::PidsCurrent => format!("{}\n", kernel.tasks.len()),
        Live::CgroupProcesses => numbers(kernel.processes.keys().copied()),
        Live::CgroupThreads => {
            let mut tids: Vec<i32> = kernel.tids.keys().copied().collect();
            tids.sort_unstable();
            numbers(tids.into_iter())
        }
        Live::NodeMemory => {
            let memory = memory();
            let (total, free) = (memory.total / 1024, memory.free / 1024);
            format!(
                "Node 0 MemTotal:       {total} kB\nNode 0 MemFree:        {free} kB\nNode 0 MemUsed:        {} kB\n",
                total.saturating_sub(free)
            )
        }
        Live::CpuStat => {
            let (user, system) = system::used(kernel);
            format!(
                "usage_usec {}\nuser_usec {user}\nsystem_usec {system}\n",
                user + system
            )
        }
    }
}

fn numbers(numbers: impl Iterator<Item = i32>) -> String {
    let mut text = String::new();
    for number in numbers {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{number}");
    }
    text
}
