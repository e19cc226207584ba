//! The machine as the sandbox sees it: its processors and its memory, by the limits that its cgroup sets, else by the host's.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use crate::vfs::proc::sys::Leaf;

/// The sentry itself, in its /proc.
pub const SELF: &str = "self";
const CGROUP: i64 = 0x27_E0EB;
const CGROUP2: i64 = 0x6367_7270;
/// A limit above this is none: cgroup v1 writes the largest whole number of pages.
const UNLIMITED: u64 = 1 << 62;
/// Linux: NR_CPUS of x86.
const MOST_CPUS: usize = 8192;

#[derive(Debug)]
pub struct Machine {
    /// The sandbox's CPUs by the host's numbers (rseq and getcpu tell those), ascending, at least one.
    pub cpus: Vec<usize>,
    /// Those that its threads may run on: more, where a quota allows fewer at once.
    pub host_cpus: Vec<usize>,
    /// Bits of the host's CPU masks: a program's must have as many.
    pub mask_bits: usize,
    /// Bytes that sched_getaffinity(2) returns at most.
    pub mask_bytes: usize,
    cgroup: Cgroup,
    /// Device and mount of the container's /proc and /sys: their nodes are the sentry's own, these numbers stay as mountinfo has them.
    pub proc_device: (u64, u64),
    pub sys_device: (u64, u64),
    pub uids: Ids,
    pub gids: Ids,
    pub boot_id: [u8; 16],
    /// The nice value that programs start with: the sentry's own, as its starter had it.
    pub nice: i32,
    pub sys: OnceLock<BTreeMap<String, Leaf>>,
    load: Mutex<Load>,
}

/// Which users or groups exist: those that the container's user namespace maps; first and count.
#[derive(Debug)]
pub struct Ids(pub Vec<(u32, u32)>);

impl Ids {
    fn read(host_proc: &OwnedFd, file: &str) -> Self {
        let text = read_below(host_proc, file, 64 << 10).unwrap_or_default();
        let range = |line: &str| {
            let mut words = line.split_whitespace();
            let first = words.next()?.parse().ok()?;
            Some((first, words.nth(1)?.parse().ok()?))
        };
        Self(
            String::from_utf8_lossy(&text)
                .lines()
                .filter_map(range)
                .collect(),
        )
    }

    #[must_use]
    pub fn has(&self, id: u32) -> bool {
        self.0
            .iter()
            .any(|(first, count)| id.wrapping_sub(*first) < *count)
    }
}

/// Files of the container's cgroup, of either version.
#[derive(Debug, Default)]
pub struct Cgroup {
    pub memory_limit: Option<OwnedFd>,
    pub memory_used: Option<OwnedFd>,
    /// v2's `cpu.max`, which has the period, too.
    pub cpu_quota: Option<OwnedFd>,
    pub cpu_period: Option<OwnedFd>,
    pub pids_limit: Option<OwnedFd>,
}

/// proc_pid_stat(5), field 19.
fn nice_of(host_proc: &OwnedFd, who: &str) -> i32 {
    let text = read_below(host_proc, &format!("{who}/stat"), 4096).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let nice = fields.split_whitespace().nth(16);
    nice.and_then(|nice| nice.parse().ok()).unwrap_or(0)
}

