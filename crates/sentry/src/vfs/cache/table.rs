//! The entries: directories with their names, files by (device, inode), and the bounds on both.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use rustix::fs::{AtFlags, StatVfsMountFlags, StatxFlags};
use rustix::time::ClockId;

use super::{Answers, FRESH_MS, Id, Trail};
use crate::errno::{Errno, Result};
use crate::vfs::attributes::Attributes;
use crate::vfs::place::Place;

/// Names that are remembered at most, absent ones too: some 400 bytes each.
const MOST_NAMES: usize = 16 << 10;
/// Directories, each with a descriptor, and files with one to read; less where the sentry has few.
const MOST_DIRECTORIES: usize = 1024;
const MOST_READERS: usize = 512;
/// Files that are mapped shared and writable: beyond these, no file's times are remembered at all.
const MOST_MAPPED: usize = 4096;
/// Descriptors of directories that others hold (working directories, open ones) and that are known here.
const MOST_KNOWN: usize = 4096;
const WANTED: StatxFlags = StatxFlags::BASIC_STATS
    .union(StatxFlags::BTIME)
    .union(StatxFlags::MNT_ID);
/// Linux: relatime_need_update(): an access time is renewed once a day.
const DAY_S: i64 = 24 * 60 * 60;

/// Names an inode; a slot that was given to another one has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

#[derive(Debug, Clone)]
pub(super) enum Child {
    Absent,
    Inode(Key),
    /// Another mount begins here.
    Mount(Place),
}

impl Child {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => true,
            (Self::Inode(one), Self::Inode(other)) => one == other,
            _ => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Named {
    pub(super) child: Child,
    pub(super) checked: u64,
    /// The epoch in which an answer was last made of it (`answers`).
    pub(super) told: u64,
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) parent: Option<(Key, u64)>,
    pub(super) children: HashMap<Box<[u8]>, Named>,
    /// As in `Named`: the latest of them.
    pub(super) told: u64,
    pub(super) used: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// All of the attributes are the host's.
    Exact,
    /// Kind, owner and mode are.
    Permissions,
    /// Only the kind is.
    Kind,
}

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) generation: u32,
    pub(super) attributes: Attributes,
    pub(super) knows: Knowledge,
    pub(super) checked: u64,
    /// Reading does not change the access time, although relatime's rule says so: as on a lower layer, or with noatime.
    keeps_access_time: bool,
    /// It was read since the attributes were asked for.
    was_read: bool,
    /// The host let this process look a name up in it, by its present permissions.
    pub(super) is_searchable: bool,
    pub(super) link: Option<Arc<[u8]>>,
    pub(super) reader: Option<Arc<OwnedFd>>,
    pub(super) directory: Option<Box<Directory>>,
    /// The epochs in which an answer was last made of all attributes (`answers`); and of kind, owner, mode or a link's text.
    told: u64,
    pub(super) passed: u64,
    pub(super) used: u64,
    is_live: bool,
}

/// What a descriptor of a directory that somebody holds is.
#[derive(Debug)]
struct Known {
    fd: Weak<OwnedFd>,
    id: Id,
    mount: u64,
    is_directory: bool,
}

#[derive(Debug, Default)]
pub struct Table {
    /// Its place among the cache's.
    pub(super) index: usize,
    pub(super) answers: Arc<Answers>,
    pub(super) is_on: bool,
    pub(super) shares_readers: bool,
    remembers_times: bool,
    /// Each read changes an access time (strictatime).
    pub(super) is_strict: bool,
    pub(super) mount: u64,
    root: Option<u32>,
    pub(super) inodes: Vec<Inode>,
    free: Vec<u32>,
    by_id: HashMap<Id, u32>,
    known: HashMap<usize, Known>,
    pub(super) writers: HashMap<Id, u32>,
    mapped: HashSet<Id>,
    names: usize,
    directories: usize,
    readers: usize,
    most_descriptors: usize,
    tick: u64,
}

impl Attributes {
    #[must_use]
    pub fn id(&self) -> Id {
        (self.dev, self.ino)
    }
}

impl Table {
    pub(super) fn disabled() -> Self {
        Self::default()
    }

    /// Of a file system made for the container, by its root; and its device.
    pub(super) fn of_own(root: OwnedFd, index: usize) -> Option<(Self, u64)> {
        let device = Self::statx(&root, b"").ok()?.dev;
        let table = Self::of_root(&Arc::new(root), index);
        table.is_on.then_some((table, device))
    }

