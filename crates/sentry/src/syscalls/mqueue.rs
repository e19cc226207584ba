//! POSIX message queues. mq_overview(7). Linux: ipc/mqueue.c.

use std::sync::Arc;
use std::time::Instant;

use super::arguments::Flags;
use super::time::{clock_now, instant_of, read_timespec};
use super::{Cx, DONE, SysResult, value};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::{CAP_SYS_RESOURCE, MAY_READ, MAY_WRITE};
use crate::kernel::signals::{Info, LAST};
use crate::kernel::task::Restart;
use crate::kernel::wake::Ticket;
use crate::memory::{Address, half, word};
use crate::vfs::attributes::Attributes;
use crate::vfs::description::{Description, O_ACCMODE};
use crate::vfs::file::{READABLE, WRITABLE};
use crate::vfs::mqueue::{COOKIE, How, Queue, QueueFile, STATUS_SIZE, tell_thread};
use crate::vfs::socket::host::HostSocket;

const NAME_MAX: usize = 255;
/// What a queue has that asks for nothing, and what one without CAP_SYS_RESOURCE may ask for. /proc/sys/fs/mqueue.
const USUAL: (usize, usize) = (10, 8192);
/// Linux: HARD_MSGMAX, HARD_MSGSIZEMAX.
const HARD: (usize, usize) = (65_536, 16 << 20);
/// Linux: MQ_PRIO_MAX.
const PRIORITIES: u32 = 32_768;
const SI_MESGQ: i32 = -3;
const RECEIVE: i32 = 243;
/// `struct mq_attr`: flags, messages at most, bytes of one at most, messages now; and four words of nothing.
const ATTRIBUTES: usize = 64;

/// One component, without the slash that the library takes off. Linux: simple_lookup(), lookup_one_len().
fn read_name(cx: &Cx<'_>, at: Address) -> Result<Vec<u8>> {
    let name = cx.memory().read_path(at)?;
    match &name[..] {
        b"" => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        name if name.contains(&b'/') => Err(Errno::EACCES),
        name if name.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
        _ => Ok(name),
    }
}

pub fn mq_open(
    cx: &mut Cx<'_>,
    name: Address,
    flags: Flags,
    mode: u32,
    attributes: Address,
) -> SysResult {
    let wanted = if attributes.is_null() {
        None
    } else {
        let bytes = cx.memory().read_vec(attributes, ATTRIBUTES)?;
        Some((
            word(&bytes, 8).cast_signed(),
            word(&bytes, 16).cast_signed(),
        ))
    };
    let name = read_name(cx, name)?;
    let access = match (flags.0 & O_ACCMODE.cast_unsigned()).cast_signed() {
        libc::O_RDONLY => MAY_READ,
        libc::O_WRONLY => MAY_WRITE,
        libc::O_RDWR => MAY_READ | MAY_WRITE,
        _ => 0,
    };
    let queue = match cx.kernel.message_queues.find(&name).cloned() {
        Some(_) if flags.has(libc::O_CREAT) && flags.has(libc::O_EXCL) => {
            return Err(Errno::EEXIST);
        }
        Some(_) if access == 0 => return Err(Errno::EINVAL),
        Some(queue) => {
            let who = &cx.task()?.credentials;
            let (mode, uid, gid) = owner(&queue);
            if !who.may(access, mode, uid, gid) {
                return Err(Errno::EACCES);
            }
            queue
        }
        None if flags.has(libc::O_CREAT) => make(cx, &name, mode, wanted)?,
        None => return Err(Errno::ENOENT),
    };
    let kept = flags.0 & (O_ACCMODE | libc::O_NONBLOCK).cast_unsigned();
    let description = Description::new(Arc::new(QueueFile(queue)), kept);
    value(cx.add_description(description, true)?)
}

fn owner(queue: &Queue) -> (u32, u32, u32) {
    let it = &queue.attributes;
    (it.mode, it.uid, it.gid)
}

