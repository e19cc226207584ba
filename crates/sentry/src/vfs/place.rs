//! A place in the tree: where a walk arrives, open or not.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, StatxFlags};

use super::attributes::Attributes;
use super::proc::ProcNode;
use super::tty::devpts::{DEVPTS_MAGIC, PtsNode};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;

const PROC_MAGIC: i64 = 0x9FA0;
const SYSFS_MAGIC: i64 = 0x6265_6572;

#[derive(Debug, Clone)]
pub enum Place {
    /// A file of the host's tree, held by an O_PATH descriptor.
    Host(Arc<OwnedFd>),
    /// A node of the sentry's own /proc.
    Proc(ProcNode),
    /// A node of the sentry's own /dev/pts.
    Pts(PtsNode),
}

impl Place {
    /// What was found on another mount: the host's proc and sysfs are replaced by the sentry's own.
    pub fn of_mount(fd: OwnedFd) -> Result<Self> {
        match rustix::fs::fstatfs(&fd)?.f_type {
            PROC_MAGIC => return Ok(Self::Proc(ProcNode::Root)),
            SYSFS_MAGIC => return Ok(Self::Proc(ProcNode::Sys("".into()))),
            // One of its terminals may be bound elsewhere (/dev/console): that is a device like any other.
            DEVPTS_MAGIC
                if u32::from(crate::host::fstat(&fd)?.stx_mode) & libc::S_IFMT == libc::S_IFDIR =>
            {
                return Ok(Self::Pts(PtsNode::Root));
            }
            _ => {}
        }
        Ok(Self::Host(Arc::new(fd)))
    }

    pub fn attributes(&self, kernel: &Kernel) -> Result<Attributes> {
        match self {
            Self::Host(fd) => {
                if let Some(attributes) = kernel.files.attributes_of(fd) {
                    return Ok(attributes);
                }
                let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
                let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
                Ok(Attributes::from_host(&rustix::fs::statx(
                    &**fd, "", flags, wanted,
                )?))
            }
            Self::Proc(node) => node.attributes(kernel),
            Self::Pts(node) => node.attributes(kernel),
        }
    }

    /// Kind, owner and mode, for those who need no more: the rest may be old.
    pub fn permissions(&self, kernel: &Kernel) -> Result<Attributes> {
        if let Self::Host(fd) = self
            && let Some(attributes) = kernel.files.permissions_of(fd)
        {
            return Ok(attributes);
        }
        self.attributes(kernel)
    }

    pub fn read_link(&self, kernel: &Kernel, tid: i32) -> Result<Vec<u8>> {
        match self {
            Self::Host(fd) => Ok(rustix::fs::readlinkat(&**fd, "", Vec::new())?.into_bytes()),
            Self::Proc(node) => node.read_link(kernel, tid),
            Self::Pts(_) => Err(Errno::EINVAL),
        }
    }

    /// The absolute path, from the container's root; with " (deleted)" if it has been removed, as /proc tells it.
    pub fn path(&self, kernel: &Kernel) -> Result<Vec<u8>> {
        match self {
            Self::Host(fd) => kernel.host_path(fd),
            Self::Proc(node) => Ok(node.path()),
            Self::Pts(node) => Ok(node.path()),
        }
    }

    pub fn host(&self) -> Result<&Arc<OwnedFd>> {
        match self {
            Self::Host(fd) => Ok(fd),
            Self::Proc(_) | Self::Pts(_) => Err(Errno::EPERM),
        }
    }
}
