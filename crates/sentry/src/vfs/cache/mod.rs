//! What the sentry remembers of the container's root: names, absent names, attributes, links' texts, descriptors to read.
//!
//! **Whose changes are seen when.** Programs change the tree only by calls that the sentry serves, and each of those forgets what it changed here
//! (`Cache::entry_changed`, `file_changed`, a `Watch` for as long as a file is open for writing): between programs of a sandbox the cache cannot be noticed.
//! What changes the root from outside (`podman cp`, an administrator) is seen within `FRESH_MS`, as with a network file system's attribute cache. Only the root's
//! own mount is remembered: bind mounts, volumes, tmpfs, /proc and /sys are asked for every time, whoever shares them.
//!
//! Keys are (device, inode), never paths: all names of a file, and all mounts of its file system, meet in one entry. A file that is open for writing, or that
//! was mapped shared and writable, has no remembered size or times: the host changes them without a call that could be seen.
//!
//! Nothing here decides who may: permissions are checked in each walk, from the remembered owner and mode, with the caller's own credentials.

mod files;
mod table;
mod walk;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use files::{Opened, Watch};
pub use table::Table;
pub use walk::{Arrival, Judge, Spot, Walk};

use super::attributes::Attributes;
use super::place::Place;

/// For how long an entry is believed without asking the host.
const FRESH_MS: u64 = 1000;

/// Device and inode: what a file is, whatever its names.
pub type Id = (u64, u64);

/// The remembered tree. It has a lock of its own, which is a leaf: files that are closed without the kernel tell it so.
#[derive(Debug)]
pub struct Cache {
    table: Mutex<Table>,
    /// Changes when a read may move a file's access time again, for descriptions that have told of one already.
    epoch: AtomicU32,
}

impl Cache {
    /// Of the mount that `root` lies on.
    #[must_use]
    pub fn new(root: &Place) -> Arc<Self> {
        let table = match root {
            Place::Host(root) => Table::of_root(root),
            Place::Proc(_) | Place::Pts(_) => Table::disabled(),
        };
        Arc::new(Self {
            table: Mutex::new(table),
            epoch: AtomicU32::new(1),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name in a directory was made, removed or given to another file: it, the file it meant, and the directory's times are asked for again.
    pub fn entry_changed(&self, directory: &Place, name: &[u8]) {
        if let Place::Host(directory) = directory {
            self.lock().entry_changed(directory, name);
        }
    }

    /// A file's owner, mode, times, links or extended attributes changed.
    pub fn file_changed(&self, file: &Attributes) {
        self.lock().forget(file.id());
        self.bump();
    }

    /// Somebody watches files (inotify): each open is the host's own from now on, so that it is told of.
    pub fn opens_are_watched(&self) {
        self.lock().share_no_readers();
    }

    /// The attributes of a place that is a remembered directory.
    #[must_use]
    pub fn attributes_of(&self, place: &Arc<OwnedFd>) -> Option<Attributes> {
        self.lock().attributes_of_directory(place)
    }

    /// As `attributes_of`, where kind, owner and mode are all that is asked for.
    #[must_use]
    pub fn permissions_of(&self, place: &Arc<OwnedFd>) -> Option<Attributes> {
        self.lock().permissions_of_directory(place)
    }

    /// Whether somebody may be writing to the file now.
    #[must_use]
    pub fn is_written(&self, file: &Attributes) -> bool {
        self.lock().is_written(file.id())
    }

    /// Bytes of a file were read, or mapped.
    pub fn was_read(&self, file: &Attributes) {
        self.lock().was_read(file.id());
    }

    /// Whether it is known that this is a directory on another mount.
    #[must_use]
    pub fn is_directory_elsewhere(&self, place: &Arc<OwnedFd>) -> bool {
        self.lock().is_directory_elsewhere(place)
    }

    /// Which mount a directory that is held lies on.
    #[must_use]
    pub fn mount_of(&self, directory: &Arc<OwnedFd>) -> Option<u64> {
        let mut table = self.lock();
        if !table.is_on {
            return None;
        }
        table.identity(directory).ok().map(|(_, mount)| mount)
    }

    fn bump(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}
