//! What the sentry remembers of the container's root: names, absent names, attributes, links' texts, descriptors to read.
//!
//! **Whose changes are seen when.** Programs change the tree only by calls that the sentry serves, and each of those forgets what it changed here
//! (`Cache::entry_changed`, `file_changed`, a `Watch` for as long as a file is open for writing): between programs of a sandbox the cache cannot be noticed.
//! What changes the root from outside (`podman cp`, an administrator) is seen within `FRESH_MS`, as with a network file system's attribute cache. Only the root's
//! own mount is remembered, and each tmpfs that was made for this container, by a table of its own: bind mounts, volumes, /proc and /sys are asked for every time,
//! whoever shares them.
//!
//! Keys are (device, inode), never paths: all names of a file, and all mounts of its file system, meet in one entry. A file that is open for writing, or that
//! was mapped shared and writable, has no remembered size or times: the host changes them without a call that could be seen.
//!
//! Nothing here decides who may: permissions are checked in each walk, from the remembered owner and mode, with the caller's own credentials.

pub mod answers;
mod files;
mod table;
mod walk;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use answers::{Answers, Trail};
pub use files::{Lends, Opened, Watch};
pub use table::Table;
pub use walk::{Arrival, Judge, Spot, Walk};

use super::attributes::Attributes;
use super::place::Place;
use super::windows;
use crate::errno::Result;

/// Borders between remembered mounts that one walk crosses at most; beyond, the host is asked for the rest.
const MOST_BORDERS: usize = 8;

/// For how long an entry is believed without asking the host.
const FRESH_MS: u64 = 1000;

/// Device and inode: what a file is, whatever its names.
pub type Id = (u64, u64);

/// The remembered tree. It has a lock of its own, which is a leaf: files that are closed without the kernel tell it so.
#[derive(Debug)]
pub struct Cache {
    table: Mutex<Table>,
    /// Of file systems made for this container, each on one mount: by device and mount.
    own: Vec<(u64, u64, Mutex<Table>)>,
    /// What programs keep of what is remembered.
    pub answers: Arc<Answers>,
    /// Some program watches files.
    is_watched: AtomicBool,
    /// Changes when a read may move a file's access time again, for descriptions that have told of one already.
    epoch: AtomicU32,
}

impl Cache {
    /// Of the mount that `root` lies on, and of those whose roots `own` are: nobody else has another mount of theirs.
    #[must_use]
    pub fn new(root: &Place, own: Vec<OwnedFd>) -> Arc<Self> {
        let answers: Arc<Answers> = Arc::default();
        let mut table = match root {
            Place::Host(root) => Table::of_root(root, 0),
            Place::Proc(_) | Place::Pts(_) => Table::disabled(),
        };
        table.answers = answers.clone();
        let tables = own.into_iter().zip(1..).filter_map(|(root, index)| {
            let (mut table, device) = Table::of_own(root, index)?;
            table.answers = answers.clone();
            Some((device, table.mount, Mutex::new(table)))
        });
        Arc::new(Self {
            table: Mutex::new(table),
            own: tables.collect(),
            answers,
            is_watched: AtomicBool::new(false),
            epoch: AtomicU32::new(1),
        })
    }

