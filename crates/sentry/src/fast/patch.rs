//! Patching a call site: room for its trampoline, which the thread's own stub maps, and one byte of its code.

use std::os::fd::OwnedFd;

use casemate_platform::channel;
use casemate_platform::fast::{self, SITE_LEN, Way};
use casemate_platform::loader::{self, Command};
use casemate_platform::notify::Call;
use rustix::fs::{Mode, OFlags};

use super::space::{Ids, Space};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::machine::read_below;
use crate::kernel::task::Shared;
use crate::memory::{Address, Memory};

const PAGE: u64 = 4096;
/// Stack that a native signal's frame may take, with all that processors have to save today.
const FRAME: u64 = 8 << 10;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const MADV_WIPEONFORK: u64 = 18;
const MOST_MAPS: usize = 8 << 20;

/// What a thread's stub is to do for the sentry when it next asks (`magic::DELIVER`).
#[derive(Debug, Clone)]
pub struct Plan {
    pub goal: Goal,
    /// The commands are given: when it asks again, they are done.
    pub is_given: bool,
}

#[derive(Debug, Clone)]
pub enum Goal {
    /// Room for a trampoline.
    Patch {
        site: u64,
        way: Way,
        pages: Vec<u64>,
    },
    /// A slot for the thread; the channel first, if the process has none (its descriptor's number in the process is here).
    Register { channel: Option<u64> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Commands,
    Done,
}

impl Kernel {
    /// A site has trapped often.
    pub fn begin_patch(&mut self, call: &Call, site: u64) {
        if self.try_begin_patch(call, site).is_err() {
            // It stays as it is.
        }
    }

    fn try_begin_patch(&mut self, call: &Call, site: u64) -> Result<()> {
        let memory = Memory { tid: call.tid };
        let mut bytes = [0; SITE_LEN];
        memory.read(Address(site), &mut bytes)?;
        let task = self.task(call.tid)?;
        let is_alone = self.process(task.pid)?.threads.len() == 1
            && task.embryo.is_none()
            && !self.has_guest(&task.space);
        let space = task.space.lock();
        if space.busy.is_some_and(|tid| tid != call.tid) {
            return Err(Errno::EBUSY);
        }
        let way = fast::ways(site, bytes).into_iter().find(|way| {
            let is_seen_whole = way.written.len() == 1 || is_alone;
            is_seen_whole
                && space.may_hold(way.target)
                && !space.collides(way.target)
                && fast::trampoline(site, way.target).is_some()
        });
        let way = way.ok_or(Errno::EINVAL)?;
        let pages = space.missing_pages(way.target);
        drop(space);
        self.check_private_code(call.tid, site)?;
        if pages.is_empty() {
            return self.patch(call.tid, site, way);
        }
        self.ask_stub(call, Goal::Patch { site, way, pages })
    }

    /// Whether a child that has not executed yet runs in this memory.
    fn has_guest(&self, space: &Shared<Space>) -> bool {
        fn is_within(guest: &Shared<Space>, space: &Shared<Space>) -> bool {
            let host = guest.lock().host.clone();
            host.is_some_and(|host| host.is(space) || is_within(&host, space))
        }
        let mut tasks = self.tasks.values();
        tasks.any(|task| is_within(&task.space, space))
    }

    /// The thread runs in no slot yet, but could use one.
    pub fn begin_registration(&mut self, call: &Call) {
        let Ok(task) = self.task(call.tid) else {
            return;
        };
        let space = task.space.lock();
        let is_possible = space.host.is_none()
            && space.busy.is_none_or(|tid| tid == call.tid)
            && space.slots.contains(&None)
            && task.embryo.is_none();
        let has_channel = space.channel.is_some();
        drop(space);
        if !is_possible || task.is_refused_slot {
            return;
        }
        let channel = (!has_channel).then(|| self.free_descriptor(call.tid));
        let _ = self.ask_stub(call, Goal::Register { channel });
    }

    /// A number that no file of the program has, nor will have soon: nothing else is mapped by it while the channel is.
    fn free_descriptor(&self, tid: i32) -> u64 {
        let highest = self
            .task(tid)
            .ok()
            .and_then(|task| task.files.lock().numbers().last().copied());
        u64::from(highest.unwrap_or(0).max(200).cast_unsigned()) + 1
    }

