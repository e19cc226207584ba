//! Descriptors: closing, copying, flags, pipes.

use std::sync::{Arc, Weak};

use super::arguments::Flags;
use super::file_settings::{self, FIOGETOWN, FIOSETOWN, SIOCGPGRP, SIOCSPGRP};
use super::{Cx, DONE, Outcome, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::task::Restart;
use crate::memory::Address;
use crate::vfs::attributes::Attributes;
use crate::vfs::description::{Description, O_ACCMODE};
use crate::vfs::pipe::{Pipe, PipeEnd};
use crate::vfs::place::Place;

const FIOCLEX: u32 = 0x5451;
const FIONCLEX: u32 = 0x5450;
const FIONBIO: u32 = 0x5421;
const FIOASYNC: u32 = 0x5452;

pub fn close(cx: &mut Cx<'_>, fd: i32) -> SysResult {
    if cx.kernel.is_of_plan(&cx.call) {
        // The stub's own.
        return Ok(Outcome::Native);
    }
    let (description, pid) = {
        let task = cx.task()?;
        let description = task.files.lock().remove(fd)?;
        (description, task.pid)
    };
    cx.kernel.descriptor_closed(pid, fd, &description);
    DONE
}

pub fn dup(cx: &mut Cx<'_>, fd: i32) -> SysResult {
    let description = cx.description(fd)?;
    value(cx.add_description(description, false)?)
}

pub fn dup2(cx: &mut Cx<'_>, from: i32, to: i32) -> SysResult {
    if from == to {
        cx.description(from)?;
        return value(to);
    }
    copy_to(cx, from, to, false)
}

pub fn dup3(cx: &mut Cx<'_>, from: i32, to: i32, flags: Flags) -> SysResult {
    flags.only(libc::O_CLOEXEC)?;
    if from == to {
        return Err(Errno::EINVAL);
    }
    copy_to(cx, from, to, flags.has(libc::O_CLOEXEC))
}

fn copy_to(cx: &mut Cx<'_>, from: i32, to: i32, close_on_exec: bool) -> SysResult {
    let description = cx.description(from)?;
    let limit = cx.fd_limit()?;
    let task = cx.task()?;
    let old = task
        .files
        .lock()
        .replace(to, description, close_on_exec, limit)?;
    let pid = task.pid;
    if let Some(old) = old {
        cx.kernel.descriptor_closed(pid, to, &old);
    }
    value(to)
}

pub fn fcntl(cx: &mut Cx<'_>, fd: i32, command: i32, argument: u64) -> SysResult {
    let description = cx.description(fd)?;
    let files = cx.task()?.files.clone();
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            let limit = cx.fd_limit()?;
            let lowest = argument as i32;
            if lowest < 0 || lowest as u64 >= limit {
                return Err(Errno::EINVAL);
            }
            value(
                files
                    .lock()
                    .add(description, command == libc::F_DUPFD_CLOEXEC, lowest, limit)?,
            )
        }
        libc::F_GETFD => value(i32::from(files.lock().close_on_exec(fd)?)),
        libc::F_SETFD => {
            files.lock().set_close_on_exec(fd, argument & 1 == 1)?;
            DONE
        }
        libc::F_GETFL => value(description.flags()),
        _ if description.is_path() => Err(Errno::EBADF),
        libc::F_SETFL => {
            description.file.set_flags(argument as u32)?;
            let on = argument as u32 & libc::O_ASYNC.cast_unsigned() != 0;
            match file_settings::set_async(cx, &description, fd, on) {
                Ok(()) | Err(Errno::ENOTTY) => {}
                Err(error) => return Err(error),
            }
            description.change_flags(argument as u32);
            DONE
        }
        libc::F_GETPIPE_SZ => value(pipe_of(&description)?.capacity()),
        libc::F_SETPIPE_SZ => value(pipe_of(&description)?.set_capacity(argument as u32 as usize)?),
        libc::F_ADD_SEALS | libc::F_GET_SEALS => {
            super::memfd::seals(&description, command, argument)
        }
        _ => super::locks::fcntl(cx, &description, command, argument),
    }
}

fn pipe_of(description: &Arc<Description>) -> Result<Arc<Pipe>> {
    description
        .file
        .downcast_ref::<PipeEnd>()
        .map(|end| end.pipe.clone())
        .ok_or(Errno::EBADF)
}

pub fn ioctl(cx: &mut Cx<'_>, fd: i32, request: u32, argument: Address) -> SysResult {
    let description = cx.open_description(fd)?;
    match request {
        FIOCLEX | FIONCLEX => {
            cx.task()?
                .files
                .lock()
                .set_close_on_exec(fd, request == FIOCLEX)?;
            DONE
        }
        FIONBIO => {
            let on = cx.memory().read_u32(argument)? != 0;
            let nonblock = libc::O_NONBLOCK.cast_unsigned();
            let flags = description.flags() & !nonblock | if on { nonblock } else { 0 };
            description.file.set_flags(flags)?;
            description.change_flags(flags);
            DONE
        }
        FIOASYNC => {
            let on = cx.memory().read_u32(argument)? != 0;
            file_settings::set_async(cx, &description, fd, on)?;
            DONE
        }
        FIOSETOWN | SIOCSPGRP | FIOGETOWN | SIOCGPGRP if description.file.socket().is_some() => {
            file_settings::socket_owner(cx, &description, request, argument)?;
            DONE
        }
        _ => value(
            description
                .file
                .clone()
                .ioctl(cx, &description, request, argument)?,
        ),
    }
}

