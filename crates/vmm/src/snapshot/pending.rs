//! A file that has no name until it is whole.
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

/// Content on its way to a path. A monitor that is killed leaves nothing where the file system has O_TMPFILE; elsewhere
/// `.NAME.partial`, which the next snapshot to that path replaces.
#[derive(Debug)]
pub(crate) struct Pending {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    has_name: bool,
}

impl Pending {
    pub(crate) fn create(path: &Path) -> io::Result<Pending> {
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut partial = std::ffi::OsString::from(".");
        partial.push(name);
        partial.push(".partial");
        let partial = folder.join(partial);
        remove(&partial)?;
        // Only its owner: guest memory holds secrets.
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let unnamed = open(folder, flags | OFlags::TMPFILE, mode);
        let (file, has_name) = match unnamed {
            Ok(file) => (file, false),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
                let file = open(&partial, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
                (file, true)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Pending {
            file: file.into(),
            partial,
            path: path.to_owned(),
            has_name,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// On disk, and under its partial name.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        if !self.has_name {
            // Linking an open file by itself wants Linux 6.10 or a capability; by its entry in /proc it always works.
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            linkat(&self.file, "", CWD, &self.partial, AtFlags::EMPTY_PATH)
                .or_else(|_| linkat(CWD, own, CWD, &self.partial, AtFlags::SYMLINK_FOLLOW))?;
            self.has_name = true;
        }
        Ok(())
    }

    /// Gives the finished file its own name, in the place of an earlier one.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        std::fs::rename(&self.partial, &self.path)?;
        self.has_name = false;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.has_name {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
