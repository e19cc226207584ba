//! /proc/PID/status and the small texts beside it. proc_pid_status(5).

use super::process::{process, task};
use super::stat::{handled, name, state};
use super::{Who, controls};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::machine::{cpu_list, cpu_mask, read_below};
use crate::kernel::task::{Process, Task};
use crate::memory::{Address, Memory};

/// Longest text of the host's that is read here.
const MOST: usize = 64 << 10;
/// Of a title. Linux: PAGE_SIZE.
const MOST_TITLE: usize = 4096;

/// The host's lines in the host's order; those about names, numbers, signals and rights are the sandbox's.
pub fn status(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    lines(kernel, who, false)
}

pub fn of_caller(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    lines(kernel, who, true)
}

fn lines(kernel: &Kernel, who: Who, is_caller: bool) -> Result<Vec<u8>> {
    let process = process(kernel, who)?;
    let Ok(task) = task(kernel, who) else {
        return Ok(of_zombie(process));
    };
    let path = format!("{}/task/{}/status", process.host_pid, task.host_tid);
    let host = read_below(&kernel.host_proc, &path, MOST).unwrap_or_default();
    let mut text = Vec::new();
    for line in String::from_utf8_lossy(&host).lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        if is_caller && key == "State" {
            text.extend(b"State:\tR (running)\n");
            continue;
        }
        match line_of(kernel, process, task, key, value) {
            Some(own) => text.extend([key.as_bytes(), b":\t", &own, b"\n"].concat()),
            None => text.extend([line.as_bytes(), b"\n"].concat()),
        }
    }
    Ok(text)
}

fn line_of(
    kernel: &Kernel,
    process: &Process,
    task: &Task,
    key: &str,
    value: &str,
) -> Option<Vec<u8>> {
    let who = &task.credentials;
    let (ignored, caught) = handled(process);
    let bits = |set: u64| format!("{set:016x}");
    let ids = |ids: [u32; 4]| ids.map(|id| id.to_string()).join("\t");
    let settings = &task.settings;
    let text = match key {
        "Name" => return Some(escaped(&task.name)),
        "Umask" => format!("{:04o}", task.fs.lock().umask),
        "State" => {
            let host = value.trim().chars().take(1).collect::<String>();
            state_text(state(process, Some(task), Some(&host))).to_owned()
        }
        "Tgid" | "NStgid" => process.pid.to_string(),
        "TracerPid" => kernel.tracer_of(task).to_string(),
        "Ngid" | "Seccomp" | "Seccomp_filters" => "0".to_owned(),
        "Pid" | "NSpid" => task.tid.to_string(),
        "PPid" => process.parent.to_string(),
        "NSpgid" => process.group.to_string(),
        "NSsid" => process.session.to_string(),
        "Uid" => ids([who.uid, who.euid, who.suid, who.fsuid]),
        "Gid" => ids([who.gid, who.egid, who.sgid, who.fsgid]),
        "FDSize" => table_size(task).to_string(),
        "Groups" => who.groups.iter().map(|group| format!("{group} ")).collect(),
        "Threads" => process.threads.len().to_string(),
        "SigQ" => {
            let limit = process.limits.0[libc::RLIMIT_SIGPENDING as usize].0;
            let queued = (task.pending.set.0 | process.pending.set.0).count_ones();
            format!("{queued}/{limit}")
        }
        "SigPnd" => bits(task.pending.set.0),
        "ShdPnd" => bits(process.pending.set.0),
        "SigBlk" => bits(task.mask.0),
        "SigIgn" => bits(ignored),
        "SigCgt" => bits(caught),
        "CapInh" => bits(who.inheritable),
        "CapPrm" => bits(who.permitted),
        "CapEff" => bits(who.effective),
        "CapBnd" => bits(who.bounding),
        "CapAmb" => bits(who.ambient),
        "NoNewPrivs" => u8::from(who.no_new_privs).to_string(),
        "Cpus_allowed" => cpu_mask(&allowed(kernel, &settings.cpus), controls::possible(kernel)),
        "Cpus_allowed_list" => cpu_list(&allowed(kernel, &settings.cpus)),
        "Mems_allowed" => "1".to_owned(),
        "Mems_allowed_list" => "0".to_owned(),
        _ => return None,
    };
    Some(text.into_bytes())
}

fn allowed(kernel: &Kernel, cpus: &[usize]) -> Vec<usize> {
    if cpus.is_empty() {
        kernel.machine.cpus.clone()
    } else {
        cpus.to_vec()
    }
}

/// The descriptor table's size: Linux allocates in powers of two from 64 on.
fn table_size(task: &Task) -> usize {
    let highest = task.files.lock().numbers().last().copied().unwrap_or(0);
    (highest.unsigned_abs() as usize + 1)
        .max(64)
        .next_power_of_two()
}

