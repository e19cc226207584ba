//! The container's root as a descriptor, and paths below it: always through openat2, never by string.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat2, statat};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};

/// A directory that no path leaves: `..`, absolute links and magic links resolve inside it or fail (CVE-2021-30465, CVE-2019-19921).
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

impl Root {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens a path below the root.
    pub(crate) fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.open_mode(path, flags, Mode::empty())
    }

    pub(crate) fn open_mode(
        &self,
        path: &str,
        flags: OFlags,
        mode: Mode,
    ) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: a rename elsewhere raced with a `..`; the kernel asks to try again.
        for _ in 0..64 {
            match openat2(
                &self.0,
                relative(path),
                flags | OFlags::CLOEXEC,
                mode,
                resolve,
            ) {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    /// A location descriptor (`O_PATH`); the last component may be followed.
    pub(crate) fn locate(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        self.open(path, OFlags::PATH)
    }

    /// As `locate`, but a link in the last place is the result itself.
    pub(crate) fn locate_link(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// The directory `path`, made with its parents where it is missing.
    pub(crate) fn make_dirs(&self, path: &str) -> Result<OwnedFd> {
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(Error::io(path, &error.into())),
        }
        let mut done = String::new();
        let mut here = self.locate(".").context(|| "root".into())?;
        for component in components(path) {
            done.push('/');
            done.push_str(component);
            here = match self.open(&done, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => {
                    match mkdirat(&here, component, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => {
                            return Err(Error::io(format!("make directory {done}"), &error.into()));
                        }
                    }
                    self.open(&done, OFlags::PATH | OFlags::DIRECTORY)
                        .context(|| done.clone())?
                }
                Err(error) => return Err(Error::io(&done, &error.into())),
            };
        }
        Ok(here)
    }

    /// The parent directory of `path` (made where missing) and the last component.
    pub(crate) fn parent_of<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str)> {
        let trimmed = path.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        if matches!(name, "" | "." | "..") {
            return Err(Error::plain(format!(
                "{path:?} has no last component to make"
            )));
        }
        Ok((self.make_dirs(parent)?, name))
    }

    /// The file `path`, made empty where it is missing (a mount's target).
    pub(crate) fn make_file(&self, path: &str) -> Result<OwnedFd> {
        match self.locate(path) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(Error::io(path, &error.into())),
        }
        let (parent, name) = self.parent_of(path)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o755)) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::io(format!("make file {path}"), &error.into())),
        }
        self.locate(path).context(|| path.to_owned())
    }
}

/// What `fd` is.
pub(crate) fn file_type(fd: &OwnedFd) -> Result<FileType> {
    let stat = statat(fd, "", AtFlags::EMPTY_PATH).context(|| "stat".into())?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

/// openat2 takes the root itself only as ".".
fn relative(path: &str) -> &Path {
    let trimmed = path.trim_start_matches('/');
    Path::new(OsStr::from_bytes(if trimmed.is_empty() {
        b"."
    } else {
        trimmed.as_bytes()
    }))
}
