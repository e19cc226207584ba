//! The loop: a request, its answer. One at a time: what the guest waits for is mostly the way here and back.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstatvfs, openat};
use rustix::io::Errno;

use crate::nodes::{Nodes, stat_of};
use crate::wire::{ANSWER, Answer, Fields, HEADER, Request, opcode};

/// Of one write.
pub const MAX_WRITE: usize = 128 << 10;
/// A write with its records.
pub const MAX_REQUEST: usize = MAX_WRITE + 4096;
/// What this speaks: linux/fuse.h of Linux 6.1, of which nothing newer is used.
const MAJOR: u32 = 7;
const MINOR: u32 = 37;
/// FUSE_INIT's flags.
const ASYNC_READ: u32 = 1;
const ATOMIC_O_TRUNC: u32 = 1 << 3;
const BIG_WRITES: u32 = 1 << 5;
const AUTO_INVAL_DATA: u32 = 1 << 12;
const DO_READDIRPLUS: u32 = 1 << 13;
const READDIRPLUS_AUTO: u32 = 1 << 14;
const PARALLEL_DIROPS: u32 = 1 << 18;
const MAX_PAGES: u32 = 1 << 22;
const CACHE_SYMLINKS: u32 = 1 << 23;
const WANTED: u32 = ASYNC_READ
    | ATOMIC_O_TRUNC
    | BIG_WRITES
    | AUTO_INVAL_DATA
    | DO_READDIRPLUS
    | READDIRPLUS_AUTO
    | PARALLEL_DIROPS
    | MAX_PAGES
    | CACHE_SYMLINKS;

pub(crate) struct Server {
    pub(crate) nodes: Nodes,
    /// This process's descriptors by number, to open a place for more: Landlock and the mounts say what of it may be had.
    descriptors: OwnedFd,
    pub(crate) handles: HashMap<u64, OwnedFd>,
    next_handle: u64,
}

/// Serves the directory until the stream ends. Wants `/proc`.
///
/// # Errors
/// The stream's end is none. A guest that does not speak the protocol is `EPROTO`.
pub fn serve(stream: &OwnedFd, directory: &Path) -> rustix::io::Result<()> {
    let mut server = Server::new(directory)?;
    let mut received = Vec::with_capacity(2 * MAX_REQUEST);
    loop {
        let old = received.len();
        received.resize(old + MAX_REQUEST, 0);
        let count = match rustix::io::read(stream, &mut received[old..]) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno),
        };
        received.truncate(old + count);
        let mut start = 0;
        while let Some(message) = whole(&received[start..])? {
            if let Some(answer) = server.answer(message)? {
                write_all(stream, &answer)?;
            }
            start += message.len();
        }
        received.drain(..start);
    }
}

/// The first message, if all of it has come.
fn whole(bytes: &[u8]) -> Result<Option<&[u8]>, Errno> {
    let Some((head, _)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*head) as usize;
    if !(HEADER..=MAX_REQUEST).contains(&length) {
        return Err(Errno::PROTO);
    }
    Ok(bytes.get(..length))
}