    pub(super) fn of_root(root: &Arc<OwnedFd>, index: usize) -> Self {
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
        let Ok(raw) = rustix::fs::statx(&**root, "", flags, WANTED) else {
            return Self::disabled();
        };
        // Without numbers of mounts (before Linux 5.8) a bind of the same file system could not be told apart.
        if raw.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            return Self::disabled();
        }
        let calm =
            StatVfsMountFlags::RELATIME | StatVfsMountFlags::NOATIME | StatVfsMountFlags::RDONLY;
        let is_calm =
            rustix::fs::fstatvfs(&**root).is_ok_and(|found| found.f_flag.intersects(calm));
        let limit = crate::host::most_descriptors();
        let mut table = Self {
            index,
            is_on: true,
            shares_readers: true,
            remembers_times: true,
            is_strict: !is_calm,
            mount: raw.stx_mnt_id,
            most_descriptors: limit.map_or(usize::MAX, |limit| {
                usize::try_from(limit / 8).unwrap_or(usize::MAX)
            }),
            ..Self::default()
        };
        let attributes = Attributes::from_host(&raw);
        let slot = table.note(&attributes);
        table.become_directory(slot, root.clone(), None);
        table.root = Some(slot);
        table
    }

    /// Milliseconds of a clock that costs nothing to read, and that no program can turn.
    pub(super) fn now() -> u64 {
        let time = rustix::time::clock_gettime(ClockId::MonotonicCoarse);
        time.tv_sec.cast_unsigned() * 1000 + time.tv_nsec.cast_unsigned() / 1_000_000
    }

    pub(super) fn is_fresh(checked: u64, now: u64) -> bool {
        now.wrapping_sub(checked) < FRESH_MS
    }

    pub(super) fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    pub(super) fn key(&self, slot: u32) -> Key {
        Key {
            slot,
            generation: self.inodes[slot as usize].generation,
        }
    }

    pub(super) fn live(&self, key: Key) -> Option<u32> {
        let inode = &self.inodes[key.slot as usize];
        (inode.is_live && inode.generation == key.generation).then_some(key.slot)
    }

    /// What these marks are of is changed, or forgotten.
    fn retract<const N: usize>(&self, marks: [u64; N]) {
        for mark in marks {
            self.answers.retract(mark);
        }
    }

    /// An answer is about to be made of all of a file's attributes.
    pub(super) fn tell(&mut self, slot: u32, trail: &Trail) {
        if self.exact(slot).is_none() {
            return trail.leave();
        }
        let inode = self.inode(slot);
        inode.told = trail.epoch();
        trail.knew(inode.checked);
    }

    pub(super) fn inode(&mut self, slot: u32) -> &mut Inode {
        &mut self.inodes[slot as usize]
    }

    pub(super) fn of_id(&self, id: Id) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn statx(fd: &OwnedFd, name: &[u8]) -> Result<Attributes> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
        Ok(Attributes::from_host(&rustix::fs::statx(
            fd, name, flags, WANTED,
        )?))
    }

    /// Takes in what the host just said of a file of its mount; returns its slot.
    pub(super) fn note(&mut self, attributes: &Attributes) -> u32 {
        let (now, used) = (Self::now(), self.tick());
        let id = attributes.id();
        let knows = if self.is_written(id) {
            Knowledge::Permissions
        } else {
            Knowledge::Exact
        };
        if let Some(slot) = self.of_id(id) {
            let inode = self.inode(slot);
            let old = &inode.attributes;
            let who_may = |it: &Attributes| (it.mode, it.uid, it.gid);
            let marks = [
                if old == attributes { 0 } else { inode.told },
                if who_may(old) == who_may(attributes) {
                    0
                } else {
                    inode.passed
                },
            ];
            // Else it is a number that was given to another file since.
            let is_same = old.kind() == attributes.kind() && old.times[3] == attributes.times[3];
            let is_unchanged = is_same
                && inode.knows != Knowledge::Kind
                && (old.size, old.times[1], old.times[2])
                    == (attributes.size, attributes.times[1], attributes.times[2]);
            if is_same {
                if inode.was_read {
                    inode.keeps_access_time = old.times[0] == attributes.times[0];
                }
                inode.was_read = false;
                inode.knows = knows;
                inode.checked = now;
                inode.attributes = *attributes;
                inode.used = used;
                if !is_unchanged {
                    inode.is_searchable = false;
                    inode.link = None;
                    self.drop_reader(slot);
                }
                self.retract(marks);
                return slot;
            }
            self.kill(slot);
        }
        let inode = Inode {
            generation: 0,
            attributes: *attributes,
            knows,
            checked: now,
            keeps_access_time: false,
            was_read: false,
            is_searchable: false,
            link: None,
            reader: None,
            directory: None,
            told: 0,
            passed: 0,
            used,
            is_live: true,
        };
        let slot = self.put(inode);
        self.by_id.insert(id, slot);
        slot
    }

    fn put(&mut self, mut inode: Inode) -> u32 {
        if let Some(slot) = self.free.pop() {
            inode.generation = self.inodes[slot as usize].generation;
            self.inodes[slot as usize] = inode;
            return slot;
        }
        self.inodes.push(inode);
        // At most a few more than the names, which are bounded.
        u32::try_from(self.inodes.len() - 1).unwrap_or(u32::MAX)
    }

    /// Forgets a file altogether, with the names in it and those that lead to it.
    pub(super) fn kill(&mut self, slot: u32) {
        let inode = &self.inodes[slot as usize];
        self.retract([inode.told, inode.passed]);
        if self.root == Some(slot) {
            self.inode(slot).knows = Knowledge::Kind;
            return;
        }
        self.drop_reader(slot);
        self.drop_directory(slot);
        let inode = self.inode(slot);
        inode.generation = inode.generation.wrapping_add(1);
        inode.is_live = false;
        inode.link = None;
        let id = inode.attributes.id();
        self.by_id.remove(&id);
        self.free.push(slot);
    }

    fn drop_directory(&mut self, slot: u32) {
        if let Some(directory) = self.inode(slot).directory.take() {
            self.retract([directory.told]);
            self.names -= directory.children.len();
            self.directories -= 1;
        }
    }

    pub(super) fn drop_reader(&mut self, slot: u32) {
        if self.inode(slot).reader.take().is_some() {
            self.readers -= 1;
        }
    }

    /// From here on names are looked up in it, by `fd`.
    pub(super) fn become_directory(&mut self, slot: u32, fd: Arc<OwnedFd>, parent: Option<u32>) {
        if self.inode(slot).directory.is_some() {
            return;
        }
        if self.directories >= MOST_DIRECTORIES.min(self.most_descriptors) {
            self.shrink(parent, slot);
        }
        self.know(&fd, slot);
        let used = self.tick();
        let parent = parent.map(|parent| (self.key(parent), Self::now()));
        self.inode(slot).directory = Some(Box::new(Directory {
            fd,
            parent,
            children: HashMap::new(),
            told: 0,
            used,
        }));
        self.directories += 1;
    }

    pub(super) fn set_name(&mut self, directory: u32, name: &[u8], child: Child) {
        if self.names >= MOST_NAMES {
            let also = match &child {
                Child::Inode(key) => key.slot,
                Child::Absent | Child::Mount(_) => directory,
            };
            self.shrink(Some(directory), also);
        }
        let Some(directory) = &mut self.inodes[directory as usize].directory else {
            return;
        };
        let before = directory.children.get(name);
        let before = before.map(|old| (old.told, old.child.is_same(&child)));
        let named = Named {
            told: before.map_or(0, |(told, is_same)| if is_same { told } else { 0 }),
            checked: Self::now(),
            child,
        };
        directory.children.insert(name.into(), named);
        match before {
            None => self.names += 1,
            Some((told, false)) => self.retract([told]),
            Some((_, true)) => {}
        }
    }

    /// Makes room: the directories that were used longest ago lose their names and descriptors, then the files that no name leads to. `keep` and `also`
    /// are in use; a single directory that is too large loses its names all the same.
    fn shrink(&mut self, keep: Option<u32>, also: u32) {
        let is_kept = |slot: u32| Some(slot) == keep || slot == also;
        let mut by_age: Vec<(u64, u32)> = (0..)
            .zip(&self.inodes)
            .filter_map(|(slot, inode)| Some((inode.directory.as_ref()?.used, slot)))
            .filter(|(_, slot)| Some(*slot) != self.root && !is_kept(*slot))
            .collect();
        by_age.sort_unstable();
        let enough = by_age.len() / 2;
        for (count, (_, slot)) in by_age.into_iter().enumerate() {
            if count > enough && self.names < MOST_NAMES / 2 {
                break;
            }
            self.drop_directory(slot);
        }
        if self.names >= MOST_NAMES / 2 {
            self.answers.retract_all();
            for inode in &mut self.inodes {
                if let Some(directory) = &mut inode.directory {
                    self.names -= directory.children.len();
                    directory.children.clear();
                }
            }
        }
        self.sweep(keep, also);
    }

    fn sweep(&mut self, keep: Option<u32>, also: u32) {
        let mut is_named = vec![false; self.inodes.len()];
        for inode in &self.inodes {
            for named in inode
                .directory
                .iter()
                .flat_map(|found| found.children.values())
            {
                if let Child::Inode(key) = named.child {
                    is_named[key.slot as usize] = true;
                }
            }
        }
        for (slot, is_named) in (0..).zip(is_named) {
            let is_used = is_named || Some(slot) == keep || slot == also;
            if !is_used && self.inode(slot).is_live {
                self.kill(slot);
            }
        }
        self.known.retain(|_, known| known.fd.strong_count() > 0);
    }

    pub(super) fn set_reader(&mut self, slot: u32, fd: &Arc<OwnedFd>) {
        if !self.shares_readers {
            return;
        }
        if self.readers >= MOST_READERS.min(self.most_descriptors) {
            let mut by_age: Vec<(u64, u32)> = (0..)
                .zip(&self.inodes)
                .filter(|(_, inode)| inode.reader.is_some())
                .map(|(slot, inode)| (inode.used, slot))
                .collect();
            by_age.sort_unstable();
            for (_, slot) in by_age.drain(..by_age.len().div_ceil(2)) {
                self.drop_reader(slot);
            }
        }
        if self.inode(slot).reader.replace(fd.clone()).is_none() {
            self.readers += 1;
        }
    }

    pub(super) fn share_no_readers(&mut self) {
        self.shares_readers = false;
        for slot in (0..).take(self.inodes.len()) {
            self.drop_reader(slot);
        }
    }

    /// Remembers which directory a descriptor is of.
    pub(super) fn know(&mut self, fd: &Arc<OwnedFd>, slot: u32) {
        let attributes = self.inode(slot).attributes;
        self.know_attributes(fd, &attributes);
    }

    fn know_attributes(&mut self, fd: &Arc<OwnedFd>, attributes: &Attributes) {
        if self.known.len() >= MOST_KNOWN {
            self.known.retain(|_, known| known.fd.strong_count() > 0);
            if self.known.len() >= MOST_KNOWN {
                self.known.clear();
            }
        }
        let known = Known {
            fd: Arc::downgrade(fd),
            id: attributes.id(),
            mount: attributes.mount,
            is_directory: attributes.is_directory(),
        };
        // The weak reference keeps the address from being used again.
        self.known.insert(Arc::as_ptr(fd).addr(), known);
    }

    /// Device, inode and mount of a descriptor that is held; asked for once.
    pub(super) fn identity(&mut self, fd: &Arc<OwnedFd>) -> Result<(Id, u64)> {
        if let Some(known) = self.known.get(&Arc::as_ptr(fd).addr())
            && Weak::as_ptr(&known.fd) == Arc::as_ptr(fd)
        {
            return Ok((known.id, known.mount));
        }
        let attributes = Self::statx(fd, b"")?;
        self.know_attributes(fd, &attributes);
        Ok((attributes.id(), attributes.mount))
    }

    /// Whether a descriptor that is held is a directory's on another mount, where that is known.
    pub(super) fn is_directory_elsewhere(&self, fd: &Arc<OwnedFd>) -> bool {
        self.known
            .get(&Arc::as_ptr(fd).addr())
            .is_some_and(|known| {
                Weak::as_ptr(&known.fd) == Arc::as_ptr(fd)
                    && known.is_directory
                    && known.mount != self.mount
            })
    }

    /// The remembered directory that a held descriptor is of. `None`: it lies elsewhere, or is none.
    pub(super) fn directory_of(&mut self, fd: &Arc<OwnedFd>) -> Result<Option<u32>> {
        let (id, mount) = self.identity(fd)?;
        if mount != self.mount {
            return Ok(None);
        }
        let slot = match self.of_id(id) {
            Some(slot) => slot,
            None => {
                let attributes = Self::statx(fd, b"")?;
                self.note(&attributes)
            }
        };
        if !self.inode(slot).attributes.is_directory() {
            return Ok(None);
        }
        self.become_directory(slot, fd.clone(), None);
        Ok(Some(slot))
    }

    /// Which mount a descriptor's directory lies on, where that was asked before.
    pub(super) fn known_mount(&self, fd: &Arc<OwnedFd>) -> Option<u64> {
        let known = self.known.get(&Arc::as_ptr(fd).addr())?;
        (Weak::as_ptr(&known.fd) == Arc::as_ptr(fd)).then_some(known.mount)
    }

    fn known_directory(&self, fd: &Arc<OwnedFd>) -> Option<u32> {
        let known = self.known.get(&Arc::as_ptr(fd).addr())?;
        if Weak::as_ptr(&known.fd) != Arc::as_ptr(fd) || known.mount != self.mount {
            return None;
        }
        self.of_id(known.id)
    }

    pub(super) fn attributes_of_directory(&mut self, fd: &Arc<OwnedFd>) -> Option<Attributes> {
        let slot = self.known_directory(fd)?;
        self.exact(slot)
    }

    pub(super) fn permissions_of_directory(&mut self, fd: &Arc<OwnedFd>) -> Option<Attributes> {
        let slot = self.known_directory(fd)?;
        let now = Self::now();
        let inode = self.inode(slot);
        let is_true = inode.knows != Knowledge::Kind && Self::is_fresh(inode.checked, now);
        is_true.then_some(inode.attributes)
    }

    /// What is remembered of a file, if that is all true now.
    pub(super) fn exact(&mut self, slot: u32) -> Option<Attributes> {
        let used = self.tick();
        let now = Self::now();
        let inode = self.inode(slot);
        inode.used = used;
        let is_exact = inode.knows == Knowledge::Exact
            && !inode.was_read
            && Self::is_fresh(inode.checked, now);
        is_exact.then_some(inode.attributes)
    }

    /// A file was read: its access time may have moved.
    pub(super) fn was_read(&mut self, id: Id) {
        let is_strict = self.is_strict;
        let Some(slot) = self.of_id(id) else { return };
        let inode = self.inode(slot);
        if inode.keeps_access_time && !is_strict {
            return;
        }
        let [access, modification, change, _] = inode.attributes.times;
        // On the day that it is renewed on, one more question is asked.
        let is_old = || {
            let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse).tv_sec;
            access.0.saturating_add(DAY_S) <= now
        };
        if is_strict || access <= modification || access <= change || is_old() {
            inode.was_read = true;
            let told = inode.told;
            self.retract([told]);
        }
    }

    pub(super) fn is_written(&self, id: Id) -> bool {
        self.writers.contains_key(&id) || self.mapped.contains(&id) || !self.remembers_times
    }

    pub(super) fn forget(&mut self, id: Id) {
        if let Some(slot) = self.of_id(id) {
            let inode = self.inode(slot);
            inode.knows = Knowledge::Kind;
            inode.is_searchable = false;
            inode.keeps_access_time = false;
            let marks = [inode.told, inode.passed];
            self.retract(marks);
        }
    }

    /// The contents of a file changed, not who may use it.
    pub(super) fn forget_times(&mut self, id: Id) {
        if let Some(slot) = self.of_id(id) {
            let inode = self.inode(slot);
            if inode.knows == Knowledge::Exact {
                inode.knows = Knowledge::Permissions;
            }
            inode.keeps_access_time = false;
            let told = inode.told;
            self.retract([told]);
        }
    }

    pub(super) fn mapped(&mut self, id: Id) {
        if self.mapped.len() >= MOST_MAPPED {
            self.remembers_times = false;
            self.answers.retract_all();
            for inode in &mut self.inodes {
                inode.knows = Knowledge::Kind;
            }
            return;
        }
        self.mapped.insert(id);
        self.forget(id);
    }

    pub(super) fn entry_changed(&mut self, directory: &Arc<OwnedFd>, name: &[u8]) {
        if !self.is_on {
            return;
        }
        // Whatever mount it was reached by: the directory may be remembered as the root's.
        let Some(slot) = self
            .identity(directory)
            .ok()
            .and_then(|(id, _)| self.of_id(id))
        else {
            return;
        };
        let id = self.inode(slot).attributes.id();
        self.forget_times(id);
        let Some(found) = &mut self.inodes[slot as usize].directory else {
            return;
        };
        if let Some(named) = found.children.remove(name) {
            self.names -= 1;
            self.retract([named.told]);
            if let Child::Inode(key) = named.child
                && let Some(slot) = self.live(key)
            {
                self.kill(slot);
            }
        }
    }

    pub(super) fn descriptor(&self, slot: u32) -> Result<Arc<OwnedFd>> {
        let directory = &self.inodes[slot as usize].directory;
        directory
            .as_ref()
            .map(|found| found.fd.clone())
            .ok_or(Errno::ENOTDIR)
    }
}
