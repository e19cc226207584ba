//! What `ps` shows of a container: read from the guest's /proc.

use std::fs;

use casemate_guest_protocol::ProcessRow;

use crate::error::{Error, Result};

/// A container with more is shown as far as this: the answer is one frame.
const MAX_ROWS: usize = 500;
const MAX_COMMAND: usize = 200;
/// USER_HZ of every Linux on x86-64.
const TICK_MS: u64 = 10;

pub(crate) fn rows(pids: &[i32]) -> Vec<ProcessRow> {
    let uptime_ms = uptime_ms();
    pids.iter()
        .take(MAX_ROWS)
        .filter_map(|pid| row(*pid, uptime_ms))
        .collect()
}

fn row(pid: i32, uptime_ms: u64) -> Option<ProcessRow> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // The name is the program's choice: it may hold spaces and parentheses.
    let (head, tail) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<i64>().ok());
    let unsigned = |index: usize| {
        number(index)
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or(0)
    };
    let id = |index: usize| number(index).and_then(|value| i32::try_from(value).ok());
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|text| text.split_whitespace().nth(1))
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut command: String = String::from_utf8_lossy(&command)
        .trim_end_matches('\0')
        .replace('\0', " ");
    if command.is_empty() {
        command = format!("[{}]", head.split_once('(').map_or("", |(_, name)| name));
    }
    Some(ProcessRow {
        pid,
        ppid: id(1)?,
        pgid: id(2)?,
        sid: id(3)?,
        uid,
        threads: usize::try_from(unsigned(17)).unwrap_or(1),
        state: fields.first()?.chars().next()?,
        started_ms: uptime_ms.saturating_sub(unsigned(19) * TICK_MS),
        cpu_ms: (unsigned(11) + unsigned(12)) * TICK_MS,
        command: command.chars().take(MAX_COMMAND).collect(),
    })
}

/// Whether the machine has so much memory; a limit above it would hold nothing.
pub(crate) fn fits(limit: u64) -> Result<()> {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .unwrap_or(u64::MAX >> 10)
        << 10;
    if limit <= total {
        return Ok(());
    }
    let message = format!(
        "the machine has {} MiB: a limit cannot grow beyond that while it runs",
        total >> 20
    );
    Err(Error::new(message, libc::ENOMEM))
}

fn uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text
        .split('.')
        .next()
        .and_then(|text| text.parse::<u64>().ok());
    seconds.unwrap_or(0) * 1000
}

/// Whether a process catches, ignores or blocks a signal; true also if it is gone.
pub(crate) fn handles(pid: i32, signal: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let mask = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .unwrap_or(0)
    };
    let handled = mask("SigCgt:") | mask("SigIgn:") | mask("SigBlk:");
    u32::try_from(signal - 1).is_ok_and(|bit| handled.checked_shr(bit).unwrap_or(0) & 1 == 1)
}
