//! The log.
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::Location;
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::controller::Shared;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// Firecracker takes any case, and both `Warning` and `Warn`.
    pub(crate) fn parse(word: &str) -> Option<Level> {
        Some(match word.to_ascii_lowercase().as_str() {
            "off" => Level::Off,
            "error" => Level::Error,
            "warning" | "warn" => Level::Warn,
            "info" => Level::Info,
            "debug" => Level::Debug,
            "trace" => Level::Trace,
            _ => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Level::Off => "OFF",
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) id: String,
    pub(crate) level: Level,
    pub(crate) shows_level: bool,
    pub(crate) shows_origin: bool,
    /// Only messages of this module of the source, and of those in it.
    pub(crate) module: Option<String>,
    pub(crate) file: Option<File>,
}

const MISSED: usize = 0;
const FAILED: usize = 1;

/// Where messages go; shared by all threads. Without a file they go to standard error from `Warn` up: standard output is the guest's.
#[derive(Debug)]
pub(crate) struct Log {
    settings: Mutex<Settings>,
    counts: Shared<4>,
}

impl Log {
    pub(crate) fn new(settings: Settings) -> Log {
        let names = [
            "missed_log_count",
            "log_fails",
            "missed_metrics_count",
            "metrics_fails",
        ];
        Log {
            settings: Mutex::new(settings),
            counts: Shared::new(names),
        }
    }

    pub(crate) fn take_counts(&self) -> Value {
        self.counts.take()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(
            &mut self
                .settings
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }

    /// The open file, for a process that closes all others.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        let settings = self
            .settings
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        settings.file.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Writes one line. A full pipe or disk loses the line, never the machine.
    #[track_caller]
    #[expect(
        clippy::print_stderr,
        reason = "the place for messages when no log file is set"
    )]
    pub(crate) fn write(&self, level: Level, message: &str) {
        let origin = Location::caller();
        let mut settings = self
            .settings
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if level > settings.level || !settings.wants(origin.file()) {
            return;
        }
        let line = settings.line(level, origin, message);
        match settings.file.as_mut() {
            Some(file) => {
                if file.write_all(line.as_bytes()).is_err() {
                    self.counts.add(MISSED, 1);
                    self.counts.add(FAILED, 1);
                }
            }
            None => eprint!("{line}"),
        }
    }
}

impl Settings {
    /// Whether the filter lets messages of a source file through: `crates/vmm/src/api/server.rs` is `casemate_vmm::api::server`.
    fn wants(&self, file: &str) -> bool {
        let Some(wanted) = &self.module else {
            return true;
        };
        let inside = file.rsplit_once("src/").map_or(file, |(_, rest)| rest);
        let inside = inside.strip_suffix(".rs").unwrap_or(inside);
        let module = format!("casemate_vmm::{}", inside.replace('/', "::"));
        let module = module.strip_suffix("::mod").unwrap_or(&module);
        let is_in = |whole: &str| {
            let rest = whole.strip_prefix(wanted.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        is_in(module)
            || module
                .split_once("::")
                .is_some_and(|(_, short)| is_in(short))
    }

    /// Firecracker's form: `2025-01-31T12:00:00.123456789 [id:thread:LEVEL:file:line] message`.
    fn line(&self, level: Level, origin: &Location<'_>, message: &str) -> String {
        let thread = std::thread::current();
        let mut place = format!("{}:{}", self.id, thread.name().unwrap_or("main"));
        if self.shows_level {
            place.push(':');
            place.push_str(level.word());
        }
        if self.shows_origin {
            // Where the source was built is nobody's business.
            let file = origin.file();
            let at = file.find("crates/").unwrap_or(0);
            let file = file.get(at..).unwrap_or(file);
            place.push_str(&format!(":{file}:{}", origin.line()));
        }
        format!("{} [{place}] {message}\n", timestamp())
    }
}

/// Now, in UTC. The civil date from a number of days: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn timestamp() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (days, seconds) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let nanoseconds = now.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}")
}

fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March.
    let part = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * part + 2) / 5 + 1;
    let month = if part < 10 { part + 3 } else { part - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Opens a log or metrics file, or a FIFO, for appending. Not blocking, so a FIFO nobody reads is refused instead of hanging us.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    // O_RDWR on a FIFO neither blocks nor fails without a reader (fifo(7)): a collector may come later.
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_819), (2027, 1, 1));
    }

    #[test]
    fn a_module_filters_by_whole_names() {
        let settings = |module: &str| Settings {
            id: String::new(),
            level: Level::Info,
            shows_level: false,
            shows_origin: false,
            module: Some(module.to_owned()),
            file: None,
        };
        let file = "crates/vmm/src/api/server.rs";
        for wanted in ["casemate_vmm", "casemate_vmm::api", "api::server", "api"] {
            assert!(settings(wanted).wants(file), "{wanted}");
        }
        for unwanted in ["ap", "api::serve", "controller"] {
            assert!(!settings(unwanted).wants(file), "{unwanted}");
        }
    }
}
