//! What the guest's kernel knows by number: a file each, by its place in the tree, with a descriptor of it for those that were used last.
//!
//! A descriptor is what a file cannot escape from: a rename elsewhere does not change it. But there are as many as a process may have, and a guest knows as many
//! files as its memory holds. One without is opened anew on the way from its parent, and only if the same inode is there still.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;

pub(crate) const ROOT: u64 = 1;
/// Some hundred bytes each, of the machine's cgroup.
const MAX_NODES: usize = 1 << 19;
const MAX_OPEN: usize = 256;
/// Of files that were deleted while the guest knew them: nothing leads to them but their descriptor.
const MAX_DELETED: usize = 1024;
const MAX_DEPTH: usize = 4096;

type Key = (u64, u64);

#[derive(Debug)]
struct Node {
    parent: u64,
    name: OsString,
    key: Key,
    kind: FileType,
    lookups: u64,
    fd: Option<Rc<OwnedFd>>,
    was_used: bool,
    is_deleted: bool,
}

#[derive(Debug)]
pub(crate) struct Nodes {
    root: Rc<OwnedFd>,
    nodes: HashMap<u64, Node>,
    by_key: HashMap<Key, u64>,
    /// Those that have a descriptor and are not deleted, the longest unused first.
    open: VecDeque<u64>,
    deleted: usize,
    next: u64,
}

pub(crate) fn stat_of(fd: &OwnedFd) -> Result<Stat, Errno> {
    statat(fd, "", AtFlags::EMPTY_PATH)
}

/// The place of a name in a directory.
pub(crate) fn locate(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    openat2(directory, name, flags, Mode::empty(), resolve)
}

