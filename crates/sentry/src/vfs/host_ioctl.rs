//! The few ioctls of regular files and directories that are answered; the host's own are never passed through by number. ioctl_fat(2) and the like are not.

use std::os::fd::OwnedFd;

use super::attributes::Attributes;
use super::description::Description;
use crate::errno::{Errno, Result};
use crate::memory::Address;
use crate::syscalls::Cx;
use crate::vfs::file::FIONREAD;

const FIBMAP: u32 = 1;
const FIGETBSZ: u32 = 2;
const FIOQSIZE: u32 = 0x5460;
const FICLONE: u32 = 0x4004_9409;
const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;

pub fn ioctl(
    cx: &Cx<'_>,
    fd: &OwnedFd,
    description: &Description,
    attributes: &Attributes,
    request: u32,
    argument: Address,
) -> Result<i64> {
    let is_directory = attributes.is_directory();
    match request {
        // CAP_SYS_RAWIO in the host's own user namespace.
        FIBMAP if !is_directory => return Err(Errno::EPERM),
        FIGETBSZ => cx.memory().write_u32(argument, attributes.blksize)?,
        FIONREAD if !is_directory => {
            let left = attributes.size.wrapping_sub(*description.position());
            cx.memory().write_u32(argument, left as u32)?;
        }
        FIOQSIZE => cx.memory().write_u64(argument, attributes.size)?,
        FICLONE if !is_directory => {
            let source = cx.open_description(argument.0 as i32)?;
            if !source.is_readable() || !description.is_writable() {
                return Err(Errno::EBADF);
            }
            let from = source.file.host().ok_or(Errno::EINVAL)?;
            rustix::fs::ioctl_ficlone(fd, from)?;
        }
        FS_IOC_GETFLAGS => {
            let flags = rustix::fs::ioctl_getflags(fd)?;
            cx.memory().write_u32(argument, flags.bits())?;
        }
        FS_IOC_SETFLAGS => return Err(Errno::EPERM),
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}