    /// Has the thread ask, by a native signal, as soon as its call is over. Not where the frame of that might not fit.
    fn ask_stub(&mut self, call: &Call, goal: Goal) -> Result<()> {
        let tid = call.tid;
        let task = self.task(tid)?;
        if task.plan.is_some() || task.is_kicked || task.image.is_some() {
            return Err(Errno::EBUSY);
        }
        let (low, len) = task.alternate_stack;
        let stack = self.stack_pointer(tid)?;
        let on_alternate = stack.wrapping_sub(low) < len;
        let is_short = on_alternate && stack.wrapping_sub(low) < FRAME;
        let mut byte = [0];
        let memory = Memory { tid };
        if is_short
            || memory
                .read(Address(stack.wrapping_sub(FRAME)), &mut byte)
                .is_err()
            || memory
                .read(Address(stack.wrapping_sub(FRAME / 2)), &mut byte)
                .is_err()
        {
            return Err(Errno::EFAULT);
        }
        let task = self.task_mut(tid)?;
        task.space.lock().busy = Some(tid);
        task.plan = Some(Plan {
            goal,
            is_given: false,
        });
        self.kick(tid);
        Ok(())
    }

    /// The thread's stub asks: it is to do something for the sentry first, or has done it. `None`: there is no plan.
    pub fn next_of_plan(&mut self, call: &Call) -> Result<Option<Step>> {
        let Some(plan) = self.task_mut(call.tid)?.plan.take() else {
            return Ok(None);
        };
        if plan.is_given {
            let result = self.finish_plan(call, &plan.goal);
            let task = self.task_mut(call.tid)?;
            task.space.lock().busy = None;
            if let (Goal::Register { .. }, Err(_)) = (&plan.goal, result) {
                task.is_refused_slot = true;
            }
            return Ok(Some(Step::Done));
        }
        let commands = commands(&plan.goal);
        let memory = Memory { tid: call.tid };
        for (at, bytes) in loader::for_stub(&commands) {
            memory.write(Address(at), &bytes)?;
        }
        let task = self.task_mut(call.tid)?;
        task.plan = Some(Plan {
            is_given: true,
            ..plan
        });
        // It asks again by itself.
        task.is_kicked = true;
        Ok(Some(Step::Commands))
    }

    fn finish_plan(&mut self, call: &Call, goal: &Goal) -> Result<()> {
        let memory = Memory { tid: call.tid };
        let result = |index: usize| memory.read_u64(Address(loader::result_of(index)));
        match goal {
            Goal::Patch { site, way, pages } => {
                for (index, page) in pages.iter().enumerate() {
                    if result(index)? != *page {
                        self.task(call.tid)?.space.lock().occupied.insert(*page);
                        return Err(Errno::EEXIST);
                    }
                    self.task(call.tid)?.space.lock().pages.insert(*page);
                }
                self.patch(call.tid, *site, *way)
            }
            Goal::Register { channel } => {
                if channel.is_some() && result(0)? != channel::ADDRESS {
                    self.task(call.tid)?.space.lock().channel = None;
                    return Err(Errno::EEXIST);
                }
                if channel.is_some() && (result(1)?, result(2)?) != (0, 0) {
                    self.task(call.tid)?.space.lock().channel = None;
                    return Err(Errno::EINVAL);
                }
                self.register(call.tid, call.args[3])
            }
        }
    }

    /// The stub maps the channel: gives it the descriptor. `false`: this is none of its mappings.
    pub fn maps_channel(&mut self, call: &Call) -> Result<bool> {
        let task = self.task(call.tid)?;
        let Some(Plan {
            goal: Goal::Register { channel: Some(fd) },
            is_given: true,
        }) = &task.plan
        else {
            return Ok(false);
        };
        let number = u32::try_from(*fd).map_err(|_| Errno::EBADF)?;
        if call.args[4] != *fd || call.args[0] != channel::ADDRESS {
            return Ok(false);
        }
        let channel = std::sync::Arc::new(channel::Channel::new()?);
        self.listener
            .give_fd(call.id, channel.fd(), number, false)?;
        task.space.lock().channel = Some(channel);
        Ok(true)
    }