#[derive(Debug)]
struct Load {
    averages: [f64; 3],
    at: Instant,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryState {
    pub total: u64,
    pub free: u64,
    pub available: u64,
    pub cached: u64,
    pub buffers: u64,
    pub shared: u64,
}

impl Machine {
    /// Looks at the limits, before any program runs. `cgroup`: the container's files; where it was given none, those that the container sees are taken.
    #[must_use]
    pub fn look(host_proc: &OwnedFd, who: &str, root: impl AsFd, cgroup: Cgroup) -> Self {
        // The first use finds the host's vdso, by calls that the jail refuses later.
        let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let cgroup = if who == SELF {
            cgroup.or_as_seen()
        } else {
            cgroup
        };
        let host_cpus = allowed_cpus(host_proc, who);
        let mut cpus = host_cpus.clone();
        if let Some((quota, period)) = cgroup.quota() {
            let most = usize::try_from(quota.div_ceil(period.max(1))).unwrap_or(usize::MAX);
            cpus.truncate(most.max(1));
        }
        let mut boot_id = [0; 16];
        let _ = crate::host::random(&mut boot_id);
        Self {
            mask_bits: mask_bits(host_proc).max(cpus.last().map_or(1, |last| last + 1)),
            cpus,
            host_cpus,
            mask_bytes: casemate_platform::process::cpu_mask_bytes(),
            cgroup,
            proc_device: device_and_mount(host_proc, ""),
            sys_device: device_and_mount(root, "sys"),
            uids: Ids::read(host_proc, &format!("{who}/uid_map")),
            gids: Ids::read(host_proc, &format!("{who}/gid_map")),
            boot_id,
            nice: nice_of(host_proc, who),
            sys: OnceLock::new(),
            load: Mutex::new(Load {
                averages: [0.0; 3],
                at: Instant::now(),
            }),
        }
    }

    /// CPU time per period, in microseconds. As all limits it can change (`update`), but for the number of processors, which programs look at once.
    #[must_use]
    pub fn quota(&self) -> Option<(u64, u64)> {
        self.cgroup.quota()
    }

    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        self.cgroup.memory_limit.as_ref().and_then(limit_of)
    }

    #[must_use]
    pub fn pids_limit(&self) -> Option<u64> {
        self.cgroup.pids_limit.as_ref().and_then(limit_of)
    }

    /// Memory now: the host's figures, with a limit laid over them.
    #[must_use]
    pub fn memory(&self, host_proc: &OwnedFd) -> MemoryState {
        let text = read_below(host_proc, "meminfo", 16 << 10).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or(0).saturating_mul(1024)
        };
        let host = MemoryState {
            total: field("MemTotal:"),
            free: field("MemFree:"),
            available: field("MemAvailable:"),
            cached: field("Cached:"),
            buffers: field("Buffers:"),
            shared: field("Shmem:"),
        };
        let Some(total) = self.memory_limit().filter(|limit| *limit < host.total) else {
            return host;
        };
        let used = self.cgroup.memory_used.as_ref().and_then(number_of);
        let used = used.unwrap_or(0).min(total);
        MemoryState {
            total,
            free: (total - used).min(host.free),
            available: (total - used).min(host.available),
            ..MemoryState::default()
        }
    }

    /// Load averages of the sandbox itself: brought up to date when somebody asks, so that an idle sandbox computes nothing. getloadavg(3).
    #[must_use]
    pub fn load(&self, running: usize) -> [f64; 3] {
        let mut load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = load.at.elapsed().as_secs_f64();
        load.at = Instant::now();
        let running = running as f64;
        for (average, minutes) in load.averages.iter_mut().zip([1.0, 5.0, 15.0]) {
            let kept = (-passed / (60.0 * minutes)).exp();
            *average = *average * kept + running * (1.0 - kept);
        }
        load.averages
    }
}

fn device_and_mount(directory: impl std::os::fd::AsFd, path: &str) -> (u64, u64) {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    rustix::fs::statx(directory, path, AtFlags::EMPTY_PATH, wanted).map_or((21, 0), |raw| {
        let device = rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor);
        (device, raw.stx_mnt_id)
    })
}

/// The CPUs that a process of the container's may run on.
fn allowed_cpus(host_proc: &OwnedFd, who: &str) -> Vec<usize> {
    let text = read_below(host_proc, &format!("{who}/status"), 16 << 10).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let list = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut cpus = Vec::new();
    for range in list.unwrap_or_default().trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse(), last.parse::<usize>()) {
            cpus.extend(first..=last.min(MOST_CPUS));
        }
    }
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// The width of the mask in the sentry's own status: four bits per digit.
fn mask_bits(host_proc: &OwnedFd) -> usize {
    let text = read_below(host_proc, "self/status", 16 << 10).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mask = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed:"));
    4 * mask.map_or(0, |mask| mask.bytes().filter(u8::is_ascii_hexdigit).count())
}

