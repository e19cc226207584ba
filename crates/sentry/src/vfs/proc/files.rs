//! Open files of /proc: texts, directories, and a process's memory.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};

use super::{ProcNode, Who, process, settings};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::ptrace::sites::View;
use crate::memory::Buffer;
use crate::syscalls::Cx;
use crate::vfs::attributes::Attributes;
use crate::vfs::description::Description;
use crate::vfs::file::{Entry, File};
use crate::vfs::place::Place;

/// Bytes that one write takes: no file here wants more. Linux: PAGE_SIZE in most of fs/proc.
const MOST_WRITTEN: usize = 4096;

/// Opens a text or a directory.
pub fn open(kernel: &Kernel, tid: i32, node: ProcNode) -> Result<Arc<dyn File>> {
    let attributes = node.attributes(kernel)?;
    let place = Place::Proc(node.clone());
    if attributes.is_directory() {
        return Ok(Arc::new(Directory {
            node,
            attributes,
            place,
        }));
    }
    if let ProcNode::Entry(who, path) = &node {
        process::may_open(kernel, *who, tid, path)?;
    }
    Ok(Arc::new(Text {
        node,
        attributes,
        place,
        opener: tid,
        content: Mutex::default(),
    }))
}

/// A file whose content is made when it is read from its start. seq_file's way: one reading sees one state.
#[derive(Debug)]
struct Text {
    node: ProcNode,
    attributes: Attributes,
    place: Place,
    /// The native thread that opened it: who asks decides some contents.
    opener: i32,
    content: Mutex<Option<Result<Vec<u8>>>>,
}

impl File for Text {
    fn refresh(&self, cx: &Cx<'_>, description: &Description, at: Option<u64>) {
        let start = at.unwrap_or(*description.position());
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        if start == 0 || content.is_none() {
            let tid = if cx.kernel.tasks.contains_key(&self.opener) {
                self.opener
            } else {
                cx.tid()
            };
            *content = Some(self.node.text(cx.kernel, tid));
        }
    }

    fn content(&self, cx: &Cx<'_>) -> Option<Result<Vec<u8>>> {
        Some(self.node.text(cx.kernel, cx.tid()))
    }

    fn read(&self, description: &Description, to: &mut Buffer, at: Option<u64>) -> Result<usize> {
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match content.as_ref() {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => return Err(*error),
            None => return Err(Errno::EIO),
        };
        let mut position = description.position();
        let start = usize::try_from(at.unwrap_or(*position)).unwrap_or(usize::MAX);
        let count = to.put(bytes.get(start..).unwrap_or(b""))?;
        if at.is_none() {
            *position += count as u64;
        }
        Ok(count)
    }

    fn store(
        &self,
        cx: &mut Cx<'_>,
        description: &Description,
        from: &mut Buffer,
    ) -> Option<Result<usize>> {
        Some(from.take_vec(MOST_WRITTEN).and_then(|bytes| {
            settings::store(cx, &self.node, &bytes)?;
            *description.position() += bytes.len() as u64;
            Ok(bytes.len())
        }))
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes)
    }

    fn seek(&self, description: &Description, offset: i64, whence: i32) -> Result<u64> {
        seek(description, offset, whence)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }

    fn is_stream(&self) -> bool {
        false
    }
}

/// Linux: fs/seq_file.c seq_lseek(): there is no end to seek from.
fn seek(description: &Description, offset: i64, whence: i32) -> Result<u64> {
    let mut position = description.position();
    let new = match whence {
        libc::SEEK_SET => offset,
        libc::SEEK_CUR => offset
            .checked_add_unsigned(*position)
            .ok_or(Errno::EINVAL)?,
        _ => return Err(Errno::EINVAL),
    };
    *position = u64::try_from(new).map_err(|_| Errno::EINVAL)?;
    Ok(*position)
}

#[derive(Debug)]
struct Directory {
    node: ProcNode,
    attributes: Attributes,
    place: Place,
}

impl File for Directory {
    fn read(
        &self,
        _description: &Description,
        _to: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes)
    }

    fn seek(&self, description: &Description, offset: i64, whence: i32) -> Result<u64> {
        seek(description, offset, whence)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }

    fn entries(
        &self,
        cx: &mut Cx<'_>,
        description: &Description,
        room: usize,
    ) -> Result<Vec<Entry>> {
        let listed = self.node.list(cx.kernel, cx.tid())?;
        let mut position = description.position();
        let dots = [(1, &b"."[..]), (2, b"..")].map(|(next, name)| Entry {
            ino: self.attributes.ino,
            next,
            kind: libc::DT_DIR,
            name: name.to_vec(),
        });
        let named = listed.into_iter().map(|entry| Entry {
            ino: entry.node.inode(),
            next: entry.cookie as i64 + 3,
            kind: entry.kind,
            name: entry.name.into_bytes(),
        });
        let mut entries = Vec::new();
        let mut used = 0;
        for entry in dots.into_iter().chain(named) {
            if entry.next.cast_unsigned() <= *position {
                continue;
            }
            used += (entry.name.len() + 27) & !7;
            // The first that does not fit is kept if there is nothing else: then the caller's buffer is too small for any.
            if used > room && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        *position = entries
            .last()
            .map_or(*position, |last| last.next.cast_unsigned());
        Ok(entries)
    }

    fn is_stream(&self) -> bool {
        false
    }
}

