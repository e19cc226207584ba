//! The protocol's records: numbers in the host's order, which is the guest's, at the places that linux/fuse.h gives them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::Stat;
use rustix::io::Errno;

pub(crate) const HEADER: usize = 40;
pub(crate) const ANSWER: usize = 16;
pub(crate) const ENTRY: usize = 128;
/// How long the guest's kernel may believe a name and attributes without asking: what virtio-fs does by default. The host may change them meanwhile.
const VALID_S: u64 = 1;

/// A request's fields, taken in order.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Errno> {
        let bytes = self.take(4)?.try_into().map_err(|_| Errno::INVAL)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Errno> {
        let bytes = self.take(8)?.try_into().map_err(|_| Errno::INVAL)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Text up to its zero.
    pub(crate) fn text(&mut self) -> Result<&'a OsStr, Errno> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or(Errno::INVAL)?)?;
        self.take(1)?;
        Ok(OsStr::from_bytes(text))
    }

    /// A name in a directory: one component, and not the directory itself or the one above.
    pub(crate) fn name(&mut self) -> Result<&'a OsStr, Errno> {
        let name = self.text()?;
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.contains(&b'/') || bytes == b"." || bytes == b".." {
            return Err(Errno::INVAL);
        }
        if bytes.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(name)
    }
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) opcode: u32,
    pub(crate) unique: u64,
    pub(crate) node: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Request {
    /// The header, and what follows it.
    pub(crate) fn parse(message: &[u8]) -> Result<(Self, Fields<'_>), Errno> {
        let mut fields = Fields(message);
        fields.u32()?;
        let request = Self {
            opcode: fields.u32()?,
            unique: fields.u64()?,
            node: fields.u64()?,
            uid: fields.u32()?,
            gid: fields.u32()?,
        };
        fields.take(8)?;
        Ok((request, fields))
    }
}

/// An answer's fields, put in order.
#[derive(Default)]
pub(crate) struct Answer(pub(crate) Vec<u8>);

impl Answer {
    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// struct fuse_attr
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "sizes and times that the kernel gave; the record's fields are narrower than stat's by its definition"
    )]
    fn attributes(&mut self, stat: &Stat) -> &mut Self {
        self.u64(stat.st_ino)
            .u64(stat.st_size as u64)
            .u64(stat.st_blocks as u64)
            .u64(stat.st_atime as u64)
            .u64(stat.st_mtime as u64)
            .u64(stat.st_ctime as u64)
            .u32(stat.st_atime_nsec as u32)
            .u32(stat.st_mtime_nsec as u32)
            .u32(stat.st_ctime_nsec as u32)
            .u32(stat.st_mode)
            .u32(u32::try_from(stat.st_nlink).unwrap_or(u32::MAX))
            .u32(stat.st_uid)
            .u32(stat.st_gid)
            .u32(encode_device(stat.st_rdev))
            .u32(stat.st_blksize as u32)
            .u32(0)
    }

    /// struct fuse_entry_out
    pub(crate) fn entry(&mut self, node: u64, stat: &Stat) -> &mut Self {
        self.u64(node)
            .u64(0)
            .u64(VALID_S)
            .u64(VALID_S)
            .u64(0)
            .attributes(stat)
    }

    /// struct fuse_attr_out
    pub(crate) fn attribute_answer(&mut self, stat: &Stat) -> &mut Self {
        self.u64(VALID_S).u64(0).attributes(stat)
    }
}

/// new_encode_dev() of linux/kdev_t.h
fn encode_device(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}

/// new_decode_dev()
pub(crate) fn decode_device(device: u32) -> u64 {
    let (major, minor) = (
        (device & 0xfff00) >> 8,
        (device & 0xff) | (device >> 12 & 0xfff00),
    );
    rustix::fs::makedev(major, minor)
}

pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
}