    /// The root's.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.at(0)
    }

    fn at(&self, index: usize) -> MutexGuard<'_, Table> {
        let own = index.checked_sub(1).and_then(|index| self.own.get(index));
        let table = own.map_or(&self.table, |(_, _, table)| table);
        table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table that has what is remembered of a file.
    fn of_file(&self, id: Id) -> MutexGuard<'_, Table> {
        let own = self.own.iter().position(|(device, _, _)| *device == id.0);
        self.at(own.map_or(0, |index| index + 1))
    }

    /// The table of the mount that a directory lies on. `None`: it is not remembered.
    fn of_directory(&self, directory: &Place) -> Option<usize> {
        if self.own.is_empty() {
            return Some(0);
        }
        let Place::Host(directory) = directory else {
            return None;
        };
        let mut root = self.lock();
        let (_, mount) = root.identity(directory).ok()?;
        if root.is_on && mount == root.mount {
            return Some(0);
        }
        drop(root);
        let own = self.own.iter().position(|(_, own, _)| *own == mount);
        own.map(|index| index + 1)
    }

    /// The table that knows a descriptor already.
    fn knowing(&self, directory: &Arc<OwnedFd>) -> MutexGuard<'_, Table> {
        let root = self.lock();
        let mount = root.known_mount(directory);
        if self.own.is_empty() || mount == Some(root.mount) {
            return root;
        }
        drop(root);
        let index = match mount {
            Some(mount) => self.own.iter().position(|(_, own, _)| *own == mount),
            None => (0..self.own.len()).find(|index| {
                let table = self.at(index + 1);
                table.known_mount(directory) == Some(table.mount)
            }),
        };
        self.at(index.map_or(0, |index| index + 1))
    }

    /// Where a path leads, from one remembered mount to the next. `None`: nothing is remembered here, the host has to be asked for all of it.
    pub fn walk<'a>(&self, walk: &Walk<'_, 'a>) -> Result<Option<Arrival<'a>>> {
        let is_absolute = walk.path.starts_with(b"/");
        let start = if is_absolute { walk.root } else { walk.start };
        let Some(index) = self.of_directory(start) else {
            return Ok(None);
        };
        let mut arrival = self.at(index).walk(walk, None)?;
        if self.own.is_empty() {
            return Ok(arrival);
        }
        for _ in 0..MOST_BORDERS {
            let Some(Arrival::Leaves(place, rest)) = arrival else {
                return Ok(arrival);
            };
            let entered = match self.of_directory(&place) {
                Some(index) => self.enter(index, walk, &place, &rest)?,
                None => None,
            };
            let Some(entered) = entered else {
                return Ok(Some(Arrival::Leaves(place, rest)));
            };
            arrival = Some(entered);
        }
        Ok(arrival)
    }

    /// Goes on with the rest of a walk in another table.
    fn enter<'a>(
        &self,
        index: usize,
        walk: &Walk<'_, 'a>,
        place: &Place,
        rest: &[u8],
    ) -> Result<Option<Arrival<'a>>> {
        let rest: Arc<[u8]> = rest.into();
        let further = Walk {
            start: place,
            path: b"",
            ..*walk
        };
        self.at(index).walk(&further, Some(rest))
    }

    /// One name in a directory, without following it. `None` as for `walk`.
    pub fn look<'a>(&self, directory: &Place, name: &'a [u8]) -> Result<Option<Arrival<'a>>> {
        match self.of_directory(directory) {
            Some(index) => self.at(index).look(directory, name),
            None => Ok(None),
        }
    }

    /// A file's attributes, all of them as they are now.
    pub fn attributes(&self, spot: &Spot<'_>) -> Result<Attributes> {
        self.at(spot.table).attributes(spot)
    }

    /// As `attributes`, for an answer.
    pub fn attributes_told(&self, spot: &Spot<'_>, trail: &Trail) -> Result<Attributes> {
        let mut table = self.at(spot.table);
        table.tell(spot.slot, trail);
        table.attributes(spot)
    }

    /// Kind, owner and mode, for those who need no more; the rest may be old.
    pub fn permissions(&self, spot: &Spot<'_>) -> Result<Attributes> {
        self.at(spot.table).permissions(spot)
    }

    /// A link's text; `EINVAL` it is none.
    pub fn read_link(&self, spot: &Spot<'_>, trail: Option<&Trail>) -> Result<Arc<[u8]>> {
        self.at(spot.table).read_link(spot, trail)
    }

    /// A place to hold on to.
    pub fn place(&self, spot: &Spot<'_>) -> Result<Place> {
        self.at(spot.table).place(spot)
    }

    /// A name in a directory was made, removed or given to another file: it, the file it meant, and the directory's times are asked for again.
    pub fn entry_changed(&self, directory: &Place, name: &[u8]) {
        let Place::Host(directory) = directory else {
            return;
        };
        let index = if self.own.is_empty() {
            0
        } else {
            let known = self.lock().identity(directory);
            let device = known.map_or(0, |(id, _)| id.0);
            let own = self.own.iter().position(|(own, _, _)| *own == device);
            own.map_or(0, |index| index + 1)
        };
        self.at(index).entry_changed(directory, name);
    }

    /// A file's owner, mode, times, links or extended attributes changed.
    pub fn file_changed(&self, file: &Attributes) {
        windows::ended(file.id());
        self.of_file(file.id()).forget(file.id());
        self.bump();
    }

    /// What may be done to a file on a remembered mount without a call that anybody sees.
    fn lends(&self, id: Id) -> Option<Lends> {
        if self.is_watched.load(Ordering::SeqCst) || self.of_file(id).is_strict {
            return None;
        }
        let is_own = self.own.iter().any(|(device, _, _)| *device == id.0);
        Some(if is_own { Lends::Writes } else { Lends::Reads })
    }

    /// Somebody watches files (inotify): each open is the host's own from now on, so that it is told of; and so is each read and write.
    pub fn opens_are_watched(&self) {
        self.is_watched.store(true, Ordering::SeqCst);
        windows::all_ended();
        for index in 0..=self.own.len() {
            self.at(index).share_no_readers();
        }
    }

    /// The attributes of a place that is a remembered directory.
    #[must_use]
    pub fn attributes_of(&self, place: &Arc<OwnedFd>) -> Option<Attributes> {
        self.knowing(place).attributes_of_directory(place)
    }

    /// As `attributes_of`, where kind, owner and mode are all that is asked for.
    #[must_use]
    pub fn permissions_of(&self, place: &Arc<OwnedFd>) -> Option<Attributes> {
        self.knowing(place).permissions_of_directory(place)
    }

    /// Whether somebody may be writing to the file now.
    #[must_use]
    pub fn is_written(&self, file: &Attributes) -> bool {
        self.of_file(file.id()).is_written(file.id())
    }

    /// Whether somebody has the file open to write to it, as far as that is known.
    #[must_use]
    pub fn has_writer(&self, file: &Attributes) -> bool {
        self.of_file(file.id()).writers.contains_key(&file.id())
    }

    /// Bytes of a file were read, or mapped.
    pub fn was_read(&self, file: &Attributes) {
        self.of_file(file.id()).was_read(file.id());
    }

    /// Whether it is known that this is a directory on a mount that is not remembered.
    #[must_use]
    pub fn is_directory_elsewhere(&self, place: &Arc<OwnedFd>) -> bool {
        let root = self.lock();
        let mount = root.known_mount(place);
        root.is_directory_elsewhere(place)
            && !self.own.iter().any(|(_, own, _)| Some(*own) == mount)
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
