//! What /proc holds beside processes: one row per file, and how directories come from the rows' paths. proc(5).

use super::{Listed, ProcNode, Who, controls, entry_kind};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::machine::read_below;
use crate::kernel::task::Process;

pub type Text = fn(&Kernel) -> Vec<u8>;

/// A path below /proc. A directory is a row too, and stands before what it holds.
#[derive(Debug)]
pub struct Row {
    pub path: &'static str,
    pub mode: u32,
    pub text: Text,
}

const TICK_US: u64 = 10_000;
/// PIDs are listed behind everything else.
const FIRST_PID_COOKIE: u64 = 1 << 16;

const fn file(path: &'static str, text: Text) -> Row {
    Row {
        path,
        mode: libc::S_IFREG | 0o444,
        text,
    }
}

const fn symlink(path: &'static str) -> Row {
    Row {
        path,
        mode: libc::S_IFLNK | 0o777,
        text: |_| Vec::new(),
    }
}

const ROWS: &[Row] = &[
    file("cgroups", |_| {
        b"#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t1\t1\ncpu\t0\t1\t1\nmemory\t0\t1\t1\npids\t0\t1\t1\n".to_vec()
    }),
    file("cmdline", |_| b"\n".to_vec()),
    file("cpuinfo", cpuinfo),
    file("devices", |_| {
        b"Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n"
            .to_vec()
    }),
    file("diskstats", |_| Vec::new()),
    file("filesystems", |_| {
        let names = [
            "sysfs", "tmpfs", "proc", "cgroup2", "devpts", "overlay", "mqueue", "pipefs", "sockfs",
        ];
        names
            .map(|name| format!("nodev\t{name}\n"))
            .concat()
            .into_bytes()
    }),
    file("interrupts", |_| Vec::new()),
    file("loadavg", loadavg),
    file("meminfo", meminfo),
    file("misc", |_| Vec::new()),
    file("modules", |_| Vec::new()),
    symlink("mounts"),
    symlink("net"),
    file("partitions", |_| b"major minor  #blocks  name\n\n".to_vec()),
    symlink("self"),
    file("softirqs", |_| Vec::new()),
    file("stat", stat),
    file("swaps", |_| {
        b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()
    }),
    symlink("thread-self"),
    file("uptime", uptime),
    file("version", |_| {
        let (release, version) = (
            crate::syscalls::system::RELEASE,
            crate::syscalls::system::VERSION,
        );
        format!("Linux version {release} (casemate) {version}\n").into_bytes()
    }),
    file("vmstat", |_| Vec::new()),
    file("zoneinfo", |_| Vec::new()),
];

fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().chain(controls::ROWS)
}

fn find(path: &str) -> Option<&'static Row> {
    rows().find(|row| row.path == path)
}

/// The directory's path; "" at the top.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}/{name}")
    }
}

pub fn mode(path: &str) -> u32 {
    find(path).map_or(libc::S_IFDIR | 0o555, |row| row.mode)
}

/// Links that never change have their text's length. Linux: proc_symlink().
pub fn link_size(path: &str) -> u64 {
    match path {
        "mounts" => 11,
        "net" => 8,
        _ => 0,
    }
}

pub fn lookup(path: &str, name: &str) -> Result<ProcNode> {
    let full = join(path, name);
    find(&full)
        .map(|row| ProcNode::System(row.path))
        .ok_or(Errno::ENOENT)
}

pub fn list(path: &str) -> Vec<Listed> {
    let below = rows()
        .enumerate()
        .filter(|(_, row)| parent(row.path) == path);
    let listed = below.map(|(index, row)| Listed {
        cookie: index as u64,
        name: row.path.rsplit('/').next().unwrap_or("").to_owned(),
        node: ProcNode::System(row.path),
        kind: entry_kind(row.mode),
    });
    listed.collect()
}

pub fn list_root(kernel: &Kernel) -> Vec<Listed> {
    let mut listed = list("");
    listed.extend(kernel.processes.keys().map(|pid| Listed {
        cookie: FIRST_PID_COOKIE + u64::from(pid.unsigned_abs()),
        name: pid.to_string(),
        node: ProcNode::Process(Who {
            pid: *pid,
            thread: None,
        }),
        kind: libc::DT_DIR,
    }));
    listed
}