fn state_text(state: char) -> &'static str {
    match state {
        'R' => "R (running)",
        'D' => "D (disk sleep)",
        'T' => "T (stopped)",
        't' => "t (tracing stop)",
        'Z' => "Z (zombie)",
        _ => "S (sleeping)",
    }
}

/// What could end the line is escaped. Linux: fs/proc/array.c proc_task_name().
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'\n' => text.extend(b"\\n"),
            b'\\' => text.extend(b"\\\\"),
            _ => text.push(*byte),
        }
    }
    text
}

fn of_zombie(process: &Process) -> Vec<u8> {
    let pid = process.pid;
    let mut text = b"Name:\t".to_vec();
    text.extend(escaped(&name(process, None)));
    let (parent, uid) = (process.parent, process.uid);
    let rest = format!(
        "\nState:\tZ (zombie)\nTgid:\t{pid}\nNgid:\t0\nPid:\t{pid}\nPPid:\t{parent}\nTracerPid:\t0\n\
         Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nFDSize:\t0\nThreads:\t1\n"
    );
    text.extend(rest.into_bytes());
    text
}

pub fn command(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let process = process(kernel, who)?;
    let mut text = name(process, task(kernel, who).ok());
    text.push(b'\n');
    Ok(text)
}

/// As execve left it. A program that writes over its arguments is not seen to.
pub fn command_line(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let process = process(kernel, who)?;
    if process.is_zombie() {
        return Ok(Vec::new());
    }
    let len = process.arguments.len();
    let arguments = strings(kernel, process, (0, len), &process.arguments);
    if arguments.last().is_none_or(|last| *last == 0) {
        return Ok(arguments);
    }
    // Its end was written over: a title, which may go on into the environment. setproctitle(3), get_mm_proctitle().
    let most = (len + process.environment.len()).min(MOST_TITLE);
    let mut title = strings(kernel, process, (0, most), &arguments);
    if let Some(end) = title.iter().position(|byte| *byte == 0) {
        title.truncate(end + 1);
    }
    Ok(title)
}

pub fn environment(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let process = process(kernel, who)?;
    let range = (process.arguments.len(), process.environment.len());
    Ok(strings(kernel, process, range, &process.environment))
}

/// What lies there now, of arguments and environment: programs write over them to be seen under another name. `else_`: where the memory is not there.
fn strings(
    kernel: &Kernel,
    process: &Process,
    (offset, len): (usize, usize),
    else_: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let at = process.settings.strings_at.wrapping_add(offset as u64);
    let tid = kernel
        .leader(process)
        .filter(|_| process.settings.strings_at != 0)
        .map(|task| task.host_tid);
    match tid.map(|tid| Memory { tid }.read(Address(at), &mut bytes)) {
        Some(Ok(())) => bytes,
        _ => else_.to_vec(),
    }
}

pub fn auxiliary(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    Ok(process(kernel, who)?.settings.auxiliary.clone())
}

pub fn cgroup(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    Ok(b"0::/\n".to_vec())
}

pub fn children(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    // The books know the parent process, not which of its threads it was: its first, as for most.
    if who.thread != Some(who.pid) {
        return Ok(Vec::new());
    }
    let children = kernel
        .processes
        .values()
        .filter(|child| child.parent == who.pid);
    Ok(children
        .map(|child| format!("{} ", child.pid))
        .collect::<String>()
        .into_bytes())
}

/// What the host counted for the native process: bytes that the sentry moved for it are not in there, so they are told as none.
pub fn io(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let names = [
        "rchar",
        "wchar",
        "syscr",
        "syscw",
        "read_bytes",
        "write_bytes",
        "cancelled_write_bytes",
    ];
    Ok(names
        .map(|name| format!("{name}: 0\n"))
        .concat()
        .into_bytes())
}

pub fn schedstat(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    host_text(kernel, who, "schedstat")
}

pub fn sched(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let process = process(kernel, who)?;
    let task = task(kernel, who)?;
    let title = format!(
        "{} ({}, #threads: {})",
        String::from_utf8_lossy(&task.name),
        task.tid,
        process.threads.len()
    );
    let line = "-".repeat(67);
    let (policy, nice) = (task.settings.schedule.policy, task.settings.schedule.nice);
    let fields = format!("policy{:>50}\nprio{:>52}\n", policy, 120 + nice);
    Ok(format!("{title}\n{line}\n{fields}").into_bytes())
}

fn host_text(kernel: &Kernel, who: Who, file: &str) -> Result<Vec<u8>> {
    let host = process(kernel, who)?.host_pid;
    let thread = task(kernel, who)?.host_tid;
    let path = format!("{host}/task/{thread}/{file}");
    Ok(read_below(&kernel.host_proc, &path, MOST).unwrap_or_default())
}
