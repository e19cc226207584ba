//! Files that threads are lent (`casemate_platform::windows`): positions to those that seek, and to those that read or write at positions the file's bytes, which
//! the thread's own stub maps. What ends either: `vfs::windows`, `vfs::description`, `vfs::cache::answers`. docs/decisions/2026-11-29-files-that-are-lent.md.

use std::sync::{Arc, Weak};
use std::time::Duration;

use casemate_platform::channel::{Channel, SLOTS};
use casemate_platform::notify::Call;
use casemate_platform::windows::{self, ENTRIES, LONGEST, Window, entry_of};

use super::patch::Goal;
use crate::kernel::Kernel;
use crate::kernel::task::Task;
use crate::syscalls::Cx;
use crate::vfs::cache::{Lends, Trail};
use crate::vfs::description::Description;
use crate::vfs::file::File;
use crate::vfs::host::HostFile;
use crate::vfs::windows as files;

/// For so long after a real write others move no times: less than a tick, by which Linux's own times go.
const WRITABLE: Duration = Duration::from_millis(1);
/// Addresses that a window has at least, so that its file can grow; and what it is a multiple of.
const LEAST: u64 = 64 << 20;
const STEP: u64 = 1 << 20;
/// Windows of a process at once, and those that could not be made, after which no more are tried.
const AT_ONCE: usize = 16;
const FAILURES: u32 = 8;

/// An address space's.
#[derive(Debug, Default)]
pub struct Windows {
    mapped: Vec<Mapped>,
    /// How many there have been: no address is used twice, since a thread may still be copying there.
    made: u64,
    failures: u32,
}

#[derive(Debug)]
struct Mapped {
    description: Weak<Description>,
    /// The descriptor that it was made for.
    fd: i32,
    address: u64,
    len: u64,
    is_writable: bool,
}

impl Mapped {
    fn is_of(&self, description: &Arc<Description>) -> bool {
        std::ptr::eq(self.description.as_ptr(), Arc::as_ptr(description))
    }
}

impl Windows {
    #[must_use]
    pub fn were_made(&self) -> bool {
        self.made > 0
    }

    fn has(&self, description: &Arc<Description>) -> bool {
        self.mapped.iter().any(|window| window.is_of(description))
    }

    fn may_make(&self) -> bool {
        self.mapped.len() < AT_ONCE && self.made < windows::MOST && self.failures < FAILURES
    }
}

/// A window that a thread's stub is to map.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub description: Arc<Description>,
    pub fd: i32,
    pub address: u64,
    pub len: u64,
    pub is_writable: bool,
    /// The descriptor's number in the process, for the time of its mapping.
    pub number: u64,
}

fn regular(description: &Description) -> Option<&HostFile> {
    let file = description.file.downcast_ref::<HostFile>();
    file.filter(|file| !file.is_directory())
}

/// Whom its own filters ask about each call is lent nothing.
fn may_be_lent(task: &Task) -> bool {
    task.slot.is_some() && task.credentials.filters.is_none()
}

impl Cx<'_> {
    /// After an lseek(2) that went well: if there are many, the next ones are the stub's to answer.
    pub fn lend_position(&mut self, fd: i32) {
        if !self.task().is_ok_and(may_be_lent) {
            return;
        }
        let Ok(description) = self.description(fd) else {
            return;
        };
        if regular(&description).is_some()
            && description.is_sought_often()
            && let Some((channel, index)) = self.stamp(fd, &description)
        {
            description.lend_position(&channel, index, entry_of(fd));
        }
    }

    /// After a pread64(2) or pwrite64(2) of so many bytes: if there are many, the next ones are the stub's to make.
    pub fn lend_window(&mut self, fd: i32, at: u64, count: i64, writes: bool) {
        if !self.task().is_ok_and(may_be_lent) {
            return;
        }
        let Ok(description) = self.description(fd) else {
            return;
        };
        if let Some(file) = regular(&description) {
            let _ = self.try_lend_window(fd, &description, file, (at, count, writes));
        }
    }

    fn try_lend_window(
        &mut self,
        fd: i32,
        description: &Arc<Description>,
        file: &HostFile,
        (at, count, writes): (u64, i64, bool),
    ) -> Option<()> {
        let (id, lends) = file.lendable()?;
        let space = self.task().ok()?.space.lock();
        let found = space.windows.mapped.iter();
        let Some(window) = found.clone().find(|window| window.is_of(description)) else {
            file.note_use();
            return None;
        };
        let (address, len, is_writable) = (window.address, window.len, window.is_writable);
        drop(space);
        let end = at.saturating_add(count.cast_unsigned());
        if writes {
            files::grew(id, at, count.cast_unsigned());
        }
        let known = files::known(id, end).or_else(|| {
            let since = files::changes();
            files::learn(id, since, &file.attributes().ok()?, lends);
            files::known(id, end)
        });
        if known? == 0 {
            return None;
        }
        let answers = &self.kernel.files.answers;
        // Behind a write the next read is a real one.
        let readable = if writes {
            0
        } else {
            answers.after(files::FRESH)?
        };
        let limit = self.process().ok()?.limits.0[libc::RLIMIT_FSIZE as usize].0;
        let appends = description.flags() & libc::O_APPEND.cast_unsigned() != 0;
        let writable = if writes && is_writable && !appends && limit == u64::MAX {
            answers.after(WRITABLE)?
        } else {
            0
        };
        let (channel, index) = self.stamp(fd, description)?;
        let window = Window {
            address,
            len,
            readable,
            writable,
        };
        files::lend(id, (&channel, index), fd, window);
        Some(())
    }

    /// The descriptor's entry in the caller's slot: it counts until the descriptor means something else.
    fn stamp(&mut self, fd: i32, description: &Arc<Description>) -> Option<(Arc<Channel>, usize)> {
        let answers = self.kernel.files.answers.clone();
        let trail = Trail::new(&answers);
        let task = self.task_mut().ok()?;
        task.files.lock().tell(fd, description, &answers, &trail);
        let slot = task.slot.as_mut()?;
        slot.claim(fd, description);
        let place = (slot.channel.clone(), slot.index);
        answers
            .stamp((&place.0, place.1), &trail, fd)
            .then_some(place)
    }
}

