//! The log and the metrics file.
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

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
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) id: String,
    pub(crate) level: Level,
    pub(crate) shows_level: bool,
    pub(crate) file: Option<File>,
}

/// Where messages go; shared by all threads. Without a file they go to standard error from `Warn` up: standard output is the guest's.
#[derive(Debug)]
pub(crate) struct Log(Mutex<Settings>);

impl Log {
    pub(crate) fn new(settings: Settings) -> Log {
        Log(Mutex::new(settings))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(
            &mut self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }

    /// Writes one line. A full pipe or disk loses the line, never the machine.
    #[expect(
        clippy::print_stderr,
        reason = "the place for messages when no log file is set"
    )]
    pub(crate) fn write(&self, level: Level, message: &str) {
        let mut settings = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if level > settings.level {
            return;
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let level = if settings.shows_level {
            format!(":{level:?}")
        } else {
            String::new()
        };
        let line = format!(
            "{}.{:09} [{}{level}] {message}\n",
            now.as_secs(),
            now.subsec_nanos(),
            settings.id
        );
        match settings.file.as_mut() {
            Some(file) => drop(file.write_all(line.as_bytes())),
            None => eprint!("{line}"),
        }
    }
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
