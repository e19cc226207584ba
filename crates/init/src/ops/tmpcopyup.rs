//! `tmpcopyup`: a new tmpfs starts with what the directory below it holds.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, chownat, fchmod, mkdirat, openat, readlinkat,
    statat, symlinkat,
};

use crate::error::{Context, Error, Result};
use crate::root::Root;

const MAX_DEPTH: usize = 128;
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Copies the directory `path` of the root into the (still detached) mount `tree`: directories, regular files and links with owner and mode.
pub(super) fn copy(root: &Root, path: &str, tree: &OwnedFd) -> Result<()> {
    let source = match root.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(Error::io(path, &error.into())),
    };
    let target = openat(tree, ".", DIRECTORY, Mode::empty()).context(|| "tmpfs".into())?;
    copy_directory(&source, &target, MAX_DEPTH)
}

fn copy_directory(source: &OwnedFd, target: &OwnedFd, depth: usize) -> Result<()> {
    if depth == 0 {
        return Err(Error::plain(format!(
            "tmpcopyup: deeper than {MAX_DEPTH} directories"
        )));
    }
    let stat = statat(source, "", AtFlags::EMPTY_PATH).context(|| "stat".into())?;
    for entry in Dir::read_from(source).context(|| "read directory".into())? {
        let entry = entry.context(|| "read directory".into())?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            copy_entry(source, target, name, depth).map_err(|error| {
                Error::with_errno(
                    format!("tmpcopyup {}: {}", name.to_string_lossy(), error.message),
                    error.errno,
                )
            })?;
        }
    }
    set_owner_and_mode(target, &stat)
}

fn copy_entry(
    source: &OwnedFd,
    target: &OwnedFd,
    name: &std::ffi::CStr,
    depth: usize,
) -> Result<()> {
    let stat = statat(source, name, AtFlags::SYMLINK_NOFOLLOW).context(|| "stat".into())?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(target, name, Mode::from_raw_mode(0o700)).context(|| "mkdir".into())?;
            let from = openat(source, name, DIRECTORY, Mode::empty()).context(|| "open".into())?;
            let to = openat(target, name, DIRECTORY, Mode::empty()).context(|| "open".into())?;
            copy_directory(&from, &to, depth - 1)
        }
        FileType::Symlink => {
            let link = readlinkat(source, name, Vec::new()).context(|| "readlink".into())?;
            symlinkat(link.as_c_str(), target, name).context(|| "symlink".into())
        }
        FileType::RegularFile => {
            let from = openat(
                source,
                name,
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .context(|| "open".into())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let to = openat(target, name, flags, Mode::from_raw_mode(0o600))
                .context(|| "create".into())?;
            copy_bytes(&from, &to)?;
            set_owner_and_mode(&to, &stat)
        }
        _ => Ok(()), // devices, sockets and FIFOs are not copied, as in runc
    }
}

fn copy_bytes(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    while rustix::fs::sendfile(to, from, None, 1 << 20).context(|| "copy".into())? > 0 {}
    Ok(())
}

fn set_owner_and_mode(fd: &OwnedFd, stat: &Stat) -> Result<()> {
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(stat.st_uid),
        rustix::fs::Gid::from_raw(stat.st_gid),
    );
    chownat(fd.as_fd(), "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
        .context(|| "chown".into())?;
    fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777)).context(|| "chmod".into())
}
