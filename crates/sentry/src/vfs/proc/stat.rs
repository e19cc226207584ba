//! /proc/PID/stat and statm: the host's figures of time and memory, with the sandbox's numbers and names. proc_pid_stat(5).

use super::Who;
use super::process::{process, task};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::machine::read_below;
use crate::kernel::signals::{LAST, SIG_DFL, SIG_IGN};
use crate::kernel::task::{Process, Task};

/// Fields behind the name. proc_pid_stat(5) counts from 1, and the name is its second.
const FIELDS: usize = 50;
const TICK_US: u64 = 10_000;

pub fn stat(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    line(kernel, who, None)
}

/// Of the process that asks: it runs, whatever the host says of a thread that waits for this very answer.
pub fn of_caller(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    line(kernel, who, Some('R'))
}

fn line(kernel: &Kernel, who: Who, state: Option<char>) -> Result<Vec<u8>> {
    let process = process(kernel, who)?;
    let task = task(kernel, who).ok();
    let host = host_fields(kernel, who, process, task);
    let mut fields = host.clone();
    fields.resize(FIELDS, "0".to_owned());
    let state = state.unwrap_or_else(|| self::state(process, task, host.first()));
    let mut set = |field: usize, value: String| fields[field - 3] = value;
    set(3, state.to_string());
    set(4, process.parent.to_string());
    set(5, process.group.to_string());
    set(6, process.session.to_string());
    set(7, terminal(process).to_string());
    set(8, "-1".to_owned());
    if process.is_zombie() {
        set(14, (process.usage.user_us / TICK_US).to_string());
        set(15, (process.usage.system_us / TICK_US).to_string());
    }
    set(16, (process.children_usage.user_us / TICK_US).to_string());
    set(17, (process.children_usage.system_us / TICK_US).to_string());
    set(20, process.threads.len().max(1).to_string());
    set(21, "0".to_owned());
    set(
        25,
        process.limits.0[libc::RLIMIT_RSS as usize].0.to_string(),
    );
    // Addresses of code, data and arguments are told to nobody: the host's are the loader's.
    for field in [26, 27] {
        set(field, u8::from(!process.is_zombie()).to_string());
    }
    for field in [29, 30, 34, 35, 36, 37].into_iter().chain(45..=51) {
        set(field, "0".to_owned());
    }
    let (ignored, caught) = handled(process);
    if let Some(task) = task {
        let word = |set: u64| (set & 0x7FFF_FFFF).to_string();
        set(31, word(task.pending.set.0));
        set(32, word(task.mask.0));
        set(33, word(ignored));
        set(34, word(caught));
        let schedule = task.settings.schedule;
        let is_realtime = schedule.policy == libc::SCHED_FIFO || schedule.policy == libc::SCHED_RR;
        let priority = if is_realtime {
            -1 - schedule.priority
        } else {
            20 + schedule.nice
        };
        set(18, priority.to_string());
        set(19, schedule.nice.to_string());
        set(
            40,
            if is_realtime { schedule.priority } else { 0 }.to_string(),
        );
        set(41, schedule.policy.to_string());
    }
    set(38, process.exit_signal.to_string());
    set(52, process.status.unwrap_or(0).to_string());
    let id = who.thread.unwrap_or(who.pid);
    let mut text = format!("{id} (").into_bytes();
    text.extend(name(process, task));
    text.extend(format!(") {}\n", fields.join(" ")).into_bytes());
    Ok(text)
}

/// The command's name; a zombie keeps its program's.
pub fn name(process: &Process, task: Option<&Task>) -> Vec<u8> {
    if let Some(task) = task {
        return task.name.clone();
    }
    process.settings.last_name.clone()
}

fn host_fields(kernel: &Kernel, who: Who, process: &Process, task: Option<&Task>) -> Vec<String> {
    let path = match (who.thread, task) {
        (Some(_), Some(task)) => format!("{}/task/{}/stat", process.host_pid, task.host_tid),
        _ if process.is_zombie() => return Vec::new(),
        _ => format!("{}/stat", process.host_pid),
    };
    let text = read_below(&kernel.host_proc, &path, 4096).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let rest = text.rsplit(") ").next().unwrap_or("");
    rest.split_whitespace()
        .take(FIELDS)
        .map(str::to_owned)
        .collect()
}

/// R, S, D, T, Z, as ps(1) shows them.
pub fn state(process: &Process, task: Option<&Task>, host: Option<&String>) -> char {
    if process.is_zombie() {
        'Z'
    } else if task.is_some_and(|task| task.traced.as_ref().is_some_and(|own| own.stop.is_some())) {
        't'
    } else if process.is_stopped {
        'T'
    } else if task.is_some_and(|task| task.blocked.is_some()) {
        'S'
    } else {
        match host.and_then(|state| state.chars().next()) {
            Some('R') | None => 'R',
            Some('D') => 'D',
            // 't', 'I' and the like are the host's own affairs.
            _ => 'S',
        }
    }
}

/// The terminal's device as the kernel encodes it for programs. Linux: new_encode_dev().
fn terminal(process: &Process) -> u64 {
    let Some(terminal) = &process.terminal else {
        return 0;
    };
    let device = terminal.attributes().rdev;
    let (major, minor) = (
        u64::from(rustix::fs::major(device)),
        u64::from(rustix::fs::minor(device)),
    );
    (minor & 0xFF) | (major << 8) | ((minor & !0xFF) << 12)
}

/// Which signals are ignored, and which have handlers.
pub fn handled(process: &Process) -> (u64, u64) {
    let actions = process.actions.lock();
    let (mut ignored, mut caught) = (0, 0);
    for signal in 1..=LAST {
        match actions.get(signal).handler {
            SIG_DFL => {}
            SIG_IGN => ignored |= 1 << (signal - 1),
            _ => caught |= 1 << (signal - 1),
        }
    }
    (ignored, caught)
}

pub fn statm(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let process = process(kernel, who)?;
    if process.is_zombie() {
        return Ok(b"0 0 0 0 0 0 0\n".to_vec());
    }
    let path = format!("{}/statm", process.host_pid);
    Ok(read_below(&kernel.host_proc, &path, 4096).unwrap_or_default())
}
