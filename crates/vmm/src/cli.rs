//! The command line, with Firecracker's names.
use std::path::PathBuf;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::api::model::valid_id;
use crate::controller::{API_VERSION, StartTimes};
use crate::seccomp::{self, Filters};
use crate::snapshot::file;

const USAGE: &str = "usage: casemate-engine vmm --api-sock PATH [--config-file FILE] [--load-snapshot FILE] [--no-api] [--kvm-fd FD] [--console-fd FD] [--tap-fd CARD=FD] [--id ID] [--metadata FILE] \
[--boot-timer] [--level LEVEL] [--log-path PATH] [--module MODULE] [--show-level] [--show-log-origin] [--metrics-path PATH] [--no-seccomp | --seccomp-filter FILE] [--print-seccomp-filter] [--snapshot-version] [--describe-snapshot FILE] \
[--http-api-max-payload-size BYTES] [--mmds-size-limit BYTES] [--start-time-us US] [--start-time-cpu-us US] [--parent-cpu-time-us US]";

/// Firecracker's `HTTP_MAX_PAYLOAD_SIZE`.
const MAX_BODY: usize = 51_200;

/// What the words ask for.
pub(crate) enum Command {
    Run(Box<Options>),
    Print(String),
}

/// How a monitor is started.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) api_socket: Option<PathBuf>,
    pub(crate) config_file: Option<PathBuf>,
    /// The body of a request to /snapshot/load, which is done first of all.
    pub(crate) load_snapshot: Option<PathBuf>,
    /// /dev/kvm, opened by whoever started this: a jail without the device file.
    pub(crate) kvm_fd: Option<i32>,
    /// A connected Unix socket, in the place of `/casemate/console`'s.
    pub(crate) console_fd: Option<i32>,
    /// Open taps, by the ids of cards without a `host_dev_name`.
    pub(crate) tap_fds: Vec<(String, i32)>,
    pub(crate) metadata: Option<PathBuf>,
    pub(crate) id: String,
    pub(crate) has_boot_timer: bool,
    /// Whether the standard streams are the guest's serial line.
    pub(crate) has_console: bool,
    pub(crate) level: Option<String>,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) shows_level: bool,
    /// What the threads may ask of the kernel.
    pub(crate) filters: Filters,
    pub(crate) shows_origin: bool,
    pub(crate) module: Option<String>,
    pub(crate) metrics_path: Option<PathBuf>,
    pub(crate) start_times: StartTimes,
    pub(crate) max_body: usize,
    pub(crate) max_mmds: usize,
}