/// /proc/PID/mem and pagemap: the host's own. Writes to the first pass read-only pages as a debugger's do; the second tells no page's place, since the sentry has
/// no capability for that. It stays with the memory that it was opened for.
#[derive(Debug)]
pub struct MemoryFile {
    host: OwnedFd,
    /// The native thread whose memory it is; `None`: it is no memory (pagemap).
    of: Option<i32>,
    /// As of the last call.
    view: Mutex<View>,
    attributes: Attributes,
    place: Place,
}

impl MemoryFile {
    pub fn open(
        kernel: &Kernel,
        (who, name): (Who, &str),
        tid: i32,
        node: ProcNode,
        writes: bool,
    ) -> Result<Self> {
        process::may_trace(kernel, who, tid)?;
        let attributes = node.attributes(kernel)?;
        let native = process::host_tid(kernel, who)?;
        let flags = if writes { OFlags::RDWR } else { OFlags::RDONLY };
        let path = format!("{native}/{name}");
        let host = crate::host::openat(
            &kernel.host_proc,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self {
            host,
            of: (name == "mem").then_some(native),
            view: Mutex::default(),
            attributes,
            place: Place::Proc(node),
        })
    }
}

const CHUNK: usize = 64 << 10;

impl MemoryFile {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of a range is there: of a file that is no memory, all.
    fn shown(&self, view: &View, start: u64, len: usize) -> usize {
        self.of.map_or(len, |_| view.shown(start, len))
    }
}

impl File for MemoryFile {
    fn refresh(&self, cx: &Cx<'_>, _description: &Description, _at: Option<u64>) {
        if let Some(tid) = self.of {
            *self.view() = cx.kernel.memory_view(tid);
        }
    }

    fn read(&self, description: &Description, to: &mut Buffer, at: Option<u64>) -> Result<usize> {
        let view = self.view();
        let mut position = description.position();
        let start = at.unwrap_or(*position);
        let mut done = 0;
        let mut chunk = vec![0; to.remaining().min(CHUNK)];
        while to.remaining() > 0 {
            let len = to.remaining().min(chunk.len());
            match crate::host::pread(
                &self.host,
                &mut chunk[..len],
                start.wrapping_add(done as u64),
            ) {
                Ok(0) => break,
                Ok(count) => {
                    let from = start.wrapping_add(done as u64);
                    let shown = self.shown(&view, from, count);
                    view.show_sites(from, &mut chunk[..shown]);
                    if shown == 0 && done == 0 {
                        return Err(Errno::EIO);
                    }
                    done += to.put(&chunk[..shown])?;
                    if shown < count {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        if at.is_none() {
            *position = start.wrapping_add(done as u64);
        }
        Ok(done)
    }

    fn before_write(&self, cx: &mut Cx<'_>) -> Result<()> {
        // Which sites it writes to is not known yet; most that is written to a program's memory is a debugger's breakpoints.
        if let Some(tid) = self.of {
            cx.kernel.restore_sites(tid, 0, u64::MAX);
            *self.view() = cx.kernel.memory_view(tid);
        }
        Ok(())
    }

    fn write(
        &self,
        description: &Description,
        from: &mut Buffer,
        at: Option<u64>,
    ) -> Result<usize> {
        let mut position = description.position();
        let start = at.unwrap_or(*position);
        let mut done = 0;
        while from.remaining() > 0 {
            let to = start.wrapping_add(done as u64);
            let room = CHUNK.min(from.remaining());
            let shown = self.shown(&self.view(), to, room);
            if shown == 0 && done == 0 {
                return Err(Errno::EIO);
            }
            let bytes = from.take_vec(shown)?;
            match crate::host::pwrite(&self.host, &bytes, to) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        if at.is_none() {
            *position = start.wrapping_add(done as u64);
        }
        Ok(done)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes)
    }

    fn seek(&self, description: &Description, offset: i64, whence: i32) -> Result<u64> {
        // Linux: fs/proc/base.c mem_lseek(): any address, negative ones too.
        let mut position = description.position();
        *position = match whence {
            libc::SEEK_SET => offset.cast_unsigned(),
            libc::SEEK_CUR => position.wrapping_add_signed(offset),
            _ => return Err(Errno::EINVAL),
        };
        Ok(*position)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }

    fn is_stream(&self) -> bool {
        false
    }
}
