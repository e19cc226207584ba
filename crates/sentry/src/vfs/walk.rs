//! Walking a path. Each component is looked up in the directory that the walk has reached, by descriptor; symbolic links are read and walked here, never by
//! the host, so a link that changes under the walk can only lead where the program could have gone anyway. path_resolution(7).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};

use super::attributes::Attributes;
use super::cache::{Arrival, Judge, Trail, Walk};
use super::place::Place;
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::credentials::{CAP_DAC_OVERRIDE, Credentials, MAY_EXEC};
use crate::syscalls::Found;
use crate::vfs::context::FsContext;

/// Linux: MAXSYMLINKS.
pub const MAX_LINKS: u32 = 40;
pub const NAME_MAX: usize = 255;
const BY_NAME: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a walk needs to know of who walks.
#[derive(Debug)]
pub struct Walker<'k> {
    pub kernel: &'k Kernel,
    /// The walking thread, for /proc/self.
    pub tid: i32,
    pub credentials: &'k Credentials,
    pub context: &'k FsContext,
    /// Of a walk that an answer is to be made of (`vfs::cache::answers`).
    pub trail: Option<&'k Trail>,
}

/// A directory, and a name in it that may or may not exist.
#[derive(Debug)]
pub struct Parent {
    pub directory: Place,
    pub name: Vec<u8>,
    /// The path ended in a slash: it must be a directory.
    pub wants_directory: bool,
}

