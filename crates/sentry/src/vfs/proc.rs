//! /proc: the sentry's own tree. proc(5).

use std::sync::Arc;

use super::attributes::Attributes;
use super::file::File;
use super::place::Place;
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::syscalls::Cx;
use crate::syscalls::arguments::Flags;

/// A node, by what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcNode {
    Root,
}

impl ProcNode {
    pub fn attributes(&self, _kernel: &Kernel) -> Result<Attributes> {
        Ok(Attributes {
            dev: 20,
            ino: 1,
            mode: libc::S_IFDIR | 0o555,
            nlink: 2,
            blksize: 1024,
            ..Attributes::default()
        })
    }

    pub fn read_link(&self, _kernel: &Kernel, _tid: i32) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// Where a magic link leads; `None`: it is an ordinary one.
    pub fn target(&self, _kernel: &Kernel, _tid: i32) -> Result<Option<Place>> {
        Ok(None)
    }

    pub fn lookup(&self, _kernel: &Kernel, _tid: i32, _name: &[u8]) -> Result<Self> {
        Err(Errno::ENOENT)
    }

    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        None
    }

    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        b"/proc".to_vec()
    }

    pub fn open(&self, _cx: &mut Cx<'_>, _flags: Flags) -> Result<Arc<dyn File>> {
        Err(Errno::ENXIO)
    }
}
