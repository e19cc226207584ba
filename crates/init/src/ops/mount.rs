//! `mount`: one entry of a bundle's `mounts`, made detached and attached by descriptor.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use casemate_host::mount::{self as host, FsContext, MountAttr};
use casemate_host::process;
use casemate_plan::op::{Create, Mount};
use casemate_plan::{Op, Plan};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::mount_flags::{
    MS_BIND, MS_REC, MS_REMOUNT, MS_SILENT, attributes, names_atime, superblock_flags,
};
use super::mount_idmap;
use super::tmpcopyup;
use crate::child::State;
use crate::error::{Context, Error, Result};
use crate::root::{Root, file_type};

pub(super) fn mount(mount: &Mount, state: &mut State) -> Result<()> {
    let prepared = if mount.flags & (MS_BIND | MS_REMOUNT) == MS_BIND {
        state.trees.pop_front()
    } else {
        None
    };
    let root = state.root()?;
    let made = perform(mount, prepared, root).map_err(|error| {
        let kind = mount.fstype.as_deref().unwrap_or("bind");
        let source = mount.source.as_deref().unwrap_or("");
        Error::with_errno(
            format!(
                "mount {kind} {source:?} on {:?}: {}",
                mount.destination, error.message
            ),
            error.errno,
        )
    })?;
    if mount.fstype.as_deref() == Some("tmpfs") {
        state.own_mounts.extend(made);
    }
    Ok(())
}

/// The bind mounts of a plan, made in stage 1: the host's root may open sources that the root of a new user namespace may not, and only
/// who owns the source's mount may change its attributes or map its ids.
pub(crate) fn prepare_binds(plan: &Plan) -> Result<VecDeque<Tree>> {
    let mut trees = VecDeque::new();
    for op in &plan.ops {
        if let Op::Mount(mount) = op
            && mount.flags & MS_BIND != 0
            && mount.flags & MS_REMOUNT == 0
        {
            trees.push_back(prepare_bind(mount).map_err(|error| {
                Error::with_errno(
                    format!("mount bind on {:?}: {}", mount.destination, error.message),
                    error.errno,
                )
            })?);
        }
    }
    Ok(trees)
}

fn prepare_bind(mount: &Mount) -> Result<Tree> {
    let (fd, is_directory) = bind_tree(mount)?;
    if let Some(idmap) = &mount.idmap {
        mount_idmap::apply(&fd, idmap)?;
    }
    set_attributes(&fd, mount, true)?;
    Ok(Tree { fd, is_directory })
}

/// A bind mount's detached tree, attributes set.
#[derive(Debug)]
pub(crate) struct Tree {
    fd: OwnedFd,
    is_directory: bool,
}

/// Makes it; a new file system's root comes back.
fn perform(mount: &Mount, prepared: Option<Tree>, root: &Root) -> Result<Option<OwnedFd>> {
    check_proc_destination(mount, root)?;
    if mount.flags & MS_REMOUNT != 0 {
        let target = root
            .locate(&mount.destination)
            .context(|| "destination".into())?;
        set_attributes(&target, mount, false)?;
        return Ok(None);
    }
    let Tree {
        fd: tree,
        is_directory,
    } = match prepared {
        Some(tree) => tree,
        None if mount.flags & MS_BIND != 0 => prepare_bind(mount)?,
        None => Tree {
            fd: new_tree(mount)?,
            is_directory: true,
        },
    };
    let target = make_target(mount, root, is_directory)?;
    if mount.flags & MS_BIND == 0 {
        finish_new(mount, root, &tree)?;
    }
    host::attach(tree.as_fd(), target.as_fd()).context(|| "attach".into())?;
    set_propagation(mount, &tree)?;
    Ok((mount.flags & MS_BIND == 0).then_some(tree))
}

/// What only a new file system has, or has by other means than a bind mount.
fn finish_new(mount: &Mount, root: &Root, tree: &OwnedFd) -> Result<()> {
    if let Some(idmap) = &mount.idmap {
        mount_idmap::apply(tree, idmap)?;
    }
    if mount.tmpcopyup {
        tmpcopyup::copy(root, &mount.destination, tree)?;
    }
    if mount.recursive_set | mount.recursive_clear != 0 {
        set_attributes(tree, mount, true)?;
    }
    Ok(())
}

/// A bind mount: a detached copy of the source's mount.
fn bind_tree(mount: &Mount) -> Result<(OwnedFd, bool)> {
    let source = match (mount.source_fd, mount.source.as_deref()) {
        (Some(fd), _) => process::take_fd(fd).context(|| "source descriptor".into())?,
        (None, Some(path)) => rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("source {path:?}"))?,
        (None, None) => return Err(Error::plain("a bind mount needs a source")),
    };
    let is_directory = file_type(&source)? == FileType::Directory;
    let tree = host::clone_tree(source.as_fd(), mount.flags & MS_REC != 0)
        .context(|| "copy the source's mount".into())?;
    Ok((tree, is_directory))
}

/// A new file system's detached mount.
fn new_tree(mount: &Mount) -> Result<OwnedFd> {
    let fstype = mount
        .fstype
        .as_deref()
        .ok_or_else(|| Error::plain("neither a type nor a bind"))?;
    let context = FsContext::open(&c_string(fstype)?).context(|| "fsopen".into())?;
    configure(&context, mount)
        .and_then(|()| {
            context
                .mount(attributes(mount.flags & !MS_SILENT))
                .context(|| "create".into())
        })
        .map_err(|error| {
            let said = context.log();
            if said.is_empty() {
                error
            } else {
                Error::with_errno(format!("{} ({said})", error.message), error.errno)
            }
        })
}