pub fn link(kernel: &Kernel, caller: i32, path: &str) -> Result<Vec<u8>> {
    let text = match path {
        "mounts" => "self/mounts".to_owned(),
        "net" => "self/net".to_owned(),
        // Who has no thread here finds a link to nothing. Linux: proc_self_get_link().
        "self" => kernel
            .task(caller)
            .map_err(|_| Errno::ENOENT)?
            .pid
            .to_string(),
        "thread-self" => {
            let task = kernel.task(caller).map_err(|_| Errno::ENOENT)?;
            format!("{}/task/{}", task.pid, task.tid)
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok(text.into_bytes())
}

pub fn text(kernel: &Kernel, path: &str) -> Result<Vec<u8>> {
    let row = find(path).ok_or(Errno::ENOENT)?;
    if row.mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    Ok((row.text)(kernel))
}

/// The host's processors, as many as the sandbox has. Their speed and features are no secret: cpuid tells them.
fn cpuinfo(kernel: &Kernel) -> Vec<u8> {
    let host = read_below(&kernel.host_proc, "cpuinfo", 4 << 20).unwrap_or_default();
    let host = String::from_utf8_lossy(&host);
    let mut text = String::new();
    for block in host.split_inclusive("\n\n") {
        let number = block.strip_prefix("processor").and_then(|rest| {
            rest.split(':')
                .nth(1)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        if number.is_some_and(|number: usize| kernel.machine.cpus.contains(&number)) {
            text.push_str(block);
        }
    }
    text.into_bytes()
}

fn meminfo(kernel: &Kernel) -> Vec<u8> {
    let memory = kernel.machine.memory(&kernel.host_proc);
    let kib = |bytes: u64| bytes / 1024;
    let rows = [
        ("MemTotal", kib(memory.total)),
        ("MemFree", kib(memory.free)),
        ("MemAvailable", kib(memory.available)),
        ("Buffers", kib(memory.buffers)),
        ("Cached", kib(memory.cached)),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", 0),
        ("Mapped", 0),
        ("Shmem", kib(memory.shared)),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", kib(memory.total)),
        ("Committed_AS", 0),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
        ("Hugepagesize", 2048),
    ];
    let line = |(name, value): (&str, u64)| format!("{:<16}{value:>8} kB\n", format!("{name}:"));
    rows.map(line).concat().into_bytes()
}

/// Microseconds that the sandbox's processes used, those that ended and were waited for included: user and system.
pub fn used(kernel: &Kernel) -> (u64, u64) {
    let mut total = (0_u64, 0_u64);
    let mut add = |user: u64, system: u64| {
        total.0 = total.0.saturating_add(user);
        total.1 = total.1.saturating_add(system);
    };
    for process in kernel.processes.values() {
        add(
            process.children_usage.user_us,
            process.children_usage.system_us,
        );
        let own = usage(process);
        add(own.0, own.1);
    }
    total
}

fn usage(process: &Process) -> (u64, u64) {
    if process.is_zombie() {
        return (process.usage.user_us, process.usage.system_us);
    }
    let usage = crate::kernel::wait::host_usage(process.host_pid);
    (usage.user_us, usage.system_us)
}

/// Times of the sandbox: what it used, the rest idle.
fn stat(kernel: &Kernel) -> Vec<u8> {
    let (user, system) = used(kernel);
    let (user, system) = (user / TICK_US, system / TICK_US);
    let count = kernel.machine.cpus.len() as u64;
    let uptime = boot_time().as_secs() * 100;
    let idle = (uptime * count).saturating_sub(user + system);
    let mut text = format!("cpu  {user} 0 {system} {idle} 0 0 0 0 0 0\n");
    for cpu in &kernel.machine.cpus {
        let (user, system, idle) = (user / count, system / count, idle / count);
        text.push_str(&format!("cpu{cpu} {user} 0 {system} {idle} 0 0 0 0 0 0\n"));
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    let booted = now - boot_time().as_secs() as i64;
    let last = kernel.processes.keys().next_back().copied().unwrap_or(1);
    let waiting = kernel
        .tasks
        .values()
        .filter(|task| task.blocked.is_none())
        .count();
    text.push_str(&format!(
        "intr 0\nctxt 0\nbtime {booted}\nprocesses {last}\nprocs_running {}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
        waiting.max(1)
    ));
    text.into_bytes()
}

/// Since the machine started: as clock_gettime(CLOCK_BOOTTIME), which the host answers.
pub fn boot_time() -> std::time::Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    std::time::Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn uptime(kernel: &Kernel) -> Vec<u8> {
    let up = boot_time();
    let (user, system) = used(kernel);
    let idle = (up.as_secs() * 100 * kernel.machine.cpus.len() as u64)
        .saturating_sub((user + system) / TICK_US);
    format!(
        "{}.{:02} {}.{:02}\n",
        up.as_secs(),
        up.subsec_millis() / 10,
        idle / 100,
        idle % 100
    )
    .into_bytes()
}

/// Tasks that run now, all, and the newest process.
pub fn running(kernel: &Kernel) -> (usize, usize, i32) {
    let running = kernel.tasks.values().filter(|task| {
        task.blocked.is_none()
            && kernel.process(task.pid).is_ok_and(|process| {
                host_state(kernel, process.host_pid, task.host_tid) == Some(b'R')
            })
    });
    let newest = kernel.processes.keys().next_back().copied().unwrap_or(1);
    // The thread that asks waits for this answer: for itself it runs.
    (running.count() + 1, kernel.tasks.len(), newest)
}

fn host_state(kernel: &Kernel, host_pid: i32, host_tid: i32) -> Option<u8> {
    let path = format!("{host_pid}/task/{host_tid}/stat");
    let text = read_below(&kernel.host_proc, &path, 512)?;
    let end = text.iter().rposition(|byte| *byte == b')')?;
    text.get(end + 2).copied()
}

fn loadavg(kernel: &Kernel) -> Vec<u8> {
    let (running, tasks, newest) = running(kernel);
    let [one, five, fifteen] = kernel.machine.load(running);
    format!("{one:.2} {five:.2} {fifteen:.2} {running}/{tasks} {newest}\n").into_bytes()
}
