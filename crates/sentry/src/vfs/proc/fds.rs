//! /proc/PID/fd and fdinfo: links that lead to what a descriptor is open on. Opening one opens the file again: new flags, new position. proc_pid_fd(5).

use std::sync::Arc;

use rustix::fs::OFlags;

use super::process::{may_trace, process, task};
use super::{Listed, Opened, ProcNode, Who};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::syscalls::arguments::Flags;
use crate::syscalls::{Cx, SysResult, open};
use crate::vfs::description::{Description, O_ACCMODE};
use crate::vfs::host::HostFile;
use crate::vfs::pipe::PipeEnd;
use crate::vfs::place::Place;

pub fn description(kernel: &Kernel, who: Who, fd: i32) -> Result<Arc<Description>> {
    let task = task(kernel, who).map_err(|_| Errno::ENOENT)?;
    task.files.lock().get(fd).map_err(|_| Errno::ENOENT)
}

/// `fd` tells how many there are. Linux 6.2: proc_fd_getattr().
pub fn directory_size(kernel: &Kernel, who: Who, path: &str) -> u64 {
    match task(kernel, who) {
        Ok(task) if path == "fd" => task.files.lock().numbers().len() as u64,
        _ => 0,
    }
}

/// The link's mode tells how the descriptor may be used.
pub fn link_mode(kernel: &Kernel, who: Who, fd: i32) -> Result<u32> {
    let description = description(kernel, who, fd)?;
    let mut mode = libc::S_IFLNK;
    if description.is_readable() || description.is_path() {
        mode |= 0o500;
    }
    if description.is_writable() || description.is_path() {
        mode |= 0o300;
    }
    Ok(if description.is_path() {
        libc::S_IFLNK | 0o100
    } else {
        mode
    })
}

pub fn link(kernel: &Kernel, who: Who, caller: i32, fd: i32) -> Result<Vec<u8>> {
    may_trace(kernel, who, caller)?;
    name(kernel, &*description(kernel, who, fd)?)
}

/// What an open file is called: its path, or a pipe's or socket's kind and number.
pub fn name(kernel: &Kernel, description: &Description) -> Result<Vec<u8>> {
    match description.file.place() {
        Some(place) => place.path(kernel),
        None => match description.file.host() {
            Some(host) => host_name(kernel, host).ok_or(Errno::ENOENT),
            None => Ok(description.file.name()),
        },
    }
}

/// A stream that the sandbox was given: what the host calls it, unless that is a path of the host's that means nothing in here.
fn host_name(kernel: &Kernel, host: std::os::fd::BorrowedFd<'_>) -> Option<Vec<u8>> {
    use std::os::fd::AsRawFd;
    let link = format!("self/fd/{}", host.as_raw_fd());
    let name = rustix::fs::readlinkat(&kernel.host_proc, link, Vec::new()).ok()?;
    Some(name.into_bytes())
}

pub fn target(kernel: &Kernel, who: Who, caller: i32, fd: i32) -> Result<Place> {
    may_trace(kernel, who, caller)?;
    let description = description(kernel, who, fd)?;
    Ok(match description.file.place() {
        Some(place) => place.clone(),
        None => Place::Proc(ProcNode::Opened(Opened(description))),
    })
}

pub fn list(kernel: &Kernel, who: Who, are_links: bool) -> Result<Vec<Listed>> {
    process(kernel, who)?;
    let Ok(task) = task(kernel, who) else {
        return Ok(Vec::new());
    };
    let numbers = task.files.lock().numbers();
    let listed = numbers.into_iter().map(|fd| Listed {
        cookie: u64::from(fd.unsigned_abs()),
        name: fd.to_string(),
        node: if are_links {
            ProcNode::Fd(who, fd)
        } else {
            ProcNode::FdInfo(who, fd)
        },
        kind: if are_links {
            libc::DT_LNK
        } else {
            libc::DT_REG
        },
    });
    Ok(listed.collect())
}

pub fn info(kernel: &Kernel, who: Who, caller: i32, fd: i32) -> Result<Vec<u8>> {
    may_trace(kernel, who, caller)?;
    let description = description(kernel, who, fd)?;
    let attributes = match description.file.place() {
        Some(place) => place.attributes(kernel)?,
        None => description.file.attributes()?,
    };
    let closes = task(kernel, who)?.files.lock().close_on_exec(fd)?;
    let flags = description.flags()
        | if closes {
            libc::O_CLOEXEC.cast_unsigned()
        } else {
            0
        };
    let position = *description.position();
    let text = format!(
        "pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{}\nino:\t{}\n",
        attributes.mount, attributes.ino
    );
    Ok(text.into_bytes())
}

/// Opens a description's file again. Sockets and anonymous files cannot be. Linux: no_open() and the inode's own open.
pub fn reopen(cx: &mut Cx<'_>, description: &Arc<Description>, flags: Flags) -> SysResult {
    let file = description.file.clone();
    if let Some(end) = file.downcast_ref::<PipeEnd>() {
        // A pipe's open waits for nobody, unlike a FIFO's. Linux: fs/pipe.c fifo_open(), `is_pipe`.
        let access = (flags.0 & O_ACCMODE.cast_unsigned()).cast_signed();
        let (reads, writes) = (access != libc::O_WRONLY, access != libc::O_RDONLY);
        let again = PipeEnd::new(end.pipe.clone(), reads, writes, None);
        return open::finish(cx, Arc::new(again), flags);
    }
    let attributes = file.attributes()?;
    match attributes.kind() {
        libc::S_IFREG => {
            let Some(host) = file.host() else {
                return Err(Errno::ENXIO);
            };
            let copy = rustix::io::fcntl_dupfd_cloexec(host, 0)?;
            let truncate = if flags.has(libc::O_TRUNC) {
                OFlags::TRUNC
            } else {
                OFlags::empty()
            };
            let asked = open::passed(flags) | truncate;
            let opened = cx.kernel.reopen(&copy, asked)?;
            let file = HostFile::watched(&cx.kernel.files, opened, asked)?;
            open::finish(cx, Arc::new(file.unnamed()), flags)
        }
        // A stream or terminal that the sandbox was given stays the one that it is.
        libc::S_IFIFO | libc::S_IFCHR => open::finish(cx, file, flags),
        _ => Err(Errno::ENXIO),
    }
}
