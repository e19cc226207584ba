//! The jailer's command line.
use std::path::PathBuf;

use super::JailError;
use crate::api::model::valid_id;

const USAGE: &str = "usage: casemate-engine jailer --id ID [--uid UID --gid GID] [--chroot-base-dir DIR] [--bind HOST=JAIL]... [--bind-rw HOST=JAIL]... [--netns PATH] \
[--cgroup FILE=VALUE]... [--cgroup-version 1|2] [--parent-cgroup NAME] [--resource-limit fsize|no-file=VALUE]... [--daemonize] -- ARGUMENTS OF vmm";

/// No user: what setresuid(2) takes for "as it is".
const NONE: u32 = u32::MAX;

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
    pub(super) binds: Vec<Bind>,
    /// RLIMIT_* and its value.
    pub(super) limits: Vec<(u32, u64)>,
    pub(super) daemonize: bool,
    pub(super) arguments: Vec<String>,
}

/// A file or folder of the host's, and its place in the jail, without a slash before it.
#[derive(Debug)]
pub(super) struct Bind {
    pub(super) source: PathBuf,
    pub(super) target: String,
    pub(super) is_writable: bool,
}

/// Above what systemd gives to containers and casemate lends to sandboxes (src/casemate/policy/ids.py), and below the last positive number.
const FIRST_OWN_USER: u32 = 0x7f00_0000;

/// A user for an id that was given none: 2^24 of them, so that two jails of a host hardly ever have the same, and a jail always has its own.
fn own_user(id: &str) -> u32 {
    let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193) // FNV-1a
    });
    FIRST_OWN_USER + (hash ^ hash >> 24) % 0x00ff_ffff
}

pub(super) fn parse(words: &[&str]) -> Result<Options, JailError> {
    let usage = |reason: String| JailError::Usage(format!("{reason}\n{USAGE}"));
    let end = words.iter().position(|word| *word == "--");
    let (own, arguments) = words.split_at(end.unwrap_or(words.len()));
    let mut options = Options {
        id: String::new(),
        uid: NONE,
        gid: NONE,
        base: PathBuf::from("/srv/jailer"),
        netns: None,
        cgroups: Vec::new(),
        binds: Vec::new(),
        is_cgroup2: false,
        parent_cgroup: "casemate-engine".to_owned(),
        limits: vec![(libc::RLIMIT_NOFILE as _, 2048)],
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
                    | "--bind"
                    | "--bind-rw"
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
            "--bind" | "--bind-rw" => options
                .binds
                .push(bind(value, word == "--bind-rw").ok_or_else(wrong)?),
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
    if options.uid == NONE && options.gid == NONE {
        options.uid = own_user(&options.id);
        options.gid = options.uid;
    }
    if [0, NONE].contains(&options.uid) || [0, NONE].contains(&options.gid) {
        return Err(usage(
            "--uid and --gid: a user and a group that are not root's, or neither for ones of the jail's own".to_owned(),
        ));
    }
    Ok(options)
}

fn bind(word: &str, is_writable: bool) -> Option<Bind> {
    let (source, target) = word.rsplit_once('=')?;
    let target = target.strip_prefix('/').unwrap_or(target);
    (!source.is_empty() && is_plain_path(target)).then(|| Bind {
        source: source.into(),
        target: target.to_owned(),
        is_writable,
    })
}

fn limit(word: &str) -> Option<(u32, u64)> {
    let (name, value) = word.split_once('=')?;
    let resource = match name {
        "fsize" => libc::RLIMIT_FSIZE as _,
        "no-file" => libc::RLIMIT_NOFILE as _,
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
