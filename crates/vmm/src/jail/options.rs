//! The jailer's command line.
use std::path::PathBuf;

use super::JailError;
use crate::api::model::valid_id;

const USAGE: &str = "usage: casemate-engine jailer --id ID --uid UID --gid GID [--chroot-base-dir DIR] [--netns PATH] \
[--cgroup FILE=VALUE]... [--cgroup-version 1|2] [--parent-cgroup NAME] [--resource-limit fsize|no-file=VALUE]... [--daemonize] -- ARGUMENTS OF vmm";

#[derive(Debug)]
pub(super) struct Options {
    pub(super) id: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) base: PathBuf,
    pub(super) netns: Option<PathBuf>,
    pub(super) cgroups: Vec<(String, String)>,
    pub(super) is_cgroup2: bool,
    pub(super) parent_cgroup: String,
    /// RLIMIT_* and its value.
    pub(super) limits: Vec<(u32, u64)>,
    pub(super) daemonize: bool,
    pub(super) arguments: Vec<String>,
}

pub(super) fn parse(words: &[&str]) -> Result<Options, JailError> {
    let usage = |reason: String| JailError::Usage(format!("{reason}\n{USAGE}"));
    let end = words.iter().position(|word| *word == "--");
    let (own, arguments) = words.split_at(end.unwrap_or(words.len()));
    let mut options = Options {
        id: String::new(),
        uid: 0,
        gid: 0,
        base: PathBuf::from("/srv/jailer"),
        netns: None,
        cgroups: Vec::new(),
        is_cgroup2: false,
        parent_cgroup: "casemate-engine".to_owned(),
        limits: vec![(libc::RLIMIT_NOFILE, 2048)],
        daemonize: false,
        arguments: arguments.iter().skip(1).map(ToString::to_string).collect(),
    };
    let mut rest = own.iter().flat_map(|word| match word.split_once('=') {
        Some((name, value))
            if matches!(
                name,
                "--id"
                    | "--uid"
                    | "--gid"
                    | "--chroot-base-dir"
                    | "--netns"
                    | "--cgroup"
                    | "--cgroup-version"
                    | "--parent-cgroup"
                    | "--resource-limit"
            ) =>
        {
            vec![name, value]
        }
        _ => vec![*word],
    });
    while let Some(word) = rest.next() {
        if word == "--daemonize" {
            options.daemonize = true;
            continue;
        }
        let value = rest
            .next()
            .ok_or_else(|| usage(format!("{word} needs a value")))?;
        let wrong = || usage(format!("{word} {value}: not valid"));
        let number = || value.parse::<u32>().ok().ok_or_else(wrong);
        match word {
            "--id" => options.id = value.to_owned(),
            "--uid" => options.uid = number()?,
            "--gid" => options.gid = number()?,
            // The monitor is this executable; the option is taken for the sake of Firecracker's users.
            "--exec-file" => {}
            "--chroot-base-dir" => options.base = value.into(),
            "--netns" => options.netns = Some(value.into()),
            "--cgroup" => options
                .cgroups
                .push(file_and_value(value).ok_or_else(wrong)?),
            "--cgroup-version" => match value {
                "1" => options.is_cgroup2 = false,
                "2" => options.is_cgroup2 = true,
                _ => return Err(wrong()),
            },
            "--parent-cgroup" if is_plain_path(value) => options.parent_cgroup = value.to_owned(),
            "--resource-limit" => options.limits.push(limit(value).ok_or_else(wrong)?),
            _ => {
                return Err(usage(format!(
                    "unknown option {word}, or its value is not valid"
                )));
            }
        }
    }
    if options.id.len() > 64 || !valid_id(&options.id.replace('-', "_")) {
        return Err(usage("--id: 1 to 64 letters, digits and '-'".to_owned()));
    }
    if options.uid == 0 || options.gid == 0 {
        return Err(usage(
            "--uid and --gid: a user and a group that are not root's".to_owned(),
        ));
    }
    Ok(options)
}

fn limit(word: &str) -> Option<(u32, u64)> {
    let (name, value) = word.split_once('=')?;
    let resource = match name {
        "fsize" => libc::RLIMIT_FSIZE,
        "no-file" => libc::RLIMIT_NOFILE,
        _ => return None,
    };
    Some((resource, value.parse().ok()?))
}

/// `cpuset.cpus=0`: a file of one name, whose controller stands before the dot.
fn file_and_value(word: &str) -> Option<(String, String)> {
    let (file, value) = word.split_once('=')?;
    let is_file = file.contains('.') && !file.contains('/') && !file.starts_with('.');
    (is_file && !value.contains('\n')).then(|| (file.to_owned(), value.to_owned()))
}

fn is_plain_path(path: &str) -> bool {
    !path.is_empty()
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}