impl Nodes {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self {
            root: Rc::new(root),
            nodes: HashMap::new(),
            by_key: HashMap::new(),
            open: VecDeque::new(),
            deleted: 0,
            next: ROOT,
        }
    }

    /// Looks a name up, which counts: the guest's kernel gives each back by `forget`.
    pub(crate) fn look_up(&mut self, parent: u64, name: &OsStr) -> Result<(u64, Stat), Errno> {
        let directory = self.fd(parent)?;
        let fd = locate(&directory, name)?;
        let stat = stat_of(&fd)?;
        Ok((self.add(parent, name, fd, &stat)?, stat))
    }

    fn add(&mut self, parent: u64, name: &OsStr, fd: OwnedFd, stat: &Stat) -> Result<u64, Errno> {
        let key = (stat.st_dev, stat.st_ino);
        let kind = FileType::from_raw_mode(stat.st_mode);
        if let Some(id) = self.by_key.get(&key).copied()
            && let Some(node) = self.nodes.get_mut(&id)
            && node.kind == kind
        {
            node.lookups += 1;
            if !node.is_deleted {
                node.parent = parent;
                name.clone_into(&mut node.name);
            }
            return Ok(id);
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(Errno::NFILE);
        }
        self.next += 1;
        let node = Node {
            parent,
            name: name.to_owned(),
            key,
            kind,
            lookups: 1,
            fd: None,
            was_used: false,
            is_deleted: false,
        };
        self.nodes.insert(self.next, node);
        self.by_key.insert(key, self.next);
        self.keep(self.next, Rc::new(fd));
        Ok(self.next)
    }

    /// Keeps a descriptor, and gives up another that was not used since it was looked at last.
    fn keep(&mut self, id: u64, fd: Rc<OwnedFd>) {
        while self.open.len() >= MAX_OPEN {
            let Some(oldest) = self.open.pop_front() else {
                break;
            };
            let Some(node) = self.nodes.get_mut(&oldest) else {
                continue;
            };
            if std::mem::take(&mut node.was_used) {
                self.open.push_back(oldest);
            } else {
                node.fd = None;
            }
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.fd = Some(fd);
            self.open.push_back(id);
        }
    }

    /// The place of a node.
    pub(crate) fn fd(&mut self, id: u64) -> Result<Rc<OwnedFd>, Errno> {
        let mut missing = Vec::new();
        let mut here = id;
        let mut fd = loop {
            if here == ROOT {
                break Rc::clone(&self.root);
            }
            let node = self.nodes.get_mut(&here).ok_or(Errno::STALE)?;
            if let Some(fd) = &node.fd {
                node.was_used = true;
                break Rc::clone(fd);
            }
            if node.is_deleted {
                return Err(Errno::STALE);
            }
            if missing.len() > MAX_DEPTH {
                return Err(Errno::LOOP);
            }
            missing.push(here);
            here = node.parent;
        };
        for step in missing.into_iter().rev() {
            let node = self.nodes.get(&step).ok_or(Errno::STALE)?;
            let found = locate(&fd, &node.name).map_err(|_| Errno::STALE)?;
            let stat = stat_of(&found)?;
            if (stat.st_dev, stat.st_ino) != node.key {
                return Err(Errno::STALE);
            }
            fd = Rc::new(found);
            self.keep(step, Rc::clone(&fd));
        }
        Ok(fd)
    }

    /// What a node is; the root is a directory.
    pub(crate) fn kind(&self, id: u64) -> Result<FileType, Errno> {
        if id == ROOT {
            return Ok(FileType::Directory);
        }
        self.nodes
            .get(&id)
            .map(|node| node.kind)
            .ok_or(Errno::STALE)
    }

    /// A name is about to go. A file that the guest knows stays reachable by its descriptor.
    pub(crate) fn before_removal(&mut self, parent: u64, name: &OsStr) {
        let Ok(directory) = self.fd(parent) else {
            return;
        };
        let Ok(fd) = locate(&directory, name) else {
            return;
        };
        let Ok(stat) = stat_of(&fd) else {
            return;
        };
        let is_last =
            stat.st_nlink <= 1 || FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let Some(id) = self.by_key.get(&(stat.st_dev, stat.st_ino)).copied() else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(&id)
            && !node.is_deleted
        {
            node.is_deleted = is_last;
            if self.deleted < MAX_DELETED || !is_last {
                node.fd = Some(Rc::new(fd));
            }
            self.open.retain(|other| *other != id);
            if is_last {
                self.deleted += 1;
                self.by_key.remove(&(stat.st_dev, stat.st_ino));
            } else {
                self.open.push_back(id);
            }
        }
    }

    /// The name did not go: the file is where it was.
    pub(crate) fn after_failed_removal(&mut self, parent: u64, name: &OsStr) {
        let Ok(directory) = self.fd(parent) else {
            return;
        };
        let Ok(stat) = locate(&directory, name).and_then(|fd| stat_of(&fd)) else {
            return;
        };
        let key = (stat.st_dev, stat.st_ino);
        let found = self
            .nodes
            .iter_mut()
            .find(|(_, node)| node.is_deleted && node.key == key);
        if let Some((id, node)) = found {
            node.is_deleted = false;
            self.deleted -= 1;
            self.by_key.insert(key, *id);
            self.open.push_back(*id);
        }
    }

    /// A file has another name now.
    pub(crate) fn renamed(&mut self, parent: u64, name: &OsStr) {
        // Looked up anew, which notes the place, and given back at once.
        if let Ok((id, _)) = self.look_up(parent, name) {
            self.forget(id, 1);
        }
    }

    pub(crate) fn forget(&mut self, id: u64, count: u64) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups > 0 {
            return;
        }
        let (key, is_deleted) = (node.key, node.is_deleted);
        self.nodes.remove(&id);
        if is_deleted {
            self.deleted -= 1;
        } else if self.by_key.get(&key) == Some(&id) {
            self.by_key.remove(&key);
        }
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        let open = self.nodes.values().filter(|node| node.fd.is_some()).count();
        (self.nodes.len(), open)
    }
}