/// Reads the words behind `vmm`. `--option=value` and `--option value` are the same.
pub(crate) fn parse(words: &[&str]) -> Result<Command, String> {
    let mut options = Options {
        api_socket: Some(PathBuf::from("/run/firecracker.socket")),
        config_file: None,
        load_snapshot: None,
        kvm_fd: None,
        console_fd: None,
        tap_fds: Vec::new(),
        metadata: None,
        id: "anonymous-instance".to_owned(),
        has_boot_timer: false,
        has_console: true,
        level: None,
        log_path: None,
        shows_level: false,
        filters: Filters::default(),
        shows_origin: false,
        module: None,
        metrics_path: None,
        start_times: StartTimes::default(),
        max_body: MAX_BODY,
        max_mmds: MAX_BODY,
    };
    let mut has_api = true;
    let mut wanted = Wanted::Own;
    let mut max_mmds = None;
    let mut started = Started::default();
    let mut rest = words.iter().flat_map(|word| match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => vec![name, value],
        _ => vec![*word],
    });
    while let Some(word) = rest.next() {
        let mut value = || rest.next().ok_or(format!("{word} needs a value\n{USAGE}"));
        match word {
            "--api-sock" => options.api_socket = Some(value()?.into()),
            "--config-file" => options.config_file = Some(value()?.into()),
            "--load-snapshot" => options.load_snapshot = Some(value()?.into()),
            "--kvm-fd" => options.kvm_fd = Some(descriptor(word, value()?)?),
            "--console-fd" => options.console_fd = Some(descriptor(word, value()?)?),
            "--tap-fd" => options.tap_fds.push(card(word, value()?)?),
            "--metadata" => options.metadata = Some(value()?.into()),
            "--id" => options.id = checked_id(value()?)?,
            "--level" => options.level = Some(value()?.to_owned()),
            "--log-path" => options.log_path = Some(value()?.into()),
            "--http-api-max-payload-size" => options.max_body = bytes(word, value()?)?,
            "--mmds-size-limit" => max_mmds = Some(bytes(word, value()?)?),
            "--metrics-path" => options.metrics_path = Some(value()?.into()),
            "--module" => options.module = Some(value()?.to_owned()),
            "--start-time-us" => started.wall_us = Some(microseconds(word, value()?)?),
            "--start-time-cpu-us" => started.cpu_us = Some(microseconds(word, value()?)?),
            "--parent-cpu-time-us" => started.parent_cpu_us = Some(microseconds(word, value()?)?),
            "--show-log-origin" => options.shows_origin = true,
            "--no-seccomp" => wanted = Wanted::None,
            "--seccomp-filter" => wanted = Wanted::Users(value()?.into()),
            "--snapshot-version" => return Ok(Command::Print(file::own_version())),
            "--describe-snapshot" => {
                let path = value()?;
                return file::version(path.as_ref())
                    .map(Command::Print)
                    .map_err(|error| format!("--describe-snapshot {path}: {error}"));
            }
            "--print-seccomp-filter" => return Ok(Command::Print(seccomp::print())),
            "--enable-pci" => return Err("--enable-pci: this monitor has no PCI bus".to_owned()),
            "--boot-timer" => options.has_boot_timer = true,
            "--show-level" => options.shows_level = true,
            "--no-api" => has_api = false,
            "--help" | "-h" => return Ok(Command::Print(USAGE.to_owned())),
            "--version" => {
                return Ok(Command::Print(format!(
                    "casemate vmm {}, Firecracker API v{API_VERSION}",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            other => return Err(format!("unknown option {other}\n{USAGE}")),
        }
    }
    options.start_times = started.until_now();
    // A document as large as a request may be, unless it is told.
    options.max_mmds = max_mmds.unwrap_or(options.max_body);
    if !has_api {
        options.api_socket = None;
        if options.config_file.is_none() && options.load_snapshot.is_none() {
            return Err(
                "--no-api needs --config-file or --load-snapshot: nothing else could start the machine".to_owned(),
            );
        }
    }
    options.filters = match wanted {
        Wanted::Own => Filters::own(),
        Wanted::None => Filters::default(),
        Wanted::Users(path) => Filters::read(&path)?,
    };
    Ok(Command::Run(Box::new(options)))
}

/// Whose seccomp filters.
enum Wanted {
    Own,
    None,
    Users(PathBuf),
}

fn checked_id(id: &str) -> Result<String, String> {
    // Firecracker's validators: instance ids have at most 64 characters, letters, digits and '-'.
    if id.len() <= 64 && valid_id(&id.replace('-', "_")) {
        Ok(id.to_owned())
    } else {
        Err(format!("--id {id:?}: 1 to 64 letters, digits and '-'"))
    }
}

fn descriptor(option: &str, word: &str) -> Result<i32, String> {
    match word.parse() {
        Ok(number) if number > 2 => Ok(number),
        _ => Err(format!(
            "{option} {word}: the number of a descriptor above 2"
        )),
    }
}

fn card(option: &str, word: &str) -> Result<(String, i32), String> {
    let (id, number) = word
        .split_once('=')
        .filter(|(id, _)| valid_id(id))
        .ok_or(format!(
            "{option} {word}: a network interface's id and a descriptor, as eth0=7"
        ))?;
    Ok((id.to_owned(), descriptor(option, number)?))
}

fn bytes(option: &str, word: &str) -> Result<usize, String> {
    match word.parse() {
        Ok(size) if (1..=1 << 24).contains(&size) => Ok(size),
        _ => Err(format!("{option} {word}: 1 to 16777216")),
    }
}

fn microseconds(option: &str, word: &str) -> Result<u64, String> {
    word.parse()
        .map_err(|_| format!("{option} {word}: microseconds as a number"))
}

/// What whoever started the process read from the clocks before: the monotonic one, and the process's own.
#[derive(Default)]
struct Started {
    wall_us: Option<u64>,
    cpu_us: Option<u64>,
    parent_cpu_us: Option<u64>,
}

impl Started {
    fn until_now(&self) -> StartTimes {
        let now = |clock| {
            let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
            u64::try_from(tv_sec * 1_000_000 + tv_nsec / 1000).unwrap_or(0)
        };
        let wall_us = self
            .wall_us
            .map(|before| now(ClockId::Monotonic).saturating_sub(before));
        let cpu_us = self.cpu_us.map(|before| {
            let own = now(ClockId::ProcessCPUTime).saturating_sub(before);
            own.saturating_add(self.parent_cpu_us.unwrap_or(0))
        });
        StartTimes { wall_us, cpu_us }
    }
}
