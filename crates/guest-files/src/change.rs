//! What changes a tree: names and attributes. What is made belongs to whoever asked in the guest, or to its directory's group where that says so.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps,
    Uid, XattrFlags, chmodat, chownat, fgetxattr, flistxattr, fremovexattr, fsetxattr, ftruncate,
    linkat, mkdirat, mknodat, openat2, readlinkat, renameat_with, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::nodes::{locate, stat_of};
use crate::server::Server;
use crate::wire::{Answer, Fields, Request, decode_device};

/// FATTR_* of linux/fuse.h
const MODE: u32 = 1;
const UID: u32 = 2;
const GID: u32 = 4;
const SIZE: u32 = 8;
const ATIME: u32 = 16;
const MTIME: u32 = 32;
const HANDLE: u32 = 64;
const ATIME_NOW: u32 = 128;
const MTIME_NOW: u32 = 256;
const SET_IDS: u32 = 0o6000;
const GROUP_OF_DIRECTORY: u32 = 0o2000;
const MAX_XATTR: usize = 64 << 10;

impl Server {
    /// struct fuse_setattr_in
    pub(crate) fn set_attributes(
        &mut self,
        node: u64,
        fields: &mut Fields<'_>,
    ) -> Result<Answer, Errno> {
        let valid = fields.u32()?;
        fields.u32()?;
        let (handle, size) = (fields.u64()?, fields.u64()?);
        fields.u64()?;
        let (atime, mtime, _) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (atime_nsec, mtime_nsec, _) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let mode = fields.u32()?;
        fields.u32()?;
        let (uid, gid) = (fields.u32()?, fields.u32()?);
        let fd = self.nodes.fd(node)?;
        if valid & SIZE != 0 {
            if valid & HANDLE != 0 {
                ftruncate(self.handle(handle)?, size)?;
            } else {
                ftruncate(self.open_node(node, OFlags::WRONLY)?, size)?;
            }
        }
        let (uid, gid) = (
            (valid & UID != 0).then(|| Uid::from_raw(uid)),
            (valid & GID != 0).then(|| Gid::from_raw(gid)),
        );
        if uid.is_some() || gid.is_some() {
            chownat(&*fd, "", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        let name = Self::by_number(&fd)?;
        if valid & MODE != 0 {
            if self.nodes.kind(node)? == FileType::Symlink {
                return Err(Errno::OPNOTSUPP);
            }
            chmodat(
                self.descriptors(),
                &name,
                Mode::from_raw_mode(mode),
                AtFlags::empty(),
            )?;
        }
        if valid & (ATIME | MTIME) != 0 {
            let times = Timestamps {
                last_access: time(valid, ATIME, ATIME_NOW, atime, atime_nsec)?,
                last_modification: time(valid, MTIME, MTIME_NOW, mtime, mtime_nsec)?,
            };
            utimensat(self.descriptors(), &name, &times, AtFlags::empty())?;
        }
        self.attributes(node)
    }

    pub(crate) fn read_link(&mut self, node: u64) -> Result<Answer, Errno> {
        let target = readlinkat(&*self.nodes.fd(node)?, "", Vec::new())?;
        Ok(Answer(target.into_bytes()))
    }

    pub(crate) fn make_link(
        &mut self,
        request: Request,
        fields: &mut Fields<'_>,
    ) -> Result<Answer, Errno> {
        let (name, target) = (fields.name()?, fields.text()?);
        symlinkat(target, &*self.nodes.fd(request.node)?, name)?;
        self.made(request, name, 0)
    }

    pub(crate) fn make_node(
        &mut self,
        request: Request,
        fields: &mut Fields<'_>,
    ) -> Result<Answer, Errno> {
        let (mode, device) = (fields.u32()?, fields.u32()?);
        fields.u64()?;
        let name = fields.name()?;
        let kind = FileType::from_raw_mode(mode);
        let device = match kind {
            FileType::CharacterDevice | FileType::BlockDevice => decode_device(device),
            _ => 0,
        };
        let directory = self.nodes.fd(request.node)?;
        mknodat(&*directory, name, kind, Mode::from_raw_mode(mode), device)?;
        self.made(request, name, mode)
    }

    pub(crate) fn make_directory(
        &mut self,
        request: Request,
        fields: &mut Fields<'_>,
    ) -> Result<Answer, Errno> {
        let mode = fields.u32()?;
        fields.u32()?;
        let name = fields.name()?;
        mkdirat(
            &*self.nodes.fd(request.node)?,
            name,
            Mode::from_raw_mode(mode),
        )?;
        self.made(request, name, 0)
    }

    /// struct fuse_create_in: makes a file and opens it.
    pub(crate) fn create(
        &mut self,
        request: Request,
        fields: &mut Fields<'_>,
    ) -> Result<Answer, Errno> {
        let (flags, mode) = (fields.u32()?, fields.u32()?);
        fields.u64()?;
        let name = fields.name()?;
        let wanted = Self::open_flags(flags);
        let directory = self.nodes.fd(request.node)?;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let make = wanted | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let permissions = Mode::from_raw_mode(mode & 0o7777);
        let (fd, mut answer) = match openat2(&*directory, name, make, permissions, resolve) {
            Ok(fd) => (fd, self.made(request, name, mode)?),
            // Somebody on the host was sooner, which only O_EXCL minds.
            Err(Errno::EXIST) if OFlags::from_bits_retain(flags).contains(OFlags::EXCL) => {
                return Err(Errno::EXIST);
            }
            Err(Errno::EXIST) => {
                let (node, stat) = self.nodes.look_up(request.node, name)?;
                let fd = match self.open_node(node, wanted) {
                    Ok(fd) => fd,
                    Err(errno) => {
                        self.nodes.forget(node, 1);
                        return Err(errno);
                    }
                };
                let mut answer = Answer::default();
                answer.entry(node, &stat);
                (fd, answer)
            }
            Err(errno) => return Err(errno),
        };
        let handle = self.keep_handle(fd);
        answer.u64(handle).u64(0);
        Ok(answer)
    }

    /// Gives what was just made to whom it belongs, and answers with it. Without an owner it does not stay.
    fn made(&mut self, request: Request, name: &OsStr, mode: u32) -> Result<Answer, Errno> {
        let directory = self.nodes.fd(request.node)?;
        let above = stat_of(&directory)?;
        let fd = locate(&directory, name)?;
        let stat = stat_of(&fd)?;
        if let Err(errno) = self.give(&fd, &stat, &above, request, mode) {
            let flags = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            // Best effort: it is the error of before that is told.
            let _ = unlinkat(&*directory, name, flags);
            return Err(errno);
        }
        let (node, stat) = self.nodes.look_up(request.node, name)?;
        let mut answer = Answer::default();
        answer.entry(node, &stat);
        Ok(answer)
    }

    fn give(
        &self,
        fd: &std::os::fd::OwnedFd,
        stat: &Stat,
        above: &Stat,
        request: Request,
        mode: u32,
    ) -> Result<(), Errno> {
        let gid = if above.st_mode & GROUP_OF_DIRECTORY != 0 {
            stat.st_gid
        } else {
            request.gid
        };
        if (stat.st_uid, stat.st_gid) == (request.uid, gid) {
            return Ok(());
        }
        let (owner, group) = (Uid::from_raw(request.uid), Gid::from_raw(gid));
        chownat(fd, "", Some(owner), Some(group), AtFlags::EMPTY_PATH)?;
        // chown(2) takes these from whatever is executable.
        if mode & SET_IDS != 0 {
            chmodat(
                self.descriptors(),
                Self::by_number(fd)?,
                Mode::from_raw_mode(mode & 0o7777),
                AtFlags::empty(),
            )?;
        }
        Ok(())
    }

    pub(crate) fn remove(
        &mut self,
        parent: u64,
        fields: &mut Fields<'_>,
        is_directory: bool,
    ) -> Result<Answer, Errno> {
        let name = fields.name()?;
        let directory = self.nodes.fd(parent)?;
        let flags = if is_directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        self.nodes.before_removal(parent, name);
        unlinkat(&*directory, name, flags)
            .inspect_err(|_| self.nodes.after_failed_removal(parent, name))?;
        Ok(Answer::default())
    }

    pub(crate) fn rename(
        &mut self,
        from: u64,
        to: u64,
        flags: u32,
        fields: &mut Fields<'_>,
    ) -> Result<Answer, Errno> {
        let (old, new) = (fields.name()?, fields.name()?);
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        let (old_directory, new_directory) = (self.nodes.fd(from)?, self.nodes.fd(to)?);
        let replaces = !flags.intersects(RenameFlags::EXCHANGE | RenameFlags::NOREPLACE)
            && (from, old) != (to, new);
        if replaces {
            self.nodes.before_removal(to, new);
        }
        renameat_with(&*old_directory, old, &*new_directory, new, flags).inspect_err(|_| {
            if replaces {
                self.nodes.after_failed_removal(to, new);
            }
        })?;
        self.nodes.renamed(to, new);
        if flags.contains(RenameFlags::EXCHANGE) {
            self.nodes.renamed(from, old);
        }
        Ok(Answer::default())
    }

    pub(crate) fn link(&mut self, parent: u64, fields: &mut Fields<'_>) -> Result<Answer, Errno> {
        let (node, name) = (fields.u64()?, fields.name()?);
        let (fd, directory) = (self.nodes.fd(node)?, self.nodes.fd(parent)?);
        linkat(
            self.descriptors(),
            Self::by_number(&fd)?,
            &*directory,
            name,
            AtFlags::SYMLINK_FOLLOW,
        )?;
        let (node, stat) = self.nodes.look_up(parent, name)?;
        let mut answer = Answer::default();
        answer.entry(node, &stat);
        Ok(answer)
    }

    /// struct fuse_getxattr_in: how long it is, or what it is.
    pub(crate) fn extended(&mut self, node: u64, fields: &mut Fields<'_>) -> Result<Answer, Errno> {
        let size = fields.u64()? & u64::from(u32::MAX);
        let name = permitted(fields.text()?)?;
        let file = self.open_node(node, OFlags::RDONLY)?;
        let mut value = vec![0; MAX_XATTR];
        let count = fgetxattr(&file, name, &mut value[..])?;
        value.truncate(count);
        sized(value, size)
    }

    pub(crate) fn list_extended(
        &mut self,
        node: u64,
        fields: &mut Fields<'_>,
    ) -> Result<Answer, Errno> {
        let size = fields.u64()? & u64::from(u32::MAX);
        let file = self.open_node(node, OFlags::RDONLY)?;
        let mut names = vec![0; MAX_XATTR];
        let count = flistxattr(&file, &mut names[..])?;
        let shown: Vec<u8> = names[..count]
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| {
                permitted(OsStr::from_bytes(name.strip_suffix(b"\0").unwrap_or(name))).is_ok()
            })
            .flatten()
            .copied()
            .collect();
        sized(shown, size)
    }

    pub(crate) fn set_extended(
        &mut self,
        node: u64,
        fields: &mut Fields<'_>,
    ) -> Result<Answer, Errno> {
        let (size, flags) = (fields.u32()?, fields.u32()?);
        let name = permitted(fields.text()?)?;
        let value = fields.take(size as usize)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        let file = self.open_node(node, OFlags::RDONLY)?;
        fsetxattr(&file, name, value, flags)?;
        Ok(Answer::default())
    }

    pub(crate) fn remove_extended(
        &mut self,
        node: u64,
        fields: &mut Fields<'_>,
    ) -> Result<Answer, Errno> {
        let name = permitted(fields.text()?)?;
        let file = self.open_node(node, OFlags::RDONLY)?;
        fremovexattr(&file, name)?;
        Ok(Answer::default())
    }
}

/// The names that a guest has to do with. Others are the host's own: its labels, its overlays' marks.
fn permitted(name: &OsStr) -> Result<&OsStr, Errno> {
    let bytes = name.as_bytes();
    if bytes.starts_with(b"user.") || bytes == b"security.capability" {
        Ok(name)
    } else {
        Err(Errno::OPNOTSUPP)
    }
}

fn sized(value: Vec<u8>, size: u64) -> Result<Answer, Errno> {
    if size == 0 {
        let mut answer = Answer::default();
        answer
            .u32(u32::try_from(value.len()).unwrap_or(u32::MAX))
            .u32(0);
        return Ok(answer);
    }
    if value.len() as u64 > size {
        return Err(Errno::RANGE);
    }
    Ok(Answer(value))
}

fn time(
    valid: u32,
    given: u32,
    now: u32,
    seconds: u64,
    nanoseconds: u32,
) -> Result<Timespec, Errno> {
    let tv_nsec = if valid & now != 0 {
        rustix::fs::UTIME_NOW
    } else if valid & given == 0 {
        rustix::fs::UTIME_OMIT
    } else if nanoseconds < 1_000_000_000 {
        i64::from(nanoseconds)
    } else {
        return Err(Errno::INVAL);
    };
    let tv_sec = seconds.cast_signed();
    Ok(Timespec { tv_sec, tv_nsec })
}
