//! /proc/PID/mounts, mountinfo, mountstats: the mounts of the container, which are the sentry's own, seen from the process's root. proc_pid_mountinfo(5).
//!
//! What lies below /proc and /sys is left out, since those trees are the sentry's; options that name the host's directories or ids are, too.

use super::Who;
use super::process::{process, task};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::machine::read_below;

const MOST: usize = 4 << 20;
/// Options that tell of the host.
const HOSTS: &[&str] = &[
    "lowerdir",
    "upperdir",
    "workdir",
    "uid",
    "gid",
    "user_id",
    "group_id",
    "nr_inodes",
    "inode64",
];
const CGROUP: &str = "ro,nosuid,nodev,noexec,relatime";

/// One mount, by the columns that any of the files shows.
struct Mount {
    id: String,
    parent: String,
    device: String,
    root: String,
    point: String,
    options: String,
    optional: String,
    kind: String,
    source: String,
    super_options: String,
}

fn mounts_of(kernel: &Kernel, who: Who) -> Result<Vec<Mount>> {
    process(kernel, who)?;
    let root = task(kernel, who)?.fs.lock().root.path(kernel)?;
    let root = String::from_utf8_lossy(&root).into_owned();
    let text = read_below(
        &kernel.host_proc,
        &format!("{}/mountinfo", kernel.who),
        MOST,
    )
    .unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut mounts: Vec<Mount> = text.lines().filter_map(|line| parse(line, &root)).collect();
    let sysfs = mounts
        .iter()
        .find(|mount| mount.point == "/sys" && mount.kind == "sysfs");
    if let Some(sysfs) = sysfs {
        let cgroup = Mount {
            id: "1".to_owned(),
            parent: sysfs.id.clone(),
            device: "0:1".to_owned(),
            root: "/".to_owned(),
            point: "/sys/fs/cgroup".to_owned(),
            options: CGROUP.to_owned(),
            optional: String::new(),
            kind: "cgroup2".to_owned(),
            source: "cgroup".to_owned(),
            super_options: "rw".to_owned(),
        };
        mounts.push(cgroup);
    }
    Ok(mounts)
}

fn parse(line: &str, root: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let mut next = || left.next().map(str::to_owned);
    let (id, parent, device, inner, point, options) =
        (next()?, next()?, next()?, next()?, next()?, next()?);
    if point.starts_with("/proc/") || point.starts_with("/sys/") {
        return None;
    }
    let point = below(root, &point)?;
    let optional = left.map(|field| format!(" {field}")).collect();
    let mut right = right.split(' ');
    let (kind, source) = (right.next()?.to_owned(), right.next()?.to_owned());
    let is_device = kind == "devtmpfs";
    let super_options: Vec<&str> = right
        .next()?
        .split(',')
        .filter(|option| {
            let name = option.split('=').next().unwrap_or("");
            !HOSTS.contains(&name) && (!is_device || name != "size")
        })
        .collect();
    let source = if kind == "overlay" {
        "overlay".to_owned()
    } else {
        source
    };
    Some(Mount {
        id,
        parent,
        device,
        root: inner,
        point,
        options,
        optional,
        kind,
        source,
        super_options: super_options.join(","),
    })
}

/// The mount point as seen from a root; `None`: not below it.
fn below(root: &str, point: &str) -> Option<String> {
    if root == "/" {
        return Some(point.to_owned());
    }
    match point.strip_prefix(root)? {
        "" => Some("/".to_owned()),
        rest if rest.starts_with('/') => Some(rest.to_owned()),
        _ => None,
    }
}

pub fn mountinfo(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let line = |mount: &Mount| {
        format!(
            "{} {} {} {} {} {}{} - {} {} {}\n",
            mount.id,
            mount.parent,
            mount.device,
            mount.root,
            mount.point,
            mount.options,
            mount.optional,
            mount.kind,
            mount.source,
            mount.super_options
        )
    };
    Ok(mounts_of(kernel, who)?
        .iter()
        .map(line)
        .collect::<String>()
        .into_bytes())
}

pub fn mounts(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let line = |mount: &Mount| {
        // The super block's options but for "rw" and "ro", which the mount's own say.
        let further = mount.super_options.split(',').skip(1);
        let options: Vec<&str> = mount.options.split(',').chain(further).collect();
        let (source, point, kind) = (&mount.source, &mount.point, &mount.kind);
        format!("{source} {point} {kind} {} 0 0\n", options.join(","))
    };
    Ok(mounts_of(kernel, who)?
        .iter()
        .map(line)
        .collect::<String>()
        .into_bytes())
}

pub fn mountstats(kernel: &Kernel, who: Who) -> Result<Vec<u8>> {
    let line = |mount: &Mount| {
        format!(
            "device {} mounted on {} with fstype {}\n",
            mount.source, mount.point, mount.kind
        )
    };
    Ok(mounts_of(kernel, who)?
        .iter()
        .map(line)
        .collect::<String>()
        .into_bytes())
}
