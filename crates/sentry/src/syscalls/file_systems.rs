//! File systems as a whole, and what has to reach the disk: statfs(2), sync(2), fsync(2).

use std::os::fd::AsFd;

use rustix::fs::{StatFs, StatVfsMountFlags};

use super::arguments::Flags;
use super::{Cx, DONE, SysResult};
use crate::errno::{Errno, Result};
use crate::memory::{Address, word};
use crate::vfs::file::File;
use crate::vfs::place::Place;
use crate::vfs::proc::ProcNode;

const PROC: u64 = 0x9FA0;
const SYSFS: u64 = 0x6265_6572;
const CGROUP2: u64 = 0x6367_7270;
const PIPEFS: u64 = 0x5049_5045;
const SOCKFS: u64 = 0x534F_434B;
const ANON_INODE: u64 = 0x0904_1934;
const NSFS: u64 = 0x6E73_6673;
/// ST_VALID | ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_RELATIME, and ST_RDONLY.
const FLAGS: u64 = 0x20 | 2 | 4 | 8 | 0x1000;
const READ_ONLY: u64 = 1;

pub fn statfs(cx: &mut Cx<'_>, path: Address, buf: Address) -> SysResult {
    let path = cx.memory().read_path(path)?;
    let place = cx.resolve(libc::AT_FDCWD, &path, true)?;
    let bytes = of_place(&place)?;
    cx.memory().write(buf, &bytes)?;
    DONE
}

pub fn fstatfs(cx: &mut Cx<'_>, fd: i32, buf: Address) -> SysResult {
    let bytes = of_file(&*cx.description(fd)?.file)?;
    cx.memory().write(buf, &bytes)?;
    DONE
}

/// Whether the file lies on a file system of control groups, version 2.
pub fn is_cgroup2(file: &dyn File) -> bool {
    of_file(file).is_ok_and(|bytes| word(&bytes, 0) == CGROUP2)
}

fn of_file(file: &dyn File) -> Result<Vec<u8>> {
    match (file.host(), file.place()) {
        (_, Some(place)) => of_place(place),
        (Some(host), None) => of_host(host),
        (None, None) => {
            let kind = match file.attributes()?.kind() {
                libc::S_IFIFO => PIPEFS,
                libc::S_IFSOCK => SOCKFS,
                _ => ANON_INODE,
            };
            Ok(without_blocks(kind, 0x20))
        }
    }
}

fn of_place(place: &Place) -> Result<Vec<u8>> {
    match place {
        Place::Host(fd) => of_host(&**fd),
        Place::Proc(ProcNode::Sys(path)) if path.starts_with("fs/cgroup") => {
            Ok(without_blocks(CGROUP2, FLAGS | READ_ONLY))
        }
        Place::Proc(ProcNode::Sys(_)) => Ok(without_blocks(SYSFS, FLAGS | READ_ONLY)),
        Place::Proc(ProcNode::Namespace(_)) => Ok(without_blocks(NSFS, 0x20)),
        Place::Proc(ProcNode::Opened(opened)) => match opened.0.file.host() {
            Some(host) => of_host(host),
            None => Ok(without_blocks(PIPEFS, 0x20)),
        },
        Place::Proc(_) => Ok(without_blocks(PROC, FLAGS)),
        Place::Pts(_) => Ok(without_blocks(
            crate::vfs::tty::devpts::DEVPTS_MAGIC as u64,
            FLAGS,
        )),
    }
}

fn of_host(fd: impl AsFd) -> Result<Vec<u8>> {
    let raw: StatFs = rustix::fs::fstatfs(&fd)?;
    let flags: StatVfsMountFlags = rustix::fs::fstatvfs(&fd)?.f_flag;
    let id = rustix::fs::fstatvfs(&fd)?.f_fsid;
    Ok(layout([
        raw.f_type as u64,
        raw.f_bsize as u64,
        raw.f_blocks,
        raw.f_bfree,
        raw.f_bavail,
        raw.f_files,
        raw.f_ffree,
        id,
        raw.f_namelen as u64,
        raw.f_frsize as u64,
        flags.bits() | 0x20,
    ]))
}

/// Linux: simple_statfs().
fn without_blocks(kind: u64, flags: u64) -> Vec<u8> {
    layout([kind, 4096, 0, 0, 0, 0, 0, 0, 255, 4096, flags])
}

/// `struct statfs` of x86-64, 120 bytes.
fn layout(words: [u64; 11]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(120, 0);
    bytes
}

/// Everything that a sandbox can have written is in its own mounts: the root's file system is synchronised, not the whole host.
pub fn sync(cx: &mut Cx<'_>) -> SysResult {
    if let Place::Host(root) = &cx.fs()?.root
        && let Ok(readable) = cx.kernel.reopen(root, rustix::fs::OFlags::RDONLY)
    {
        let _ = rustix::fs::syncfs(readable);
    }
    DONE
}

pub fn syncfs(cx: &mut Cx<'_>, fd: i32) -> SysResult {
    let description = cx.open_description(fd)?;
    cx.kernel.offload(cx.call, description, |description| {
        if let Some(host) = description.file.host() {
            rustix::fs::syncfs(host)?;
        }
        Ok(0)
    })
}

pub fn fsync(cx: &mut Cx<'_>, fd: i32) -> SysResult {
    let description = cx.open_description(fd)?;
    synchronised(&*description.file)?;
    cx.kernel.offload(cx.call, description, |description| {
        rustix::fs::fsync(synchronised(&*description.file)?)?;
        Ok(0)
    })
}

pub fn fdatasync(cx: &mut Cx<'_>, fd: i32) -> SysResult {
    let description = cx.open_description(fd)?;
    synchronised(&*description.file)?;
    cx.kernel.offload(cx.call, description, |description| {
        rustix::fs::fsync(synchronised(&*description.file)?)?;
        Ok(0)
    })
}

/// Pipes, sockets, devices and /proc's files have nothing to synchronise.
pub fn synchronised(file: &dyn File) -> Result<std::os::fd::BorrowedFd<'_>> {
    let kind = file.kind()?;
    let host = file.host().ok_or(Errno::EINVAL)?;
    if [libc::S_IFREG, libc::S_IFDIR, libc::S_IFBLK].contains(&kind) {
        Ok(host)
    } else {
        Err(Errno::EINVAL)
    }
}

/// As much as is asked for and more: the file's data. sync_file_range(2) promises less than fdatasync(2).
pub fn sync_file_range(cx: &mut Cx<'_>, fd: i32, offset: i64, len: i64, flags: Flags) -> SysResult {
    let file = cx.open_description(fd)?.file.clone();
    flags.only(7)?;
    if offset < 0 || len < 0 || offset.checked_add(len).is_none() {
        return Err(Errno::EINVAL);
    }
    let kind = file.attributes()?.kind();
    if ![libc::S_IFREG, libc::S_IFBLK, libc::S_IFDIR, libc::S_IFLNK].contains(&kind) {
        return Err(Errno::ESPIPE);
    }
    if flags.0 != 0
        && let Some(host) = file.host()
    {
        rustix::fs::fsync(host)?;
    }
    DONE
}