fn write_all(stream: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(stream, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

impl Server {
    pub(crate) fn new(directory: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            nodes: Nodes::new(openat(CWD, directory, flags, Mode::empty())?),
            descriptors: openat(CWD, "/proc/self/fd", flags, Mode::empty())?,
            handles: HashMap::new(),
            next_handle: 0,
        })
    }

    /// The answer to one whole request; some have none.
    pub(crate) fn answer(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        let (request, fields) = Request::parse(message)?;
        let (error, body) = match self.dispatch(request, fields) {
            Ok(None) => return Ok(None),
            Ok(Some(answer)) => (0, answer.0),
            Err(errno) => (-errno.raw_os_error(), Vec::new()),
        };
        let mut answer = Answer::default();
        let length = u32::try_from(ANSWER + body.len()).map_err(|_| Errno::PROTO)?;
        answer.u32(length);
        answer.0.extend_from_slice(&error.to_le_bytes());
        answer.u64(request.unique);
        answer.0.extend_from_slice(&body);
        Ok(Some(answer.0))
    }

    fn dispatch(
        &mut self,
        request: Request,
        mut fields: Fields<'_>,
    ) -> Result<Option<Answer>, Errno> {
        let fields = &mut fields;
        let answer = match request.opcode {
            opcode::FORGET => {
                self.nodes.forget(request.node, fields.u64()?);
                return Ok(None);
            }
            opcode::BATCH_FORGET => {
                let count = fields.u64()? & u64::from(u32::MAX);
                for _ in 0..count {
                    let (node, lookups) = (fields.u64()?, fields.u64()?);
                    self.nodes.forget(node, lookups);
                }
                return Ok(None);
            }
            // What it would end has been answered when it is read.
            opcode::INTERRUPT => return Ok(None),
            opcode::INIT => initialize(fields)?,
            opcode::DESTROY => Answer::default(),
            opcode::LOOKUP => self.look_up(request.node, fields.name()?)?,
            opcode::GETATTR => self.attributes(request.node)?,
            opcode::SETATTR => self.set_attributes(request.node, fields)?,
            opcode::READLINK => self.read_link(request.node)?,
            opcode::SYMLINK => self.make_link(request, fields)?,
            opcode::MKNOD => self.make_node(request, fields)?,
            opcode::MKDIR => self.make_directory(request, fields)?,
            opcode::UNLINK => self.remove(request.node, fields, false)?,
            opcode::RMDIR => self.remove(request.node, fields, true)?,
            opcode::RENAME => {
                let directory = fields.u64()?;
                self.rename(request.node, directory, 0, fields)?
            }
            opcode::RENAME2 => {
                let (directory, flags) = (fields.u64()?, fields.u32()?);
                fields.u32()?;
                self.rename(request.node, directory, flags, fields)?
            }
            opcode::LINK => self.link(request.node, fields)?,
            opcode::OPEN => self.open(request.node, fields)?,
            opcode::CREATE => self.create(request, fields)?,
            opcode::READ => self.read(fields)?,
            opcode::WRITE => self.write(fields)?,
            opcode::FSYNC | opcode::FSYNCDIR => self.synchronize(fields)?,
            opcode::FALLOCATE => self.allocate(fields)?,
            opcode::LSEEK => self.seek(fields)?,
            opcode::RELEASE | opcode::RELEASEDIR => {
                self.handles.remove(&fields.u64()?);
                Answer::default()
            }
            opcode::OPENDIR => self.open_directory(request.node)?,
            opcode::READDIR => self.read_directory(request.node, fields, false)?,
            opcode::READDIRPLUS => self.read_directory(request.node, fields, true)?,
            opcode::STATFS => self.statistics(request.node)?,
            opcode::GETXATTR => self.extended(request.node, fields)?,
            opcode::LISTXATTR => self.list_extended(request.node, fields)?,
            opcode::SETXATTR => self.set_extended(request.node, fields)?,
            opcode::REMOVEXATTR => self.remove_extended(request.node, fields)?,
            // The guest's kernel does it itself, or does without.
            _ => return Err(Errno::NOSYS),
        };
        Ok(Some(answer))
    }

    fn look_up(&mut self, parent: u64, name: &OsStr) -> Result<Answer, Errno> {
        let (node, stat) = self.nodes.look_up(parent, name)?;
        let mut answer = Answer::default();
        answer.entry(node, &stat);
        Ok(answer)
    }

    pub(crate) fn attributes(&mut self, node: u64) -> Result<Answer, Errno> {
        let stat = stat_of(&*self.nodes.fd(node)?)?;
        let mut answer = Answer::default();
        answer.attribute_answer(&stat);
        Ok(answer)
    }

    fn statistics(&mut self, node: u64) -> Result<Answer, Errno> {
        let found = fstatvfs(&*self.nodes.fd(node)?)?;
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let mut answer = Answer::default();
        answer
            .u64(found.f_blocks)
            .u64(found.f_bfree)
            .u64(found.f_bavail)
            .u64(found.f_files)
            .u64(found.f_ffree)
            .u32(small(found.f_bsize))
            .u32(small(found.f_namemax))
            .u32(small(found.f_frsize))
            .zeros(28);
        Ok(answer)
    }

    /// A place's name among this process's descriptors.
    pub(crate) fn by_number(fd: &OwnedFd) -> Result<CString, Errno> {
        CString::new(fd.as_raw_fd().to_string()).map_err(|_| Errno::INVAL)
    }

    pub(crate) fn descriptors(&self) -> &OwnedFd {
        &self.descriptors
    }

    /// Opens a node for more than its place: a regular file or a directory, nothing else of the host's.
    pub(crate) fn open_node(&mut self, node: u64, flags: OFlags) -> Result<OwnedFd, Errno> {
        if !matches!(
            self.nodes.kind(node)?,
            FileType::RegularFile | FileType::Directory
        ) {
            return Err(Errno::ACCESS);
        }
        let fd = self.nodes.fd(node)?;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        openat(
            &self.descriptors,
            Self::by_number(&fd)?,
            flags,
            Mode::empty(),
        )
    }

    pub(crate) fn keep_handle(&mut self, fd: OwnedFd) -> u64 {
        self.next_handle += 1;
        self.handles.insert(self.next_handle, fd);
        self.next_handle
    }

    pub(crate) fn handle(&self, handle: u64) -> Result<&OwnedFd, Errno> {
        self.handles.get(&handle).ok_or(Errno::BADF)
    }
}

/// struct fuse_init_in, and what of the guest's wishes is granted.
fn initialize(fields: &mut Fields<'_>) -> Result<Answer, Errno> {
    let (major, minor) = (fields.u32()?, fields.u32()?);
    let (read_ahead, flags) = (fields.u32()?, fields.u32()?);
    let mut answer = Answer::default();
    answer.u32(MAJOR).u32(minor.min(MINOR));
    if major != MAJOR {
        // It answers with the version that both speak, if it has it.
        answer.zeros(56);
        return Ok(answer);
    }
    let most = u32::try_from(MAX_WRITE).unwrap_or(0);
    let pages = u16::try_from(MAX_WRITE / 4096).unwrap_or(1);
    answer
        .u32(read_ahead.min(most))
        .u32(flags & WANTED)
        .u16(16)
        .u16(12)
        .u32(most)
        .u32(1)
        .u16(pages)
        .u16(0)
        .zeros(32);
    Ok(answer)
}
