//! The part of `debug` that tells of the programs: whoever asks holds the kernel meanwhile, so nothing here waits.

use std::time::Instant;

use casemate_platform::magic;
use casemate_platform::notify::Call;

use super::constants::{self, reading};
use super::decode::{Decoder, Shown};
use super::escape::escaped;
use super::numbers;
use super::report::{FileRow, MOST, MappingRow, Report, TaskRow, host_call, read_text};
use crate::kernel::Kernel;
use crate::kernel::task::{Process, Task};
use crate::memory::Memory;
use crate::syscalls::table;
use crate::vfs::proc::{Who, fds, maps};

/// Bytes of a string and of a name that are shown.
const SHOWN: usize = 64;

pub(super) fn add(kernel: &Kernel, report: &mut Report) {
    for process in kernel.processes.values() {
        let who = Who {
            pid: process.pid,
            thread: None,
        };
        if process.is_zombie() {
            report.tasks.push(ended(process));
        }
        let tasks = process
            .threads
            .iter()
            .filter_map(|tid| kernel.tasks.get(tid));
        report
            .tasks
            .extend(tasks.map(|task| row(kernel, process, task)));
        add_files(kernel, process, &mut report.files);
        add_mappings(
            &maps::maps(kernel, who).unwrap_or_default(),
            process.pid,
            &mut report.mappings,
        );
    }
    report.left_out = cut(&mut report.tasks) + cut(&mut report.files) + cut(&mut report.mappings);
}

fn cut<T>(rows: &mut Vec<T>) -> usize {
    let more = rows.len().saturating_sub(MOST);
    rows.truncate(MOST);
    more
}

fn ended(process: &Process) -> TaskRow {
    TaskRow {
        pid: process.pid,
        tid: process.pid,
        ppid: process.parent,
        name: String::new(),
        state: "ended".to_owned(),
        call: String::new(),
        channel: process.status.map_or_else(String::new, numbers::status),
        left_ms: -1,
        pending: String::new(),
        blocked: String::new(),
    }
}

fn row(kernel: &Kernel, process: &Process, task: &Task) -> TaskRow {
    let (state, call, channel) = state(kernel, process, task);
    let deadline = task.blocked.as_ref().and_then(|blocked| blocked.deadline);
    let pending = process.pending.set.union(task.pending.set);
    TaskRow {
        pid: task.pid,
        tid: task.tid,
        ppid: process.parent,
        name: escaped(&task.name),
        state: state.to_owned(),
        call,
        channel,
        left_ms: deadline.map_or(-1, |deadline| {
            deadline
                .saturating_duration_since(Instant::now())
                .as_millis() as i64
        }),
        pending: numbers::set(pending.0),
        blocked: numbers::set(task.mask.0),
    }
}

/// What it does, in which call, and what it waits for.
fn state(kernel: &Kernel, process: &Process, task: &Task) -> (&'static str, String, String) {
    if let Some(blocked) = &task.blocked {
        let call = &blocked.call;
        if process.is_stopped || call.nr == magic::DELIVER {
            return ("stopped", String::new(), "SIGCONT".to_owned());
        }
        return ("waiting", shown(call), waits_for(kernel, task, call));
    }
    if process.is_stopped {
        return ("stopped", String::new(), "SIGCONT".to_owned());
    }
    let path = |file: &str| format!("{}/{file}", task.host_tid);
    let native = read_text(&kernel.host_proc, &path("syscall"));
    match host_call(&native) {
        Some(nr) if is_native(nr) => {
            let call = from_host(task.host_tid, nr, &native);
            let channel = read_text(&kernel.host_proc, &path("wchan"));
            (
                "native",
                shown(&call),
                if channel == "0" {
                    String::new()
                } else {
                    channel
                },
            )
        }
        // It has asked, and its answer waits for the kernel that is held here.
        Some(nr) => ("running", table::name(nr), String::new()),
        None => ("running", String::new(), String::new()),
    }
}

fn is_native(nr: i32) -> bool {
    casemate_platform::filter::NATIVE
        .iter()
        .any(|native| native.nr == i64::from(nr))
}

/// /proc/TID/syscall: number, six arguments, stack and instruction pointer.
fn from_host(tid: i32, nr: i32, text: &str) -> Call {
    let mut args = [0; 6];
    let words = text.split_whitespace().skip(1);
    for (argument, word) in args.iter_mut().zip(words) {
        *argument = u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or(0);
    }
    Call {
        id: 0,
        tid,
        nr,
        ip: 0,
        args,
    }
}

