//! The command line, with Firecracker's names.
use std::path::PathBuf;

use crate::api::model::valid_id;

const USAGE: &str = "usage: casemate-engine vmm --api-sock PATH [--config-file FILE] [--no-api] [--id ID] [--metadata FILE] \
[--boot-timer] [--level LEVEL] [--log-path PATH] [--show-level] [--http-api-max-payload-size BYTES]";

/// Firecracker's `HTTP_MAX_PAYLOAD_SIZE`.
const MAX_BODY: usize = 51_200;

/// What the words ask for.
pub(crate) enum Command {
    Run(Options),
    Print(String),
}

/// How a monitor is started.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) api_socket: Option<PathBuf>,
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) metadata: Option<PathBuf>,
    pub(crate) id: String,
    pub(crate) has_boot_timer: bool,
    pub(crate) level: Option<String>,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) shows_level: bool,
    pub(crate) max_body: usize,
    pub(crate) max_mmds: usize,
}

/// Reads the words behind `vmm`. `--option=value` and `--option value` are the same.
pub(crate) fn parse(words: &[&str]) -> Result<Command, String> {
    let mut options = Options {
        api_socket: Some(PathBuf::from("/run/firecracker.socket")),
        config_file: None,
        metadata: None,
        id: "anonymous-instance".to_owned(),
        has_boot_timer: false,
        level: None,
        log_path: None,
        shows_level: false,
        max_body: MAX_BODY,
        max_mmds: MAX_BODY,
    };
    let mut has_api = true;
    let mut max_mmds = None;
    let mut rest = words.iter().flat_map(|word| match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => vec![name, value],
        _ => vec![*word],
    });
    while let Some(word) = rest.next() {
        let mut value = || rest.next().ok_or(format!("{word} needs a value\n{USAGE}"));
        match word {
            "--api-sock" => options.api_socket = Some(value()?.into()),
            "--config-file" => options.config_file = Some(value()?.into()),
            "--metadata" => options.metadata = Some(value()?.into()),
            "--id" => options.id = checked_id(value()?)?,
            "--level" => options.level = Some(value()?.to_owned()),
            "--log-path" => options.log_path = Some(value()?.into()),
            "--http-api-max-payload-size" => options.max_body = bytes(word, value()?)?,
            "--mmds-size-limit" => max_mmds = Some(bytes(word, value()?)?),
            "--boot-timer" => options.has_boot_timer = true,
            "--show-level" => options.shows_level = true,
            "--no-api" => has_api = false,
            "--help" | "-h" => return Ok(Command::Print(USAGE.to_owned())),
            "--version" => {
                return Ok(Command::Print(format!(
                    "casemate vmm {}",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            other => return Err(format!("unknown option {other}\n{USAGE}")),
        }
    }
    // A document as large as a request may be, unless it is told.
    options.max_mmds = max_mmds.unwrap_or(options.max_body);
    if !has_api {
        options.api_socket = None;
        if options.config_file.is_none() {
            return Err(
                "--no-api needs --config-file: nothing else could start the machine".to_owned(),
            );
        }
    }
    Ok(Command::Run(options))
}

fn checked_id(id: &str) -> Result<String, String> {
    // Firecracker's validators: instance ids have at most 64 characters, letters, digits and '-'.
    if id.len() <= 64 && valid_id(&id.replace('-', "_")) {
        Ok(id.to_owned())
    } else {
        Err(format!("--id {id:?}: 1 to 64 letters, digits and '-'"))
    }
}

fn bytes(option: &str, word: &str) -> Result<usize, String> {
    match word.parse() {
        Ok(size) if (1..=1 << 24).contains(&size) => Ok(size),
        _ => Err(format!("{option} {word}: 1 to 16777216")),
    }
}