impl Walker<'_> {
    /// Where `path` leads from `start`; the last component's link is followed if `follow`.
    pub fn resolve(&self, start: &Place, path: &[u8], follow: bool) -> Result<Place> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        match self.arrive(start, path, follow)? {
            Some(Arrival::Spot(spot)) => self.kernel.files.place(&spot),
            Some(Arrival::Leaves(place, rest)) => self.resolve_elsewhere(place, &rest, follow),
            None => self.resolve_elsewhere(start.clone(), path, follow),
        }
    }

    /// A file's attributes, by path; it need not be opened for that.
    pub fn attributes(&self, start: &Place, path: &[u8], follow: bool) -> Result<Attributes> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let arrival = self.arrive(start, path, follow)?;
        if let (Some(trail), Some(Arrival::Spot(spot))) = (self.trail, &arrival) {
            return self.kernel.files.attributes_told(spot, trail);
        }
        self.leaves_trail();
        match arrival {
            Some(Arrival::Spot(spot)) => self.kernel.files.attributes(&spot),
            Some(Arrival::Leaves(place, rest)) => self.attributes_elsewhere(place, &rest, follow),
            None => self.attributes_elsewhere(start.clone(), path, follow),
        }
    }

    fn leaves_trail(&self) {
        if let Some(trail) = self.trail {
            trail.leave();
        }
    }

    /// The walk through what is remembered of the root's mount (`vfs::cache`). `None`: it has nothing to say of this one.
    pub fn arrive<'p>(
        &self,
        start: &Place,
        path: &'p [u8],
        follow: bool,
    ) -> Result<Option<Arrival<'p>>> {
        self.kernel.files.walk(&Walk {
            root: &self.context.root,
            start,
            path,
            follow,
            credentials: self.credentials,
            judge: self.judge(),
            trail: self.trail,
        })
    }

    /// As `resolve`, but that a file of the remembered tree is not opened.
    pub fn find<'p>(&self, start: &Place, path: &'p [u8], follow: bool) -> Result<Found<'p>> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        Ok(match self.arrive(start, path, follow)? {
            Some(Arrival::Spot(spot)) => Found::Spot(spot),
            Some(Arrival::Leaves(place, rest)) => {
                self.leaves_trail();
                Found::Place(self.resolve_elsewhere(place, &rest, follow)?)
            }
            None => {
                self.leaves_trail();
                Found::Place(self.resolve_elsewhere(start.clone(), path, follow)?)
            }
        })
    }

    fn judge(&self) -> Judge {
        if self.kernel.trusts_host_permissions(self.credentials)
            && !self.credentials.has(CAP_DAC_OVERRIDE)
        {
            Judge::Host
        } else {
            Judge::Mode
        }
    }

    fn resolve_elsewhere(&self, start: Place, path: &[u8], follow: bool) -> Result<Place> {
        if path.is_empty() {
            return Ok(start);
        }
        // A mount's own root, with a slash behind it.
        if path == b"./"
            && let Place::Host(fd) = &start
            && self.kernel.files.is_directory_elsewhere(fd)
        {
            return Ok(start);
        }
        if let Some(place) = self.resolve_by_host(&start, path, follow) {
            return place;
        }
        self.walk(&start, path, follow)
    }

    fn attributes_elsewhere(&self, start: Place, path: &[u8], follow: bool) -> Result<Attributes> {
        if let Place::Host(directory) = &start
            && let Some(found) = self.attributes_of_name(directory, path, follow)
        {
            return found;
        }
        self.resolve_elsewhere(start, path, follow)?
            .attributes(self.kernel)
    }

    /// One name in a directory of another mount, by one call of the host, where that is the whole walk: no link, no further mount, nobody who could be refused.
    fn attributes_of_name(
        &self,
        directory: &Arc<OwnedFd>,
        name: &[u8],
        follow: bool,
    ) -> Option<Result<Attributes>> {
        if !self.kernel.trusts_host_permissions(self.credentials)
            || name.is_empty()
            || name.contains(&b'/')
            || name == b".."
        {
            return None;
        }
        let mount = self.kernel.files.mount_of(directory)?;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        match rustix::fs::statx(&**directory, name, AtFlags::SYMLINK_NOFOLLOW, wanted) {
            Ok(raw) => {
                let found = Attributes::from_host(&raw);
                let is_whole = found.mount == mount && !(follow && found.is_symlink());
                is_whole.then_some(Ok(found))
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    /// What a name in a directory is; a link is not followed.
    pub fn look(&self, directory: &Place, name: &[u8]) -> Result<Attributes> {
        let is_plain = !matches!(name, b"" | b"." | b"..") && name.len() <= NAME_MAX;
        if is_plain {
            let files = &self.kernel.files;
            match files.look(directory, name)? {
                Some(Arrival::Spot(spot)) => return files.attributes(&spot),
                Some(Arrival::Leaves(place, _)) => {
                    return place.attributes(self.kernel);
                }
                None => {}
            }
        }
        if is_plain
            && let Place::Host(fd) = directory
            && let Some(found) = self.attributes_of_name(fd, name, false)
        {
            return found;
        }
        self.step(directory, name)?.attributes(self.kernel)
    }

    /// The directory of `path`'s last component, and that component. `.`, `..` and `/` have no such name: `EINVAL` or what `error` says is the caller's.
    pub fn resolve_parent(&self, start: &Place, path: &[u8]) -> Result<Parent> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let end = path
            .iter()
            .rposition(|byte| *byte != b'/')
            .map_or(0, |last| last + 1);
        let trimmed = &path[..end];
        let cut = trimmed
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let name = trimmed[cut..].to_vec();
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let directory = if cut == 0 {
            start.clone()
        } else {
            self.resolve(start, &trimmed[..cut], true)?
        };
        let directory = if trimmed.is_empty() {
            self.context.root.clone()
        } else {
            directory
        };
        self.may_search_for_name(&directory)?;
        Ok(Parent {
            directory,
            name,
            wants_directory: end < path.len(),
        })
    }

    /// The whole path in one call of the host, where that is the same: no link on the way, no other mount, and nobody who could be refused.
    fn resolve_by_host(&self, start: &Place, path: &[u8], follow: bool) -> Option<Result<Place>> {
        if !self.kernel.trusts_host_permissions(self.credentials) {
            return None;
        }
        let (base, rest) = match path.strip_prefix(b"/") {
            Some(_) => {
                let first = path.iter().position(|byte| *byte != b'/')?;
                (&self.context.root, &path[first..])
            }
            None => (start, path),
        };
        let Place::Host(base) = base else { return None };
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::BENEATH;
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat2(&**base, rest, flags, Mode::empty(), resolve) {
            Ok(fd) => {
                // With O_PATH and O_NOFOLLOW a link at the end is opened itself, whatever RESOLVE_NO_SYMLINKS says.
                let place = Place::Host(Arc::new(fd));
                match place.attributes(self.kernel) {
                    Ok(attributes)
                        if attributes.is_symlink() && (follow || rest.ends_with(b"/")) =>
                    {
                        None
                    }
                    Ok(_) => Some(Ok(place)),
                    Err(error) => Some(Err(error)),
                }
            }
            Err(rustix::io::Errno::NOENT) => Some(Err(Errno::ENOENT)),
            Err(_) => None,
        }
    }

    fn walk(&self, start: &Place, path: &[u8], follow: bool) -> Result<Place> {
        let mut here = if path.starts_with(b"/") {
            self.context.root.clone()
        } else {
            start.clone()
        };
        let mut rest: VecDeque<Vec<u8>> = components(path).collect();
        let mut wants_directory = path.ends_with(b"/");
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            self.may_search(&here)?;
            let next = self.step(&here, &name)?;
            let is_last = rest.is_empty();
            if is_last && !follow && !wants_directory {
                here = next;
                break;
            }
            if !next.attributes(self.kernel)?.is_symlink() {
                here = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP);
            }
            // A link of /proc leads to the thing itself, which its text need not name (proc(5), "magic links").
            if let Place::Proc(node) = &next
                && let Some(target) = node.target(self.kernel, self.tid)?
            {
                here = target;
                continue;
            }
            let target = next.read_link(self.kernel, self.tid)?;
            if target.is_empty() {
                return Err(Errno::ENOENT);
            }
            if target.starts_with(b"/") {
                here = self.context.root.clone();
            }
            wants_directory |= is_last && target.ends_with(b"/");
            for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(component);
            }
        }
        if wants_directory && !here.attributes(self.kernel)?.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        Ok(here)
    }

    /// One name in one directory; `..` stops at the process's root.
    pub fn step(&self, directory: &Place, name: &[u8]) -> Result<Place> {
        match name {
            b"." => return Ok(directory.clone()),
            b".." => return self.parent_of(directory),
            _ if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        match directory {
            Place::Host(fd) => {
                let child = crate::host::openat(&**fd, name, BY_NAME, Mode::empty())?;
                self.enter(child)
            }
            Place::Proc(node) => node.lookup(self.kernel, self.tid, name).map(Place::Proc),
            Place::Pts(node) => node.lookup(self.kernel, name).map(Place::Pts),
        }
    }

    /// Replaces the host's proc and sysfs by the sentry's own.
    fn enter(&self, fd: OwnedFd) -> Result<Place> {
        if self.kernel.is_foreign_mount(&fd) {
            return Place::of_mount(fd);
        }
        Ok(Place::Host(Arc::new(fd)))
    }

    fn parent_of(&self, directory: &Place) -> Result<Place> {
        if self.same(directory, &self.context.root)? {
            return Ok(directory.clone());
        }
        match directory {
            Place::Host(fd) => {
                let parent = crate::host::openat(&**fd, "..", BY_NAME, Mode::empty())?;
                Ok(Place::Host(Arc::new(parent)))
            }
            Place::Pts(_) => self.resolve(&self.context.root, b"/dev", true),
            Place::Proc(node) => match node.parent() {
                Some(parent) => Ok(Place::Proc(parent)),
                None => Ok(self.context.root.clone()),
            },
        }
    }

    pub fn same(&self, one: &Place, other: &Place) -> Result<bool> {
        let (Place::Host(a), Place::Host(b)) = (one, other) else {
            return Ok(false);
        };
        if Arc::ptr_eq(a, b) {
            return Ok(true);
        }
        let (a, b) = (one.attributes(self.kernel)?, other.attributes(self.kernel)?);
        Ok((a.dev, a.ino, a.mount) == (b.dev, b.ino, b.mount))
    }

    /// As `may_search`, for who goes on to do something by a name in it: where the host takes the caller for what this process is, it asks the same first.
    fn may_search_for_name(&self, directory: &Place) -> Result<()> {
        if let Place::Host(fd) = directory
            && self.kernel.trusts_host_permissions(self.credentials)
            && self.kernel.files.is_directory_elsewhere(fd)
        {
            return Ok(());
        }
        self.may_search(directory)
    }

    pub fn may_search(&self, directory: &Place) -> Result<()> {
        let attributes = directory.permissions(self.kernel)?;
        if !attributes.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if self
            .credentials
            .may(MAY_EXEC, attributes.mode, attributes.uid, attributes.gid)
        {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }
}

pub fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
}
