//! A walk through the remembered tree: as `vfs::walk`, but that the host is asked only for what is not known, and by one call for each name.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::answers::{self, Trail};
use super::table::{Child, Key, Knowledge, Table};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{Credentials, MAY_EXEC};
use crate::vfs::attributes::Attributes;
use crate::vfs::place::Place;
use crate::vfs::walk::{MAX_LINKS, NAME_MAX};

/// What is walked, and who walks.
#[derive(Debug)]
pub struct Walk<'w, 'a> {
    pub root: &'w Place,
    pub start: &'w Place,
    pub path: &'a [u8],
    /// Whether a link at the end is followed.
    pub follow: bool,
    pub credentials: &'w Credentials,
    pub judge: Judge,
    /// Of a walk that an answer is to be made of (`answers`).
    pub trail: Option<&'w Trail>,
}

impl Walk<'_, '_> {
    /// It goes by what the host has to be asked for, or by what no answer is made of.
    fn leaves_trail(&self) {
        answers::leave(self.trail);
    }
}

/// Whose word on permissions counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// The file's owner and mode, and the caller's credentials.
    Mode,
    /// The host's own, who takes the caller for what this process is, and knows of access control lists. A file's owner needs no such question.
    Host,
}

/// Where a walk arrived.
#[derive(Debug)]
pub enum Arrival<'a> {
    /// At a file of the remembered tree.
    Spot(Spot<'a>),
    /// At the border: the walk goes on from this place with these components (none: it is the place).
    Leaves(Place, Vec<u8>),
}

/// A file of the remembered tree, by the name that led to it (a directory may have been reached without one).
#[derive(Debug)]
pub struct Spot<'a> {
    /// Whose it is.
    pub(super) table: usize,
    pub(super) slot: u32,
    pub(super) parent: Option<(u32, Name<'a>)>,
}

/// A component: of the path that was given, or of a link's text.
#[derive(Debug, Clone)]
pub(super) enum Name<'a> {
    Given(&'a [u8]),
    Link(Arc<[u8]>, Range<usize>),
}

impl Name<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Given(bytes) => bytes,
            Self::Link(text, range) => &text[range.clone()],
        }
    }
}

/// The components still to come: of links' texts first, the innermost last, then of the path.
struct Rest<'a> {
    path: &'a [u8],
    links: Vec<(Arc<[u8]>, usize)>,
}

impl<'a> Rest<'a> {
    fn next(&mut self) -> Option<Name<'a>> {
        while let Some((text, at)) = self.links.last_mut() {
            let Some((start, end)) = component(text, *at) else {
                self.links.pop();
                continue;
            };
            *at = end;
            return Some(Name::Link(text.clone(), start..end));
        }
        let (start, end) = component(self.path, 0)?;
        let name = &self.path[start..end];
        self.path = &self.path[end..];
        Some(Name::Given(name))
    }

    fn is_empty(&self) -> bool {
        component(self.path, 0).is_none()
            && self
                .links
                .iter()
                .all(|(text, at)| component(text, *at).is_none())
    }

    /// As one relative path.
    fn join(mut self, wants_directory: bool) -> Vec<u8> {
        let mut path = Vec::new();
        while let Some(name) = self.next() {
            path.extend_from_slice(name.bytes());
            path.push(b'/');
        }
        if !wants_directory {
            path.pop();
        } else if path.is_empty() {
            path.extend_from_slice(b"./");
        }
        path
    }
}

/// The first component from `at` on: its start and end.
fn component(path: &[u8], at: usize) -> Option<(usize, usize)> {
    let start = at + path[at..].iter().position(|byte| *byte != b'/')?;
    let len = path[start..].iter().position(|byte| *byte == b'/');
    Some((start, len.map_or(path.len(), |len| start + len)))
}

/// What a name in a directory means.
enum Step {
    Absent,
    Mount(Place),
    Inode(u32),
}