impl Kernel {
    /// A call by a descriptor that has a window, or is to have one: it is to be made in the ordinary way, since the thread is to do something behind it.
    #[must_use]
    pub fn concerns_windows(&self, call: &Call, fd: i32) -> bool {
        let Some(task) = self.tasks.get(&call.tid).filter(|task| may_be_lent(task)) else {
            return false;
        };
        let Ok(description) = task.files.lock().get(fd) else {
            return false;
        };
        if matches!(i64::from(call.nr), libc::SYS_pread64 | libc::SYS_pwrite64) {
            return self.is_window_wanted(task, &description);
        }
        task.space.lock().windows.has(&description)
    }

    fn is_window_wanted(&self, task: &Task, description: &Arc<Description>) -> bool {
        let is_used = regular(description)
            .is_some_and(|file| file.is_used_often() && file.lendable().is_some());
        if !is_used || !description.is_readable() {
            return false;
        }
        let space = task.space.lock();
        let is_unlimited = self
            .process(task.pid)
            .is_ok_and(|process| process.limits.0[libc::RLIMIT_AS as usize].0 == u64::MAX);
        is_unlimited
            && space.host.is_none()
            && space.windows.may_make()
            && !space.windows.has(description)
    }

    /// A call of the thread's has been answered in the ordinary way: whether its stub is to unmap windows of descriptors that are closed, or to map one.
    pub fn see_to_windows(&mut self, call: &Call) -> bool {
        let Some(task) = self.tasks.get(&call.tid).filter(|task| may_be_lent(task)) else {
            return false;
        };
        if let Some(closed) = self.closed_windows(task) {
            let is_asked = self.ask_stub(call, Goal::Unmap(closed.clone())).is_ok();
            self.windows_closed(call.tid, &closed, is_asked);
            return is_asked;
        }
        let Some(goal) = self.mapping(task, call) else {
            return false;
        };
        let is_asked = self.ask_stub(call, goal).is_ok();
        if !is_asked && let Ok(task) = self.task(call.tid) {
            task.space.lock().windows.failures += 1;
        }
        is_asked
    }

    /// Windows of descriptors that mean something else now, by address and length.
    fn closed_windows(&self, task: &Task) -> Option<Vec<(u64, u64)>> {
        let space = task.space.lock();
        let windows = &space.windows;
        if windows.mapped.is_empty() || windows.failures >= FAILURES {
            return None;
        }
        let files = task.files.lock();
        let is_open = |window: &Mapped| {
            let now = files.get(window.fd);
            now.is_ok_and(|description| window.is_of(&description))
        };
        let closed = windows.mapped.iter().filter(|window| !is_open(window));
        let closed: Vec<_> = closed.map(|window| (window.address, window.len)).collect();
        (!closed.is_empty()).then_some(closed)
    }

    /// They are about to be unmapped, if the stub could be asked to.
    fn windows_closed(&self, tid: i32, closed: &[(u64, u64)], is_asked: bool) {
        let Ok(task) = self.task(tid) else { return };
        let mut space = task.space.lock();
        if !is_asked {
            space.windows.failures += 1;
            return;
        }
        let is_left = |window: &Mapped| !closed.contains(&(window.address, window.len));
        space.windows.mapped.retain(is_left);
        // Whoever has such a file by another descriptor too: nothing is there any more.
        if let Some(channel) = &space.channel {
            for slot in 0..SLOTS {
                for entry in 0..ENTRIES {
                    channel.end_window(slot, entry);
                }
            }
        }
    }

    fn mapping(&self, task: &Task, call: &Call) -> Option<Goal> {
        if !matches!(i64::from(call.nr), libc::SYS_pread64 | libc::SYS_pwrite64) {
            return None;
        }
        let fd = call.args[0] as i32;
        let description = task.files.lock().get(fd).ok()?;
        if !self.is_window_wanted(task, &description) {
            return None;
        }
        let file = regular(&description)?;
        let (_, lends) = file.lendable()?;
        file.forget_uses();
        let size = file.attributes().ok()?.size;
        let len = size.saturating_mul(2).clamp(LEAST, LONGEST);
        let mut space = task.space.lock();
        space.windows.made += 1;
        let address = windows::LOWEST + (windows::MOST - space.windows.made) * LONGEST;
        drop(space);
        Some(Goal::Map(Wanted {
            fd,
            address,
            len: len.next_multiple_of(STEP),
            is_writable: lends == Lends::Writes && description.is_writable(),
            number: self.free_descriptor(call.tid),
            description,
        }))
    }

    /// The stub has done so, or not: `is_there`.
    pub(super) fn window_mapped(&self, tid: i32, wanted: &Wanted, is_there: bool) {
        let Ok(task) = self.task(tid) else { return };
        let windows = &mut task.space.lock().windows;
        if is_there {
            windows.mapped.push(Mapped {
                description: Arc::downgrade(&wanted.description),
                fd: wanted.fd,
                address: wanted.address,
                len: wanted.len,
                is_writable: wanted.is_writable,
            });
        } else {
            windows.failures += 1;
        }
    }
}
