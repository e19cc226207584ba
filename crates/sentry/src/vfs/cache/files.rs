//! Opening files of the remembered tree, and what an open one tells the cache.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};

use super::table::Table;
use super::walk::Spot;
use super::{Cache, Id, Trail};
use crate::errno::{Errno, Result};
use crate::vfs::attributes::Attributes;
use crate::vfs::windows;

/// What an open file tells the cache: that it was read, and for how long it may be written to.
#[derive(Debug)]
pub struct Watch {
    cache: Arc<Cache>,
    id: Id,
    /// It lies on a remembered mount: what is remembered of it is true for this descriptor too.
    is_ours: bool,
    /// Each of its reads moves the access time, not only the first after a change.
    is_strict: bool,
    writes: bool,
    /// The cache's epoch when a read was last told of; `u32::MAX`: its reads move no access time (O_NOATIME).
    told: AtomicU32,
}

/// A file of the host that was opened.
#[derive(Debug)]
pub struct Opened {
    pub fd: Arc<OwnedFd>,
    pub watch: Watch,
    pub is_directory: bool,
}

/// What may be done to a file's bytes where a program's process has them mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lends {
    Reads,
    /// It is in memory that is the container's own.
    Writes,
}

impl Watch {
    /// Of a file that was opened as `attributes` say, with these flags.
    #[must_use]
    pub fn new(cache: &Arc<Cache>, attributes: &Attributes, flags: OFlags) -> Self {
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC);
        let id = attributes.id();
        if writes {
            // It may have been emptied.
            windows::ended(id);
        }
        let mut table = cache.of_file(id);
        if writes && table.is_on {
            *table.writers.entry(id).or_default() += 1;
            table.forget(id);
            table.forget_reader(id);
        }
        let is_ours = table.is_on && attributes.mount == table.mount;
        let is_strict = table.is_strict;
        drop(table);
        Self {
            cache: cache.clone(),
            id,
            is_ours,
            is_strict,
            writes,
            told: AtomicU32::new(if flags.contains(OFlags::NOATIME) {
                u32::MAX
            } else {
                0
            }),
        }
    }

    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    #[must_use]
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// Whether its bytes may be lent, and written to: reads move no access time that one more would not, and nobody watches.
    #[must_use]
    pub fn lends(&self) -> Option<Lends> {
        let moves_times = self.told.load(Ordering::Relaxed) != u32::MAX;
        (self.is_ours && moves_times).then(|| self.cache.lends(self.id))?
    }

    /// What is remembered of the file, if that is all true now.
    #[must_use]
    pub fn attributes(&self) -> Option<Attributes> {
        if !self.is_ours || self.writes {
            return None;
        }
        let mut table = self.cache.of_file(self.id);
        let slot = table.of_id(self.id)?;
        table.exact(slot)
    }

    /// As `attributes`, for an answer.
    #[must_use]
    pub fn attributes_told(&self, trail: &Trail) -> Option<Attributes> {
        if !self.is_ours || self.writes {
            trail.leave();
            return None;
        }
        let mut table = self.cache.of_file(self.id);
        let Some(slot) = table.of_id(self.id) else {
            trail.leave();
            return None;
        };
        table.tell(slot, trail);
        table.exact(slot)
    }

    /// What the host just said of it.
    pub fn learn(&self, attributes: &Attributes) {
        if self.is_ours && attributes.id() == self.id {
            let mut table = self.cache.of_file(self.id);
            // A file without a name need not be remembered.
            if table.of_id(self.id).is_some() {
                table.note(attributes);
            }
        }
    }

    /// A process can write to it from now on without a call, for longer than this file is open.
    pub fn was_mapped_for_writing(&self) {
        self.cache.of_file(self.id).mapped(self.id);
    }

    /// Bytes or names were read.
    pub fn was_read(&self) {
        let epoch = self.cache.epoch.load(Ordering::Relaxed);
        let told = self.told.load(Ordering::Relaxed);
        if !self.is_ours || (told == epoch && !self.is_strict) || told == u32::MAX {
            return;
        }
        self.told.store(epoch, Ordering::Relaxed);
        self.cache.of_file(self.id).was_read(self.id);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.writes {
            return;
        }
        windows::ended(self.id);
        let mut table = self.cache.of_file(self.id);
        if let Some(count) = table.writers.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                table.writers.remove(&self.id);
            }
        }
        table.forget(self.id);
        drop(table);
        self.cache.bump();
    }
}