fn make(cx: &mut Cx<'_>, name: &[u8], mode: u32, wanted: Option<(i64, i64)>) -> Result<Arc<Queue>> {
    let who = cx.task()?.credentials.clone();
    let mode = mode & !cx.task()?.fs.lock().umask & 0o7777;
    let bounds = if who.has(CAP_SYS_RESOURCE) {
        HARD
    } else {
        USUAL
    };
    let number = |value: i64| usize::try_from(value).ok().filter(|value| *value > 0);
    let (most, size) = match wanted {
        None => USUAL,
        Some((most, size)) => number(most).zip(number(size)).ok_or(Errno::EINVAL)?,
    };
    if most > bounds.0 || size > bounds.1 {
        return Err(Errno::EINVAL);
    }
    let now = clock_now(libc::CLOCK_REALTIME)?;
    let attributes = Attributes {
        dev: 19,
        ino: cx.kernel.new_inode(),
        mode: libc::S_IFREG | mode,
        nlink: 1,
        uid: who.fsuid,
        gid: who.fsgid,
        size: STATUS_SIZE,
        blksize: 4096,
        times: [(now.as_secs().cast_signed(), now.subsec_nanos()); 4],
        ..Attributes::default()
    };
    let limit = cx.process()?.limits.0[libc::RLIMIT_MSGQUEUE as usize].0;
    cx.kernel
        .message_queues
        .make(name, attributes, (most, size), limit)
}

pub fn mq_unlink(cx: &mut Cx<'_>, name: Address) -> SysResult {
    let name = read_name(cx, name)?;
    let queue = cx.kernel.message_queues.find(&name).ok_or(Errno::ENOENT)?;
    let who = &cx.task()?.credentials;
    // Their directory is root's, and sticky.
    if who.fsuid != 0 && !who.owns(queue.attributes.uid) {
        return Err(Errno::EPERM);
    }
    cx.kernel.message_queues.remove(&name);
    DONE
}

/// The queue behind a descriptor.
fn of(cx: &Cx<'_>, fd: i32) -> Result<(Arc<Description>, Arc<Queue>)> {
    let description = cx.open_description(fd)?;
    let file = description.file.downcast_ref::<QueueFile>();
    let queue = file.ok_or(Errno::EBADF)?.0.clone();
    Ok((description, queue))
}

/// A time limit of these calls is a point of real time.
fn read_deadline(cx: &Cx<'_>, at: Address) -> Result<Option<Instant>> {
    if let Some(resumed) = &cx.resumed {
        return Ok(resumed.deadline);
    }
    if at.is_null() {
        return Ok(None);
    }
    let until = read_timespec(cx, at)?;
    Ok(Some(instant_of(clock_now(libc::CLOCK_REALTIME)?, until)))
}

fn wait(
    cx: &mut Cx<'_>,
    description: &Description,
    ticket: Ticket,
    deadline: Option<Instant>,
) -> SysResult {
    if description.is_nonblocking() {
        return Err(Errno::EAGAIN);
    }
    if cx.has_timed_out() {
        return Err(Errno::ETIMEDOUT);
    }
    cx.wait(ticket, deadline, Restart::IfAsked, 0)
}

pub fn mq_timedsend(
    cx: &mut Cx<'_>,
    fd: i32,
    message: Address,
    len: usize,
    priority: u32,
    timeout: Address,
) -> SysResult {
    let deadline = read_deadline(cx, timeout)?;
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let (description, queue) = of(cx, fd)?;
    if !description.is_writable() {
        return Err(Errno::EBADF);
    }
    if len > queue.size {
        return Err(Errno::EMSGSIZE);
    }
    let bytes = cx.memory().read_vec(message, len)?;
    let ticket = cx.ticket()?;
    queue.queue.add(ticket);
    let was_full = {
        let mut state = queue.lock();
        let is_full = state.count >= queue.most;
        if !is_full {
            state.put(priority, bytes);
        }
        is_full
    };
    if was_full {
        return wait(cx, &description, ticket, deadline);
    }
    notify(cx, &queue)?;
    queue.queue.wake_for(READABLE);
    DONE
}

/// Tells who asked of a message that came into an empty queue, once, unless somebody waits for it. Linux: __do_notify().
fn notify(cx: &mut Cx<'_>, queue: &Queue) -> Result<()> {
    let asked = {
        let mut state = queue.lock();
        let waits = |tid: &i32| {
            let task = cx.kernel.tasks.get(tid);
            task.and_then(|task| task.blocked.as_ref())
                .is_some_and(|blocked| blocked.call.nr == RECEIVE)
        };
        state.receivers.retain(waits);
        if state.count != 1 || !state.receivers.is_empty() {
            return Ok(());
        }
        state.asked.take()
    };
    match asked {
        Some((pid, How::Signal(signal, sigval))) if signal > 0 => {
            let (own, uid) = (cx.task()?.pid, cx.task()?.credentials.uid);
            let mut info = Info::from_sender(signal, SI_MESGQ, own, uid);
            info.fields[8..16].copy_from_slice(&sigval.to_le_bytes());
            cx.kernel.send_to_process(pid, info);
        }
        Some((_, How::Socket(socket, cookie))) => tell_thread(&socket, cookie),
        _ => {}
    }
    Ok(())
}