fn configure(context: &FsContext, mount: &Mount) -> Result<()> {
    if let Some(source) = mount.source.as_deref().filter(|source| !source.is_empty()) {
        context
            .set_string(c"source", &c_string(source)?)
            .context(|| format!("source {source:?}"))?;
    }
    for key in superblock_flags(mount.flags) {
        // Not every type knows every flag of mount(2), which ignored those it did not know.
        match context.set_flag(key) {
            Err(error) if error.raw_os_error() != Some(Errno::INVAL.raw_os_error()) => {
                return Err(Error::io(key.to_string_lossy(), &error));
            }
            _ => {}
        }
    }
    for option in split_options(&mount.data) {
        let result = match option.split_once('=') {
            Some((key, value)) => context.set_string(&c_string(key)?, &c_string(value)?),
            None => context.set_flag(&c_string(&option)?),
        };
        result.context(|| format!("option {option:?}"))?;
    }
    Ok(())
}

/// Options are separated by commas; `\,` is a comma in a value (overlayfs' own rule), which fsconfig takes as it is.
fn split_options(data: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let mut characters = data.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = character == '\\' && characters.next_if_eq(&',').is_some();
        if character == ',' {
            options.push(String::new());
        } else if let Some(last) = options.last_mut() {
            last.push(if escaped { ',' } else { character });
        }
    }
    options.retain(|option| !option.is_empty());
    options
}

fn make_target(mount: &Mount, root: &Root, source_is_directory: bool) -> Result<OwnedFd> {
    let wants_directory = match mount.create {
        Create::None => {
            return root
                .locate(&mount.destination)
                .context(|| "destination".into());
        }
        Create::Dir => true,
        Create::File => false,
        Create::Auto => source_is_directory,
    };
    if wants_directory {
        root.make_dirs(&mount.destination)
    } else {
        root.make_file(&mount.destination)
    }
}

/// Attributes of a bind mount (or of a remount). In a user namespace the flags that the source's owner set are locked: asking for
/// less than they allow fails with EPERM, and then only what restricts further is asked for.
fn set_attributes(tree: &OwnedFd, mount: &Mount, detached: bool) -> Result<()> {
    let flags = mount.flags;
    let set = attributes(flags);
    let clear = if names_atime(flags) {
        host::MOUNT_ATTR_ATIME
    } else {
        0
    };
    let own = MountAttr {
        set,
        clear,
        ..MountAttr::default()
    };
    if set | clear != 0 {
        apply(tree, own, false)?;
    }
    let deep = MountAttr {
        set: mount.recursive_set,
        clear: mount.recursive_clear,
        ..MountAttr::default()
    };
    if detached && deep.set | deep.clear != 0 {
        let atime = if deep.set & host::MOUNT_ATTR_ATIME != 0 {
            host::MOUNT_ATTR_ATIME
        } else {
            0
        };
        apply(
            tree,
            MountAttr {
                clear: deep.clear | atime,
                ..deep
            },
            true,
        )?;
    }
    Ok(())
}

fn apply(tree: &OwnedFd, attributes: MountAttr, recursive: bool) -> Result<()> {
    match host::set_attributes(tree.as_fd(), attributes, recursive) {
        Err(error)
            if error.raw_os_error() == Some(Errno::PERM.raw_os_error())
                && attributes.clear != 0 =>
        {
            let restricting = MountAttr {
                set: attributes.set & !host::MOUNT_ATTR_ATIME,
                clear: 0,
                ..attributes
            };
            host::set_attributes(tree.as_fd(), restricting, recursive)
        }
        other => other,
    }
    .context(|| "mount_setattr".into())
}

fn set_propagation(mount: &Mount, tree: &OwnedFd) -> Result<()> {
    for flags in &mount.propagation {
        let attributes = MountAttr {
            propagation: flags & !MS_REC,
            ..MountAttr::default()
        };
        host::set_attributes(tree.as_fd(), attributes, flags & MS_REC != 0)
            .context(|| "propagation".into())?;
    }
    Ok(())
}

/// /proc and /sys must land on real directories of the root, and nothing lands inside /proc but what monitors of resources provide:
/// a link planted in the image, or a file over /proc/self/attr, turns later writes of ours to a place of the image's choice
/// (CVE-2019-19921, CVE-2023-27561, CVE-2019-16884).
fn check_proc_destination(mount: &Mount, root: &Root) -> Result<()> {
    const ALLOWED: [&str; 9] = [
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "net/dev",
        "slabinfo",
        "stat",
        "swaps",
        "uptime",
    ];
    let path = mount.destination.trim_matches('/');
    if matches!(mount.fstype.as_deref(), Some("proc" | "sysfs")) && mount.flags & MS_BIND == 0 {
        return match root.locate_link(&mount.destination) {
            Ok(fd) if file_type(&fd)? != FileType::Directory => Err(Error::plain(
                "the destination must be a directory, not a link or a file",
            )),
            _ => Ok(()),
        };
    }
    match path.strip_prefix("proc/") {
        Some(inside) if !ALLOWED.contains(&inside) => Err(Error::plain(
            "only files that describe resources may be mounted inside /proc",
        )),
        _ => Ok(()),
    }
}

pub(super) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::plain(format!("{text:?} contains a NUL byte")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_split_at_commas_but_not_at_escaped_ones() {
        assert_eq!(
            split_options(r"size=64k,lowerdir=/a\,b:/c,,nr_inodes=1"),
            ["size=64k", "lowerdir=/a,b:/c", "nr_inodes=1"]
        );
    }
}