impl Table {
    fn forget_reader(&mut self, id: Id) {
        if let Some(slot) = self.of_id(id) {
            self.drop_reader(slot);
        }
    }

    fn reader(&mut self, slot: u32) -> Option<Arc<OwnedFd>> {
        let (now, used) = (Self::now(), self.tick());
        let inode = self.inode(slot);
        inode.used = used;
        let reader = inode.reader.clone()?;
        Self::is_fresh(inode.checked, now).then_some(reader)
    }
}

impl Cache {
    /// Opens what a walk arrived at: a regular file or directory. `Ok(None)`: that has to be done by its place.
    ///
    /// A descriptor that only reads is shared by all who open the file so: positions are the sentry's own.
    pub fn open(self: &Arc<Self>, spot: &Spot<'_>, flags: OFlags) -> Result<Option<Opened>> {
        let mut table = self.at(spot.table);
        let kind = table.inode(spot.slot).attributes.kind();
        match kind {
            libc::S_IFDIR => self.open_directory(&mut table, spot, flags),
            libc::S_IFREG => self.open_regular(table, spot, flags),
            _ => Ok(None),
        }
    }

    fn open_directory(
        self: &Arc<Self>,
        table: &mut Table,
        spot: &Spot<'_>,
        flags: OFlags,
    ) -> Result<Option<Opened>> {
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC) {
            return Ok(None);
        }
        let place = table.place(spot)?;
        let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // By "." and not by a link in /proc: half the time. Who may open a directory but not search it goes the other way.
        let fd = match crate::host::openat(&**place.host()?, ".", flags, Mode::empty()) {
            Err(rustix::io::Errno::ACCESS) => return Ok(None),
            other => Arc::new(other?),
        };
        table.know(&fd, spot.slot);
        let attributes = table.inode(spot.slot).attributes;
        Ok(Some(Opened {
            fd,
            watch: self.reading(table, &attributes, flags),
            is_directory: true,
        }))
    }

    fn open_regular(
        self: &Arc<Self>,
        mut table: std::sync::MutexGuard<'_, Table>,
        spot: &Spot<'_>,
        flags: OFlags,
    ) -> Result<Option<Opened>> {
        let Some((parent, name)) = &spot.parent else {
            return Ok(None);
        };
        let is_plain = flags.bits() & !SHARED == 0;
        if is_plain && let Some(fd) = table.reader(spot.slot) {
            let attributes = table.inode(spot.slot).attributes;
            return Ok(Some(Opened {
                fd,
                watch: self.reading(&table, &attributes, flags),
                is_directory: false,
            }));
        }
        let directory = table.descriptor(*parent)?;
        // Should the host have put a FIFO there meanwhile, nobody waits for its other side.
        let asked = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = crate::host::openat(&*directory, name.bytes(), asked, Mode::empty())?;
        let attributes = Table::statx(&fd, b"")?;
        if attributes.kind() != libc::S_IFREG {
            return Err(Errno::EAGAIN);
        }
        let known = table.inode(spot.slot).attributes.id();
        let fd = Arc::new(fd);
        if is_plain {
            if attributes.id() == known && attributes.mount == table.mount {
                let slot = table.note(&attributes);
                table.set_reader(slot, &fd);
            }
            return Ok(Some(Opened {
                fd,
                watch: self.reading(&table, &attributes, flags),
                is_directory: false,
            }));
        }
        // Opening for writing may have given it another number (an overlay copies it up).
        table.forget(known);
        drop(table);
        Ok(Some(Opened {
            watch: Watch::new(self, &attributes, flags),
            fd,
            is_directory: false,
        }))
    }

    /// As `Watch::new`, of a file that is not written to; the table's lock is held.
    fn reading(self: &Arc<Self>, table: &Table, attributes: &Attributes, flags: OFlags) -> Watch {
        Watch {
            cache: self.clone(),
            id: attributes.id(),
            is_ours: true,
            is_strict: table.is_strict,
            writes: false,
            told: AtomicU32::new(if flags.contains(OFlags::NOATIME) {
                u32::MAX
            } else {
                0
            }),
        }
    }
}

/// Flags that a shared descriptor may have been asked for with: none that the host keeps.
const SHARED: u32 = (libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK).cast_unsigned();
