//! Walking with openat2(2)'s RESOLVE_* restrictions. Linux: fs/namei.c, LOOKUP_BENEATH and its kin.

use std::collections::VecDeque;

use super::place::Place;
use super::walk::{MAX_LINKS, Walker, components};
use crate::errno::{Errno, Result};

pub const NO_XDEV: u64 = 1;
pub const NO_MAGICLINKS: u64 = 2;
pub const NO_SYMLINKS: u64 = 4;
pub const BENEATH: u64 = 8;
pub const IN_ROOT: u64 = 16;
pub const CACHED: u64 = 32;

/// A walk from `start` that may not leave what `flags` confine it to.
#[derive(Debug)]
pub struct Confined<'w, 'k> {
    pub walker: &'w Walker<'k>,
    pub start: &'w Place,
    pub flags: u64,
}

impl Confined<'_, '_> {
    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Where `path` leads; the last component's link is followed if `follow`.
    pub fn resolve(&self, path: &[u8], follow: bool) -> Result<Place> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let mut here = self.start.clone();
        if path.starts_with(b"/") {
            here = self.root()?;
        }
        let mut rest: VecDeque<Vec<u8>> = components(path).collect();
        let mut wants_directory = path.ends_with(b"/");
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            self.walker.may_search(&here)?;
            let next = self.step(&here, &name)?;
            let is_last = rest.is_empty();
            if !next.attributes(self.walker.kernel)?.is_symlink()
                || (is_last && !follow && !wants_directory)
            {
                here = next;
                continue;
            }
            links += 1;
            if self.has(NO_SYMLINKS) || links > MAX_LINKS {
                return Err(Errno::ELOOP);
            }
            if let Some(target) = self.magic_target(&here, &next)? {
                here = target;
                continue;
            }
            let target = next.read_link(self.walker.kernel, self.walker.tid)?;
            if target.is_empty() {
                return Err(Errno::ENOENT);
            }
            if target.starts_with(b"/") {
                let root = self.root()?;
                self.same_mount(&here, &root)?;
                here = root;
            }
            wants_directory |= is_last && target.ends_with(b"/");
            for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(component);
            }
        }
        if wants_directory && !here.attributes(self.walker.kernel)?.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        Ok(here)
    }

    /// Where an absolute path starts.
    fn root(&self) -> Result<Place> {
        if self.has(BENEATH) {
            return Err(Errno::EXDEV);
        }
        Ok(if self.has(IN_ROOT) {
            self.start.clone()
        } else {
            self.walker.context.root.clone()
        })
    }

    /// One name.
    pub fn step(&self, here: &Place, name: &[u8]) -> Result<Place> {
        let is_up = name == b"..";
        if is_up && self.has(BENEATH | IN_ROOT) && self.walker.same(here, self.start)? {
            return if self.has(BENEATH) {
                Err(Errno::EXDEV)
            } else {
                Ok(here.clone())
            };
        }
        let next = self.walker.step(here, name)?;
        self.same_mount(here, &next)?;
        if is_up && self.has(BENEATH | IN_ROOT) && !self.is_below(&next)? {
            // Somebody moved the directory away meanwhile. openat2(2), EAGAIN.
            return Err(Errno::EAGAIN);
        }
        Ok(next)
    }

    fn same_mount(&self, here: &Place, next: &Place) -> Result<()> {
        let mount = |place: &Place| Ok::<_, Errno>(place.attributes(self.walker.kernel)?.mount);
        if self.has(NO_XDEV) && mount(here)? != mount(next)? {
            return Err(Errno::EXDEV);
        }
        Ok(())
    }

    fn is_below(&self, place: &Place) -> Result<bool> {
        let start = self.start.path(self.walker.kernel)?;
        let path = place.path(self.walker.kernel)?;
        let rest = path.strip_prefix(start.strip_suffix(b"/").unwrap_or(&start));
        Ok(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")))
    }

    fn magic_target(&self, here: &Place, link: &Place) -> Result<Option<Place>> {
        let Place::Proc(node) = link else {
            return Ok(None);
        };
        let Some(target) = node.target(self.walker.kernel, self.walker.tid)? else {
            return Ok(None);
        };
        if self.has(NO_MAGICLINKS) {
            return Err(Errno::ELOOP);
        }
        if self.has(BENEATH | IN_ROOT) {
            return Err(Errno::EXDEV);
        }
        self.same_mount(here, &target)?;
        Ok(Some(target))
    }
}