/// Opens a file of the container's cgroup mount; `None` if that is no cgroup (an image may have files of such names).
fn open_control(name: &str) -> Option<OwnedFd> {
    let path = format!("/sys/fs/cgroup/{name}");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = crate::host::openat(rustix::fs::CWD, path, flags, Mode::empty()).ok()?;
    let kind = rustix::fs::fstatfs(&fd).ok()?.f_type;
    [CGROUP, CGROUP2].contains(&kind).then_some(fd)
}

fn text_of(fd: &OwnedFd) -> Option<String> {
    let mut bytes = [0; 128];
    let count = crate::host::pread(fd, &mut bytes, 0).ok()?;
    Some(String::from_utf8_lossy(&bytes[..count]).trim().to_owned())
}

fn number_of(fd: &OwnedFd) -> Option<u64> {
    text_of(fd)?.parse().ok()
}

/// `None`: it says "max", or what v1 takes for that.
fn limit_of(fd: &OwnedFd) -> Option<u64> {
    number_of(fd).filter(|number| *number < UNLIMITED)
}

impl Cgroup {
    fn or_as_seen(self) -> Self {
        let first = |given: Option<OwnedFd>, names: &[&str]| {
            given.or_else(|| names.iter().find_map(|name| open_control(name)))
        };
        Self {
            memory_limit: first(
                self.memory_limit,
                &["memory.max", "memory/memory.limit_in_bytes"],
            ),
            memory_used: first(
                self.memory_used,
                &["memory.current", "memory/memory.usage_in_bytes"],
            ),
            cpu_quota: first(
                self.cpu_quota,
                &[
                    "cpu.max",
                    "cpu/cpu.cfs_quota_us",
                    "cpu,cpuacct/cpu.cfs_quota_us",
                ],
            ),
            cpu_period: first(
                self.cpu_period,
                &["cpu/cpu.cfs_period_us", "cpu,cpuacct/cpu.cfs_period_us"],
            ),
            pids_limit: first(self.pids_limit, &["pids.max", "pids/pids.max"]),
        }
    }

    fn quota(&self) -> Option<(u64, u64)> {
        let text = text_of(self.cpu_quota.as_ref()?)?;
        if let Some((quota, period)) = text.split_once(' ') {
            return Some((quota.parse().ok()?, period.parse().ok()?));
        }
        // v1's "none" is -1, which is no such number.
        Some((text.parse().ok()?, number_of(self.cpu_period.as_ref()?)?))
    }
}

/// A file below a directory of the host's, whole, at most `limit` bytes.
#[must_use]
pub fn read_below(directory: &OwnedFd, path: &str, limit: usize) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = crate::host::openat(directory, path, flags, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    while bytes.len() < limit {
        match crate::host::read(&fd, &mut chunk) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(_) if bytes.is_empty() => return None,
            Err(_) => break,
        }
    }
    bytes.truncate(limit);
    Some(bytes)
}

/// CPU numbers as the kernel writes lists of them: `0-2,5`.
#[must_use]
pub fn cpu_list(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => ranges.push((*cpu, *cpu)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    shown.collect::<Vec<_>>().join(",")
}

/// CPU numbers as a bit mask in the kernel's notation: words of 32 bits, the highest first.
#[must_use]
pub fn cpu_mask(cpus: &[usize], of: usize) -> String {
    let words = of.max(1).div_ceil(32);
    let mut bits = vec![0_u32; words];
    for cpu in cpus {
        if let Some(word) = bits.get_mut(cpu / 32) {
            *word |= 1 << (cpu % 32);
        }
    }
    let width = if words == 1 { of.max(1).div_ceil(4) } else { 8 };
    let shown = bits.iter().rev().map(|word| format!("{word:0width$x}"));
    shown.collect::<Vec<_>>().join(",")
}