pub fn mq_timedreceive(
    cx: &mut Cx<'_>,
    fd: i32,
    message: Address,
    len: usize,
    priority: Address,
    timeout: Address,
) -> SysResult {
    let deadline = read_deadline(cx, timeout)?;
    let (description, queue) = of(cx, fd)?;
    if !description.is_readable() {
        return Err(Errno::EBADF);
    }
    if len < queue.size {
        return Err(Errno::EMSGSIZE);
    }
    let ticket = cx.ticket()?;
    queue.queue.add(ticket);
    let tid = cx.tid();
    queue.lock().receivers.remove(&tid);
    let taken = queue.lock().take();
    let Some((sent_with, bytes)) = taken else {
        let outcome = wait(cx, &description, ticket, deadline)?;
        queue.lock().receivers.insert(tid);
        return Ok(outcome);
    };
    queue.queue.wake_for(WRITABLE);
    if !priority.is_null() {
        cx.memory().write_u32(priority, sent_with)?;
    }
    cx.memory().write(message, &bytes)?;
    value(bytes.len())
}

pub fn mq_notify(cx: &mut Cx<'_>, fd: i32, event: Address) -> SysResult {
    let asking = if event.is_null() {
        None
    } else {
        Some(read_event(cx, event)?)
    };
    let (_, queue) = of(cx, fd)?;
    let pid = cx.task()?.pid;
    let Some(how) = asking else {
        queue.stop_asking(pid);
        return DONE;
    };
    let mut state = queue.lock();
    if state.asked.is_some() {
        return Err(Errno::EBUSY);
    }
    state.asked = Some((pid, how));
    DONE
}

/// A `struct sigevent`.
fn read_event(cx: &Cx<'_>, at: Address) -> Result<How> {
    const SIGEV_SIGNAL: i32 = 0;
    const SIGEV_NONE: i32 = 1;
    const SIGEV_THREAD: i32 = 2;
    let bytes = cx.memory().read_vec(at, 64)?;
    let (sigval, number) = (word(&bytes, 0), half(&bytes, 8).cast_signed());
    match half(&bytes, 12).cast_signed() {
        SIGEV_NONE => Ok(How::Nothing),
        SIGEV_SIGNAL if (0..=LAST).contains(&number) => Ok(How::Signal(number, sigval)),
        SIGEV_THREAD => {
            let mut cookie = [0; COOKIE];
            cx.memory().read(Address(sigval), &mut cookie)?;
            let description = cx.open_description(number)?;
            let socket = description.file.downcast_ref::<HostSocket>();
            match socket {
                Some(socket) if socket.is_netlink() => Ok(How::Socket(description, cookie)),
                _ if description.file.socket().is_some() => Err(Errno::EINVAL),
                _ => Err(Errno::ENOTSOCK),
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn mq_getsetattr(cx: &mut Cx<'_>, fd: i32, new: Address, old: Address) -> SysResult {
    let nonblock = u64::from(libc::O_NONBLOCK.cast_unsigned());
    let wanted = if new.is_null() {
        None
    } else {
        Some(word(&cx.memory().read_vec(new, ATTRIBUTES)?, 0))
    };
    if wanted.is_some_and(|flags| flags & !nonblock != 0) {
        return Err(Errno::EINVAL);
    }
    let (description, queue) = of(cx, fd)?;
    let before = u64::from(description.flags()) & nonblock;
    let count = queue.lock().count;
    if let Some(flags) = wanted {
        let kept = description.flags() & !libc::O_NONBLOCK.cast_unsigned();
        description.change_flags(kept | flags as u32);
    }
    if !old.is_null() {
        let words = [before, queue.most as u64, queue.size as u64, count as u64];
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.resize(ATTRIBUTES, 0);
        cx.memory().write(old, &bytes)?;
    }
    DONE
}
