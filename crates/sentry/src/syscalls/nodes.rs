//! mknod(2): FIFOs, sockets and regular files. Devices are not made by programs, as the device cgroup of a container would have it.

use rustix::fs::{FileType, Mode};

use super::directories::{entry_changed, exists, is_dot, own_new, target, writable};
use super::{Cx, SysResult};
use crate::errno::Errno;
use crate::memory::Address;

pub fn mknod(cx: &mut Cx<'_>, path: Address, mode: u32, device: u64) -> SysResult {
    mknodat(cx, libc::AT_FDCWD, path, mode, device)
}

pub fn mknodat(
    cx: &mut Cx<'_>,
    directory: i32,
    path: Address,
    mode: u32,
    _device: u64,
) -> SysResult {
    let kind = match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(FileType::RegularFile),
        libc::S_IFIFO => Some(FileType::Fifo),
        libc::S_IFSOCK => Some(FileType::Socket),
        libc::S_IFCHR | libc::S_IFBLK => None,
        libc::S_IFDIR => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let parent = target(cx, directory, path)?;
    if is_dot(&parent.name) || exists(cx, &parent)? {
        return Err(Errno::EEXIST);
    }
    if parent.wants_directory {
        return Err(Errno::ENOENT);
    }
    writable(cx, &parent)?;
    let kind = kind.ok_or(Errno::EPERM)?;
    super::ownership::refuse_set_id(cx, mode)?;
    let mode = Mode::from_raw_mode(mode & 0o7777 & !cx.fs()?.umask);
    let host = parent.directory.host()?;
    let made = rustix::fs::mknodat(&**host, &parent.name, kind, mode, 0);
    entry_changed(cx, &parent);
    made?;
    own_new(cx, &parent)
}