    /// Writes the trampoline and then the site's byte. The room is there.
    fn patch(&mut self, tid: i32, site: u64, way: Way) -> Result<()> {
        let text = self.text_of(tid)?;
        let mut bytes = [0; SITE_LEN];
        let count = crate::host::pread(&text, &mut bytes[..], site)?;
        if count < SITE_LEN || !fast::ways(site, bytes).contains(&way) {
            return Err(Errno::EFAULT);
        }
        let target = way.target;
        let code = fast::trampoline(site, target).ok_or(Errno::EINVAL)?;
        let task = self.task(tid)?;
        let mut space = task.space.lock();
        if !space.missing_pages(target).is_empty() || space.collides(target) {
            return Err(Errno::EBUSY);
        }
        if crate::host::pwrite(&text, &code, target)? != code.len() {
            return Err(Errno::EFAULT);
        }
        space.add(target, site);
        let wants_ids = space.ids == Ids::Unused;
        if wants_ids {
            space.ids = Ids::Kept;
        }
        drop(space);
        if wants_ids {
            self.write_ids(tid);
        }
        // One byte, or nobody else runs here: the one instruction is seen, or the other.
        let written = crate::host::pwrite(&text, way.written, site);
        if written != Ok(way.written.len()) {
            // This host lets nobody write to code (CONFIG_PROC_MEM_NO_FORCE).
            self.fast.patches = false;
        }
        Ok(())
    }

    fn text_of(&self, tid: i32) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let path = format!("{tid}/mem");
        Ok(crate::host::openat(
            &self.host_proc,
            path,
            flags,
            Mode::empty(),
        )?)
    }

    /// Only code of the process's own is patched: a private mapping, that nobody but a debugger writes to.
    fn check_private_code(&self, tid: i32, site: u64) -> Result<()> {
        let end = site + SITE_LEN as u64;
        let covers = |(low, high): &(u64, u64)| *low <= site && end <= *high;
        if self.task(tid)?.space.lock().private.iter().any(covers) {
            return Ok(());
        }
        let text =
            read_below(&self.host_proc, &format!("{tid}/maps"), MOST_MAPS).ok_or(Errno::ENOENT)?;
        let found = text
            .split(|byte| *byte == b'\n')
            .filter_map(|line| std::str::from_utf8(line.get(..line.len().min(64))?).ok())
            .find_map(|line| {
                let mut fields = line.split(' ');
                let (low, high) = fields.next()?.split_once('-')?;
                let range = (
                    u64::from_str_radix(low, 16).ok()?,
                    u64::from_str_radix(high, 16).ok()?,
                );
                covers(&range).then_some((range, fields.next()? == "r-xp"))
            });
        match found {
            Some((range, true)) => {
                self.task(tid)?.space.lock().private.push(range);
                Ok(())
            }
            _ => Err(Errno::EACCES),
        }
    }
}

fn commands(goal: &Goal) -> Vec<Command> {
    let call = |nr, args| Command::Call { nr, args };
    let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64 | MAP_FIXED_NOREPLACE;
    let shared = libc::MAP_SHARED as u64 | MAP_FIXED_NOREPLACE;
    let code = (libc::PROT_READ | libc::PROT_EXEC) as u64;
    let data = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let size = channel::SIZE as u64;
    match goal {
        Goal::Patch { pages, .. } => pages
            .iter()
            .map(|page| call(libc::SYS_mmap, [*page, PAGE, code, private, u64::MAX, 0]))
            .collect(),
        Goal::Register { channel: None } => Vec::new(),
        Goal::Register { channel: Some(fd) } => vec![
            call(
                libc::SYS_mmap,
                [channel::ADDRESS, size, data, shared, *fd, 0],
            ),
            call(
                libc::SYS_madvise,
                [channel::ADDRESS, size, libc::MADV_DONTFORK as u64, 0, 0, 0],
            ),
            call(
                libc::SYS_madvise,
                [loader::TABLE, PAGE, MADV_WIPEONFORK, 0, 0, 0],
            ),
        ],
    }
}