fn shown(call: &Call) -> String {
    let Some(row) = table::row(call.nr) else {
        return table::name(call.nr);
    };
    let decoder = Decoder {
        memory: Memory { tid: call.tid },
        limit: SHOWN,
    };
    let arguments = decoder.arguments(row, &call.args).into_iter();
    let arguments: Vec<String> = arguments
        .map(|argument| match argument {
            Shown::Now(text) => text,
            Shown::After(after) => decoder.after(after, None),
        })
        .collect();
    format!("{}({})", row.name, arguments.join(", "))
}

fn waits_for(kernel: &Kernel, task: &Task, call: &Call) -> String {
    let row = table::row(call.nr);
    let first = row.and_then(|row| row.arguments.first());
    if let Some(argument) = first
        && matches!(argument.name, "fd" | "epfd")
    {
        let name = file_name(kernel, task, call.args[0] as i32);
        return name.unwrap_or_default();
    }
    match row.map(|row| row.name).unwrap_or_default() {
        "wait4" | "waitid" => "a child".to_owned(),
        "nanosleep" | "clock_nanosleep" => "time".to_owned(),
        "pause" | "rt_sigsuspend" | "rt_sigtimedwait" => "a signal".to_owned(),
        "poll" | "ppoll" | "select" | "pselect6" => "files".to_owned(),
        "semop" | "semtimedop" | "msgsnd" | "msgrcv" => "System V object".to_owned(),
        _ => String::new(),
    }
}

fn file_name(kernel: &Kernel, task: &Task, fd: i32) -> Option<String> {
    let description = task.files.lock().get(fd).ok()?;
    let name = fds::name(kernel, &description).ok()?;
    Some(escaped(&name[..name.len().min(4 * SHOWN)]))
}

fn add_files(kernel: &Kernel, process: &Process, rows: &mut Vec<FileRow>) {
    let Some(task) = kernel.leader(process) else {
        return;
    };
    let numbers = task.files.lock().numbers();
    for fd in numbers {
        let (description, closes) = {
            let files = task.files.lock();
            let Ok(description) = files.get(fd) else {
                continue;
            };
            (description, files.close_on_exec(fd).unwrap_or(false))
        };
        let closes = if closes { libc::O_CLOEXEC as u64 } else { 0 };
        let flags = reading("open", "flags");
        rows.push(FileRow {
            pid: process.pid,
            fd,
            flags: flags.map_or_else(String::new, |reading| {
                constants::shown(reading, u64::from(description.flags()) | closes)
            }),
            position: *description.position(),
            name: file_name(kernel, task, fd).unwrap_or_default(),
        });
        if rows.len() > 2 * MOST {
            return;
        }
    }
}

/// From /proc/PID/maps's text.
fn add_mappings(text: &[u8], pid: i32, rows: &mut Vec<MappingRow>) {
    for line in text.split(|byte| *byte == b'\n') {
        if rows.len() > 2 * MOST {
            return;
        }
        if let Some(row) = mapping(line, pid) {
            rows.push(row);
        }
    }
}

fn mapping(line: &[u8], pid: i32) -> Option<MappingRow> {
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(words.next()?).ok();
    let (start, end) = word()?.split_once('-')?;
    let permissions = word()?.to_owned();
    let offset = u64::from_str_radix(word()?, 16).ok()?;
    let (_device, _inode) = (word()?, word()?);
    let name = words.next().unwrap_or_default().trim_ascii_start();
    Some(MappingRow {
        pid,
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        permissions,
        offset,
        name: escaped(&name[..name.len().min(4 * SHOWN)]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_becomes_a_row() {
        let line = b"7f0000001000-7f0000003000 r-xp 00002000 00:1f 1234                       /usr/lib/a\tb.so";
        let row = mapping(line, 7).expect("a row");
        assert_eq!((row.start, row.end), (0x7f00_0000_1000, 0x7f00_0000_3000));
        assert_eq!(
            (row.offset, row.name.as_str()),
            (0x2000, "/usr/lib/a\\tb.so")
        );
        assert!(mapping(b"nonsense", 7).is_none());
    }
}