pub fn pipe(cx: &mut Cx<'_>, fds: Address) -> SysResult {
    pipe2(cx, fds, Flags(0))
}

pub fn pipe2(cx: &mut Cx<'_>, fds: Address, flags: Flags) -> SysResult {
    flags.only(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_DIRECT)?;
    let ino = cx.kernel.new_inode();
    let who = cx.task()?.credentials.clone();
    let pipe = Pipe::new(Attributes {
        dev: 14,
        ino,
        mode: libc::S_IFIFO | 0o600,
        nlink: 1,
        uid: who.fsuid,
        gid: who.fsgid,
        blksize: 4096,
        ..Attributes::default()
    });
    let kept = flags.0 & (libc::O_NONBLOCK | libc::O_DIRECT).cast_unsigned();
    // Linux: create_pipe_files(): only a writer knows of packets.
    let reader = Description::new(
        Arc::new(PipeEnd::new(pipe.clone(), true, false, None)),
        kept & libc::O_NONBLOCK.cast_unsigned(),
    );
    let writer = Description::new(
        Arc::new(PipeEnd::new(pipe, false, true, None)),
        kept | libc::O_WRONLY.cast_unsigned(),
    );
    let close_on_exec = flags.has(libc::O_CLOEXEC);
    let read_fd = cx.add_description(reader, close_on_exec)?;
    let write_fd = cx.add_description(writer, close_on_exec);
    let files = cx.task()?.files.clone();
    let result = write_fd.and_then(|write_fd| {
        let mut bytes = read_fd.to_le_bytes().to_vec();
        bytes.extend(write_fd.to_le_bytes());
        cx.memory()
            .write(fds, &bytes)
            .inspect_err(|_| drop(files.lock().remove(write_fd)))
    });
    if let Err(error) = result {
        let _ = files.lock().remove(read_fd);
        return Err(error);
    }
    DONE
}

/// Opens a FIFO; waits for the other side unless told not to. fifo(7).
pub fn open_fifo(
    cx: &mut Cx<'_>,
    place: &Place,
    attributes: &Attributes,
    flags: Flags,
) -> SysResult {
    let key = (attributes.dev, attributes.ino);
    let pipe = {
        let mut fifos = cx.kernel.member.pod.fifos();
        fifos.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let pipe = Pipe::new(*attributes);
            fifos.retain(|_, pipe| pipe.strong_count() > 0);
            fifos.insert(key, Arc::downgrade(&pipe));
            pipe
        })
    };
    let access = (flags.0 & O_ACCMODE.cast_unsigned()).cast_signed();
    let (reads, writes) = (access != libc::O_WRONLY, access != libc::O_RDONLY);
    let nonblocking = flags.has(libc::O_NONBLOCK);
    let (readers, writers, reader_opens, writer_opens) = pipe.counts();
    if writes && !reads && nonblocking && readers == 0 {
        return Err(Errno::ENXIO);
    }
    if let Some(end) = cx.kernel.opening.remove(&cx.call.tid) {
        return wait_for_other_side(cx, &pipe, end, flags);
    }
    let end = Arc::new(PipeEnd::new(
        pipe.clone(),
        reads,
        writes,
        Some(place.clone()),
    ));
    let other = if reads && writes || nonblocking {
        1
    } else if reads {
        writers
    } else {
        readers
    };
    if other > 0 {
        return super::open::finish(cx, end, flags);
    }
    let seen = if reads { writer_opens } else { reader_opens };
    wait_for_other_side(cx, &pipe, (end, seen), flags)
}

/// `end`: this side, and how often the other had been opened when that was looked at. Another container's process can open it at any time, so the queue
/// is entered before the look.
fn wait_for_other_side(
    cx: &mut Cx<'_>,
    pipe: &Arc<Pipe>,
    end: (Arc<PipeEnd>, u64),
    flags: Flags,
) -> SysResult {
    let tid = cx.tid();
    let ticket = cx.ticket()?;
    pipe.queue().add(ticket);
    let (_, _, reader_opens, writer_opens) = pipe.counts();
    let reads = flags.0 & O_ACCMODE.cast_unsigned() != libc::O_WRONLY.cast_unsigned();
    // It has come since, even if it is gone again.
    if (if reads { writer_opens } else { reader_opens }) > end.1 {
        return super::open::finish(cx, end.0, flags);
    }
    cx.kernel.opening.insert(tid, end);
    let result = cx.wait(ticket, None, Restart::IfAsked, 0);
    if result.is_err() {
        cx.kernel.opening.remove(&tid);
    }
    result
}