impl Table {
    /// Where a path leads; `further`: what is left of one that another table was walked for. `None`: nothing is remembered here.
    pub(super) fn walk<'a>(
        &mut self,
        walk: &Walk<'_, 'a>,
        further: Option<Arc<[u8]>>,
    ) -> Result<Option<Arrival<'a>>> {
        if !self.is_on {
            return Ok(None);
        }
        let is_absolute = walk.path.starts_with(b"/");
        let Some(mut here) = self.begin(if is_absolute { walk.root } else { walk.start })? else {
            return Ok(None);
        };
        let mut wants_directory = further.as_deref().unwrap_or(walk.path).ends_with(b"/");
        let mut rest = Rest {
            path: walk.path,
            links: further.into_iter().map(|text| (text, 0)).collect(),
        };
        let mut followed = 0;
        while let Some(name) = rest.next() {
            here = self.may_search(here, walk)?;
            let bytes = name.bytes();
            match bytes {
                b"." => continue,
                b".." => {
                    walk.leaves_trail();
                    match self.up(here, walk.root)? {
                        Ok(parent) => here = parent,
                        Err(place) => {
                            return Ok(Some(Arrival::Leaves(place, rest.join(wants_directory))));
                        }
                    }
                    continue;
                }
                _ if bytes.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
                _ => {}
            }
            let slot = match self.step(here, bytes, walk.trail)? {
                Step::Absent => return Err(Errno::ENOENT),
                Step::Mount(place) => {
                    return Ok(Some(Arrival::Leaves(place, rest.join(wants_directory))));
                }
                Step::Inode(slot) => slot,
            };
            let is_last = rest.is_empty();
            let attributes = &self.inode(slot).attributes;
            let is_link = attributes.is_symlink();
            let is_directory = attributes.is_directory();
            if is_link && (!is_last || walk.follow || wants_directory) {
                followed += 1;
                if followed > MAX_LINKS {
                    return Err(Errno::ELOOP);
                }
                let text = self.link(here, bytes, slot, walk.trail)?;
                if text.is_empty() {
                    return Err(Errno::ENOENT);
                }
                wants_directory |= is_last && text.ends_with(b"/");
                if text.starts_with(b"/") {
                    match self.begin(walk.root)? {
                        Some(root) => here = root,
                        None => {
                            rest.links.push((text, 0));
                            let rest = rest.join(wants_directory);
                            return Ok(Some(Arrival::Leaves(walk.root.clone(), rest)));
                        }
                    }
                }
                rest.links.push((text, 0));
                continue;
            }
            if is_last && (!is_directory || !wants_directory) {
                if wants_directory {
                    return Err(Errno::ENOTDIR);
                }
                return Ok(Some(Arrival::Spot(Spot {
                    table: self.index,
                    slot,
                    parent: Some((here, name)),
                })));
            }
            if !is_directory {
                return Err(Errno::ENOTDIR);
            }
            if self.inode(slot).directory.is_none() {
                walk.leaves_trail();
            }
            match self.enter(here, bytes, slot)? {
                Ok(()) => here = slot,
                Err(place) => {
                    return Ok(Some(Arrival::Leaves(place, rest.join(wants_directory))));
                }
            }
        }
        Ok(Some(Arrival::Spot(Spot {
            table: self.index,
            slot: here,
            parent: None,
        })))
    }

    /// One name in a directory, without following it. `None` as for `walk`.
    pub(super) fn look<'a>(
        &mut self,
        directory: &Place,
        name: &'a [u8],
    ) -> Result<Option<Arrival<'a>>> {
        if !self.is_on {
            return Ok(None);
        }
        let Some(here) = self.begin(directory)? else {
            return Ok(None);
        };
        Ok(Some(match self.step(here, name, None)? {
            Step::Absent => return Err(Errno::ENOENT),
            Step::Mount(place) => Arrival::Leaves(place, Vec::new()),
            Step::Inode(slot) => Arrival::Spot(Spot {
                table: self.index,
                slot,
                parent: Some((here, Name::Given(name))),
            }),
        }))
    }

    fn begin(&mut self, place: &Place) -> Result<Option<u32>> {
        match place {
            Place::Host(fd) => self.directory_of(fd),
            Place::Proc(_) | Place::Pts(_) => Ok(None),
        }
    }

    /// Refuses who may not look names up in the directory. Its slot comes back: another one if the host made it anew.
    fn may_search(&mut self, here: u32, walk: &Walk<'_, '_>) -> Result<u32> {
        let now = Self::now();
        let inode = self.inode(here);
        let here = if inode.knows == Knowledge::Kind || !Self::is_fresh(inode.checked, now) {
            walk.leaves_trail();
            self.ask_again(here)?.0
        } else {
            here
        };
        let who = walk.credentials;
        let inode = self.inode(here);
        if let Some(trail) = walk.trail {
            inode.passed = trail.epoch();
            trail.knew(inode.checked);
        }
        let attributes = &inode.attributes;
        if walk.judge == Judge::Host && attributes.uid != who.fsuid {
            if !inode.is_searchable {
                walk.leaves_trail();
                // Looking up even this name is refused to who may not search.
                Self::statx(&*self.descriptor(here)?, b".")?;
                self.inode(here).is_searchable = true;
            }
            return Ok(here);
        }
        if who.may(MAY_EXEC, attributes.mode, attributes.uid, attributes.gid) {
            Ok(here)
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Asks the host for a directory's attributes, by its descriptor.
    fn ask_again(&mut self, here: u32) -> Result<(u32, Attributes)> {
        let fd = self.descriptor(here)?;
        let attributes = Self::statx(&fd, b"")?;
        let slot = self.note(&attributes);
        if slot != here {
            self.become_directory(slot, fd, None);
        }
        Ok((slot, attributes))
    }

    fn step(&mut self, here: u32, name: &[u8], trail: Option<&Trail>) -> Result<Step> {
        let (now, used) = (Self::now(), self.tick());
        let Some(directory) = &mut self.inode(here).directory else {
            return Err(Errno::ENOTDIR);
        };
        directory.used = used;
        if let Some(named) = directory.children.get_mut(name)
            && Self::is_fresh(named.checked, now)
        {
            if let Some(trail) = trail {
                named.told = trail.epoch();
                directory.told = trail.epoch();
                trail.knew(named.checked);
            }
            match &named.child {
                Child::Absent => return Ok(Step::Absent),
                Child::Mount(place) => return Ok(Step::Mount(place.clone())),
                Child::Inode(key) => {
                    let key = *key;
                    if let Some(slot) = self.live(key)
                        && self.inode(slot).knows != Knowledge::Kind
                    {
                        return Ok(Step::Inode(slot));
                    }
                }
            }
        }
        answers::leave(trail);
        Ok(self.load(here, name)?.0)
    }

    /// Asks the host what a name means now.
    fn load(&mut self, here: u32, name: &[u8]) -> Result<(Step, Attributes)> {
        let fd = self.descriptor(here)?;
        let attributes = match Self::statx(&fd, name) {
            Err(Errno::ENOENT) => {
                self.set_name(here, name, Child::Absent);
                return Ok((Step::Absent, Attributes::default()));
            }
            other => other?,
        };
        if attributes.mount != self.mount {
            let opened = crate::host::openat(&*fd, name, BY_NAME, Mode::empty())?;
            let place = Place::of_mount(opened)?;
            self.set_name(here, name, Child::Mount(place.clone()));
            return Ok((Step::Mount(place), attributes));
        }
        let slot = self.note(&attributes);
        let key = self.key(slot);
        self.set_name(here, name, Child::Inode(key));
        Ok((Step::Inode(slot), attributes))
    }

    fn link(
        &mut self,
        here: u32,
        name: &[u8],
        slot: u32,
        trail: Option<&Trail>,
    ) -> Result<Arc<[u8]>> {
        let inode = self.inode(slot);
        if let Some(text) = &inode.link {
            // A link's text lasts as long as the link.
            inode.passed = trail.map_or(inode.passed, |trail| trail.epoch());
            return Ok(text.clone());
        }
        answers::leave(trail);
        let fd = self.descriptor(here)?;
        let text = rustix::fs::readlinkat(&*fd, name, Vec::new())?.into_bytes();
        let text: Arc<[u8]> = text.into();
        let id = self.inode(slot).attributes.id();
        self.was_read(id);
        self.inode(slot).link = Some(text.clone());
        Ok(text)
    }

    /// Makes `slot` a directory to walk on from. `Err`: the host has another file there by now.
    fn enter(
        &mut self,
        here: u32,
        name: &[u8],
        slot: u32,
    ) -> Result<std::result::Result<(), Place>> {
        if self.inode(slot).directory.is_some() {
            return Ok(Ok(()));
        }
        let parent = self.descriptor(here)?;
        let flags = BY_NAME.union(OFlags::DIRECTORY);
        let fd = Arc::new(crate::host::openat(&*parent, name, flags, Mode::empty())?);
        let (id, mount) = self.identity(&fd)?;
        if mount != self.mount || id != self.inode(slot).attributes.id() {
            return Ok(Err(Place::Host(fd)));
        }
        self.become_directory(slot, fd, Some(here));
        Ok(Ok(()))
    }

    /// The directory above; the root's is itself. `Err`: it lies elsewhere.
    fn up(&mut self, here: u32, root: &Place) -> Result<std::result::Result<u32, Place>> {
        if let Place::Host(root) = root {
            let (id, mount) = self.identity(root)?;
            if mount == self.mount && self.inode(here).attributes.id() == id {
                return Ok(Ok(here));
            }
        }
        let now = Self::now();
        let known: Option<(Key, u64)> = match &self.inode(here).directory {
            Some(directory) => directory.parent,
            None => return Err(Errno::ENOTDIR),
        };
        if let Some((key, checked)) = known
            && Self::is_fresh(checked, now)
            && let Some(parent) = self.live(key)
            && self.inode(parent).directory.is_some()
        {
            return Ok(Ok(parent));
        }
        let fd = self.descriptor(here)?;
        let above = Self::statx(&fd, b"..")?;
        let known = (above.mount == self.mount)
            .then(|| self.of_id(above.id()))
            .flatten()
            .filter(|slot| self.inodes[*slot as usize].directory.is_some());
        let parent = match known {
            Some(parent) => parent,
            None => {
                let opened = crate::host::openat(&*fd, "..", BY_NAME, Mode::empty())?;
                let opened = Arc::new(opened);
                match self.directory_of(&opened)? {
                    Some(parent) => parent,
                    None => return Ok(Err(Place::Host(opened))),
                }
            }
        };
        let key = self.key(parent);
        if let Some(directory) = &mut self.inode(here).directory {
            directory.parent = Some((key, now));
        }
        Ok(Ok(parent))
    }

    /// A file's attributes, all of them as they are now.
    pub(super) fn attributes(&mut self, spot: &Spot<'_>) -> Result<Attributes> {
        if let Some(attributes) = self.exact(spot.slot) {
            return Ok(attributes);
        }
        match &spot.parent {
            Some((parent, name)) => match self.load(*parent, name.bytes())? {
                (Step::Absent, _) => Err(Errno::ENOENT),
                (_, attributes) => Ok(attributes),
            },
            None => self.ask_again(spot.slot).map(|(_, attributes)| attributes),
        }
    }

    /// Kind, owner and mode, for those who need no more; the rest may be old.
    pub(super) fn permissions(&mut self, spot: &Spot<'_>) -> Result<Attributes> {
        let now = Self::now();
        let inode = self.inode(spot.slot);
        if inode.knows != Knowledge::Kind && Self::is_fresh(inode.checked, now) {
            return Ok(inode.attributes);
        }
        self.attributes(spot)
    }

    /// A link's text; `EINVAL` it is none.
    pub(super) fn read_link(
        &mut self,
        spot: &Spot<'_>,
        trail: Option<&Trail>,
    ) -> Result<Arc<[u8]>> {
        match &spot.parent {
            Some((parent, name)) if self.inode(spot.slot).attributes.is_symlink() => {
                self.link(*parent, name.bytes(), spot.slot, trail)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// A place to hold on to.
    pub(super) fn place(&mut self, spot: &Spot<'_>) -> Result<Place> {
        let Some((parent, name)) = &spot.parent else {
            return self.descriptor(spot.slot).map(Place::Host);
        };
        if self.inode(spot.slot).attributes.is_directory() {
            return match self.enter(*parent, name.bytes(), spot.slot)? {
                Ok(()) => self.descriptor(spot.slot).map(Place::Host),
                Err(place) => Ok(place),
            };
        }
        let parent = self.descriptor(*parent)?;
        let fd: OwnedFd = crate::host::openat(&*parent, name.bytes(), BY_NAME, Mode::empty())?;
        Ok(Place::Host(Arc::new(fd)))
    }
}

const BY_NAME: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
