//! Files of the sandbox, as the agent's own user sees them.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat};

use crate::messages::{Entry, Status};
use crate::{About, Answer, Refusal};

/// What a request may ask for; the rest (O_DIRECT, O_TMPFILE, O_PATH, ...) has no use outside.
const ALLOWED: OFlags = OFlags::WRONLY
    .union(OFlags::RDWR)
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::TRUNC)
    .union(OFlags::APPEND)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::DIRECTORY);
/// Room that a frame of 1 MiB has for entries, counting what each may need at most besides its path.
const LIST_BYTES: usize = 900_000;
const ENTRY_BYTES: usize = 160;

/// Opens a regular file or a directory. Devices and pipes stay inside: who reads them outside could be made to wait forever.
pub(crate) fn open(path: &str, flags: u32, mode: u32, parents: bool) -> Answer<OwnedFd> {
    let flags = OFlags::from_bits_retain(flags);
    if !ALLOWED.contains(flags) {
        return Err(Refusal::new(
            libc::EINVAL,
            format!("open flags {flags:?} are not offered"),
        ));
    }
    if parents && let Some(directory) = Path::new(path).parent() {
        fs::create_dir_all(directory).about(path)?;
    }
    let flags = flags | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(mode & 0o777)).about(path)?;
    match FileType::from_raw_mode(fstat(&file).about(path)?.st_mode) {
        FileType::RegularFile | FileType::Directory => Ok(file),
        other => Err(Refusal::new(
            libc::EINVAL,
            format!("{path}: neither a file nor a directory: {other:?}"),
        )),
    }
}

pub(crate) fn status(path: &str, follow: bool) -> Answer<Status> {
    let metadata = if follow {
        fs::metadata(path)
    } else {
        fs::symlink_metadata(path)
    };
    Ok(describe(Path::new(path), &metadata.about(path)?))
}

fn describe(path: &Path, metadata: &Metadata) -> Status {
    let kind = metadata.file_type();
    let name = match kind {
        _ if kind.is_file() => "file",
        _ if kind.is_dir() => "dir",
        _ if kind.is_symlink() => "symlink",
        _ if kind.is_fifo() => "fifo",
        _ if kind.is_socket() => "socket",
        _ if kind.is_char_device() => "char",
        _ => "block",
    };
    let target = kind
        .is_symlink()
        .then(|| fs::read_link(path).ok())
        .flatten();
    Status {
        kind: name,
        size: metadata.len(),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime_ns: metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec()),
        target: target.map(|target| target.to_string_lossy().into_owned()),
    }
}

/// The entries below a directory, to a depth, sorted by path in each directory; whether some were left out.
pub(crate) fn list(path: &str, depth: u32, limit: u32) -> Answer<(Vec<Entry>, bool)> {
    let mut listing = Listing {
        entries: Vec::new(),
        room: LIST_BYTES,
        limit: limit as usize,
    };
    let whole = listing.add(Path::new(path), "", depth.max(1)).about(path)?;
    Ok((listing.entries, !whole))
}

struct Listing {
    entries: Vec<Entry>,
    room: usize,
    limit: usize,
}

impl Listing {
    /// Whether all entries had room.
    fn add(&mut self, directory: &Path, prefix: &str, depth: u32) -> io::Result<bool> {
        let mut found = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        found.sort_by_key(fs::DirEntry::file_name);
        for entry in found {
            let relative = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let Ok(metadata) = entry.metadata() else {
                continue; // removed meanwhile
            };
            let status = describe(&entry.path(), &metadata);
            let needs =
                ENTRY_BYTES + relative.len() + status.target.as_ref().map_or(0, String::len);
            if self.entries.len() >= self.limit || needs > self.room {
                return Ok(false);
            }
            self.room -= needs;
            self.entries.push(Entry {
                path: relative.clone(),
                status,
            });
            // A directory that may not be read is listed, and nothing below it.
            if metadata.is_dir()
                && depth > 1
                && !self
                    .add(&entry.path(), &(relative + "/"), depth - 1)
                    .unwrap_or(true)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether the directory was made; false if it was there. An existing file is an error.
pub(crate) fn make_dir(path: &str, mode: u32, parents: bool) -> Answer<bool> {
    if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        return Ok(false);
    }
    let mut builder = fs::DirBuilder::new();
    builder
        .mode(mode & 0o7777)
        .recursive(parents)
        .create(path)
        .about(path)?;
    Ok(true)
}

pub(crate) fn rename(source: &str, destination: &str) -> Answer<()> {
    fs::rename(source, destination).about(source)
}

pub(crate) fn remove(path: &str, recursive: bool) -> Answer<()> {
    let metadata = fs::symlink_metadata(path).about(path)?;
    if !metadata.is_dir() {
        return fs::remove_file(path).about(path);
    }
    if recursive {
        fs::remove_dir_all(path)
    } else {
        fs::remove_dir(path)
    }
    .about(path)
}
