//! /proc and /sys: the sentry's own trees, in the sandbox's own terms. proc(5), sysfs(5).
//!
//! A node says what it is about (a process by its number, a row of a table, a descriptor), never holds it: each use looks again, so a node of
//! a process that has ended is ENOENT or ESRCH. `process` and `system` have one row per file; `fds` the links that lead to descriptions.

pub mod controls;
pub mod fds;
pub mod files;
pub mod maps;
pub mod mounts;
pub mod network;
pub mod process;
pub mod settings;
pub mod stat;
pub mod status;
pub mod sys;
pub mod system;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::attributes::Attributes;
use super::description::{Description, O_ACCMODE};
use super::place::Place;
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::syscalls::arguments::Flags;
use crate::syscalls::{Cx, SysResult};

/// A process, or one of its threads (below `task`), in the sandbox's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Who {
    pub pid: i32,
    pub thread: Option<i32>,
}

/// A node, by what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcNode {
    /// /proc.
    Root,
    /// A row of `system::ROWS` or a directory on the way to one, by its path below /proc.
    System(&'static str),
    /// Below /sys; "" is /sys itself.
    Sys(Arc<str>),
    Process(Who),
    /// A row of `process::ROWS` or a directory on the way to one.
    Entry(Who, &'static str),
    Fd(Who, i32),
    FdInfo(Who, i32),
    /// What a link in `ns` leads to, by index.
    Namespace(usize),
    Opened(Opened),
}

/// An open description that has no place in the tree: what /proc/PID/fd leads to for a pipe or a stream.
#[derive(Debug, Clone)]
pub struct Opened(pub Arc<Description>);

impl PartialEq for Opened {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Opened {}

/// One name in a directory.
#[derive(Debug)]
pub struct Listed {
    /// Ascending, and the same for a name as long as it exists.
    pub cookie: u64,
    pub name: String,
    pub node: ProcNode,
    pub kind: u8,
}

/// The number that a symlink, directory or file of this mode has in a listing.
#[must_use]
pub fn entry_kind(mode: u32) -> u8 {
    ((mode & libc::S_IFMT) >> 12) as u8
}

impl ProcNode {
    pub fn attributes(&self, kernel: &Kernel) -> Result<Attributes> {
        let (device, mount) = match self {
            Self::Sys(_) => kernel.machine.sys_device,
            _ => kernel.machine.proc_device,
        };
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let mut attributes = Attributes {
            dev: device,
            ino: self.inode(),
            nlink: 1,
            blksize: 1024,
            mount,
            times: [(now.tv_sec, now.tv_nsec as u32); 4],
            ..Attributes::default()
        };
        match self {
            Self::Root => {
                attributes.mode = libc::S_IFDIR | 0o555;
                let running = u32::try_from(kernel.processes.len()).unwrap_or(u32::MAX);
                attributes.nlink = running.saturating_add(4);
            }
            Self::System(path) => {
                attributes.mode = system::mode(path);
                attributes.size = system::link_size(path);
            }
            Self::Sys(path) => return sys::attributes(kernel, path, attributes),
            Self::Process(who) => {
                process::own(kernel, *who, 0o555 | libc::S_IFDIR, &mut attributes)?
            }
            Self::Entry(who, path) => {
                process::own(kernel, *who, process::mode(path), &mut attributes)?;
                attributes.size = fds::directory_size(kernel, *who, path);
            }
            Self::Fd(who, fd) => {
                process::own(
                    kernel,
                    *who,
                    fds::link_mode(kernel, *who, *fd)?,
                    &mut attributes,
                )?;
                attributes.size = 64;
            }
            Self::FdInfo(who, _) => {
                process::own(kernel, *who, libc::S_IFREG | 0o400, &mut attributes)?;
            }
            Self::Namespace(index) => {
                attributes.mode = libc::S_IFREG | 0o444;
                attributes.ino = process::namespace_number(*index);
                attributes.dev = 4;
            }
            Self::Opened(opened) => return opened.0.file.attributes(),
        }
        if attributes.is_directory() && attributes.nlink == 1 {
            attributes.nlink = 2;
        }
        Ok(attributes)
    }

    fn inode(&self) -> u64 {
        if *self == Self::Root {
            return 1;
        }
        let mut hasher = DefaultHasher::new();
        self.path().hash(&mut hasher);
        // Below 2^32, as Linux's own, and above its fixed numbers.
        (hasher.finish() >> 33) | 1 << 31
    }

    pub fn read_link(&self, kernel: &Kernel, tid: i32) -> Result<Vec<u8>> {
        match self {
            Self::System(path) => system::link(kernel, tid, path),
            Self::Sys(path) => sys::link(kernel, path),
            Self::Entry(who, path) => process::link(kernel, *who, tid, path),
            Self::Fd(who, fd) => fds::link(kernel, *who, tid, *fd),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Where a magic link leads; `None`: it is an ordinary one.
    pub fn target(&self, kernel: &Kernel, tid: i32) -> Result<Option<Place>> {
        match self {
            Self::Entry(who, path) => process::target(kernel, *who, tid, path),
            Self::Fd(who, fd) => fds::target(kernel, *who, tid, *fd).map(Some),
            _ => Ok(None),
        }
    }

    pub fn lookup(&self, kernel: &Kernel, tid: i32, name: &[u8]) -> Result<Self> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        match self {
            Self::Root => match process::by_name(kernel, name) {
                Some(who) => Ok(Self::Process(who)),
                None => system::lookup("", name),
            },
            Self::System(path) => system::lookup(path, name),
            Self::Sys(path) => sys::lookup(kernel, path, name),
            Self::Process(who) => process::lookup(kernel, *who, tid, "", name),
            Self::Entry(who, path) => process::lookup(kernel, *who, tid, path, name),
            _ => Err(Errno::ENOTDIR),
        }
    }

    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::Root | Self::Namespace(_) | Self::Opened(_) => None,
            Self::System(path) => Some(match system::parent(path) {
                "" => Self::Root,
                parent => Self::System(parent),
            }),
            Self::Sys(path) if path.is_empty() => None,
            Self::Sys(path) => Some(Self::Sys(
                path.rsplit_once('/')
                    .map_or("", |(parent, _)| parent)
                    .into(),
            )),
            Self::Process(Who { thread: None, .. }) => Some(Self::Root),
            Self::Process(Who { pid, .. }) => {
                let who = Who {
                    pid: *pid,
                    thread: None,
                };
                Some(Self::Entry(who, "task"))
            }
            Self::Entry(who, path) => Some(match system::parent(path) {
                "" => Self::Process(*who),
                parent => Self::Entry(*who, parent),
            }),
            Self::Fd(who, _) => Some(Self::Entry(*who, "fd")),
            Self::FdInfo(who, _) => Some(Self::Entry(*who, "fdinfo")),
        }
    }

    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        match self {
            Self::Root => "/proc".to_owned(),
            Self::System(path) => format!("/proc/{path}"),
            Self::Sys(path) if path.is_empty() => "/sys".to_owned(),
            Self::Sys(path) => format!("/sys/{path}"),
            Self::Process(who) => who.path(),
            Self::Entry(who, path) => format!("{}/{path}", who.path()),
            Self::Fd(who, fd) => format!("{}/fd/{fd}", who.path()),
            Self::FdInfo(who, fd) => format!("{}/fdinfo/{fd}", who.path()),
            Self::Namespace(index) => process::namespace_name(*index),
            Self::Opened(opened) => return opened.0.file.name(),
        }
        .into_bytes()
    }

    /// What a directory holds, ascending by cookie.
    pub fn list(&self, kernel: &Kernel, tid: i32) -> Result<Vec<Listed>> {
        match self {
            Self::Root => Ok(system::list_root(kernel)),
            Self::System(path) => Ok(system::list(path)),
            Self::Sys(path) => Ok(sys::list(kernel, path)),
            Self::Process(who) => process::list(kernel, *who, tid, ""),
            Self::Entry(who, path) => process::list(kernel, *who, tid, path),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// What a text file says now.
    pub fn text(&self, kernel: &Kernel, tid: i32) -> Result<Vec<u8>> {
        match self {
            Self::System(path) => system::text(kernel, path),
            Self::Sys(path) => sys::text(kernel, path),
            Self::Entry(who, path) => process::text(kernel, *who, tid, path),
            Self::FdInfo(who, fd) => fds::info(kernel, *who, tid, *fd),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Opens the node: access by mode has been checked.
    pub fn open(&self, cx: &mut Cx<'_>, flags: Flags) -> SysResult {
        let access = (flags.0 & O_ACCMODE.cast_unsigned()).cast_signed();
        let writes = access != libc::O_RDONLY || flags.has(libc::O_TRUNC);
        match self {
            Self::Opened(opened) => return fds::reopen(cx, &opened.0.clone(), flags),
            Self::Entry(who, name @ ("mem" | "pagemap")) => {
                let writes = writes && *name == "mem";
                let file = files::MemoryFile::open(
                    cx.kernel,
                    (*who, name),
                    cx.tid(),
                    self.clone(),
                    writes,
                )?;
                return crate::syscalls::open::finish(cx, Arc::new(file), flags);
            }
            _ => {}
        }
        // Containers have both mounted read-only; sysctl(2)'s files are nobody's to change here.
        let is_read_only = match self {
            Self::Sys(_) => true,
            Self::System(path) => path.starts_with("sys/"),
            _ => false,
        };
        if is_read_only && writes {
            return Err(Errno::EROFS);
        }
        let file = files::open(cx.kernel, cx.tid(), self.clone())?;
        crate::syscalls::open::finish(cx, file, flags)
    }
}

impl Who {
    #[must_use]
    pub fn path(&self) -> String {
        match self.thread {
            None => format!("/proc/{}", self.pid),
            Some(thread) => format!("/proc/{}/task/{thread}", self.pid),
        }
    }
}
