//! Patching a call site: room for its trampoline, which the thread's own stub maps, and one byte of its code.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use casemate_platform::channel;
use casemate_platform::fast::{self, SITE_LEN, Way};
use casemate_platform::loader::{self, Command};
use casemate_platform::notify::Call;
use rustix::fs::{Mode, OFlags};

use super::space::{Ids, Space};
use super::windows::Wanted;
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
/// Code that is searched at most, in some 300 us for each MiB; and files that are remembered.
const MOST_CODE: usize = 4 << 20;
const MOST_FILES: usize = 256;

/// What a thread's stub is to do for the sentry when it next asks (`magic::DELIVER`).
#[derive(Debug, Clone)]
pub struct Plan {
    pub goal: Goal,
    /// The commands are given: when it asks again, they are done.
    pub is_given: bool,
}

#[derive(Debug, Clone)]
pub enum Goal {
    /// Room for trampolines.
    Patch {
        sites: Vec<(u64, Way)>,
        pages: Vec<u64>,
    },
    /// A slot for the thread; the channel first, if the process has none (its descriptor's number in the process is here).
    Register {
        channel: Option<u64>,
    },
    /// A file's bytes; and those, by address and length, of files that are closed.
    Map(Wanted),
    Unmap(Vec<(u64, u64)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Commands,
    Done,
}

impl Kernel {
    /// A site has trapped often.
    pub fn begin_patch(&mut self, call: &Call, site: u64) {
        let is_traced = self.task(call.tid).is_ok_and(|task| task.traced.is_some());
        if !is_traced && self.try_begin_patch(call, site).is_err() {
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
        let space = task.space.clone();
        if space.lock().busy.is_some_and(|tid| tid != call.tid) {
            return Err(Errno::EBUSY);
        }
        let way = space.lock().way(site, bytes, is_alone);
        let mut sites = vec![(site, way.ok_or(Errno::EINVAL)?)];
        let code = self.private_code(call.tid, site)?;
        if let Some((site, bytes)) = self.yield_in(call.tid, &code) {
            let way = space.lock().way(site, bytes, is_alone);
            sites.extend(way.map(|way| (site, way)));
        }
        let mut pages = BTreeSet::new();
        for (_, way) in &sites {
            pages.extend(space.lock().missing_pages(way.target));
        }
        if pages.is_empty() {
            return self.patch_all(call.tid, &sites);
        }
        let pages = pages.into_iter().collect();
        self.ask_stub(call, Goal::Patch { sites, pages })
    }

    /// The C library's sched_yield(3), if that code has it and it is not patched yet: it never traps, being native.
    fn yield_in(&mut self, tid: i32, code: &Code) -> Option<(u64, [u8; SITE_LEN])> {
        if !fast::tells_fs_base() {
            return None;
        }
        let memory = Memory { tid };
        let found = match self.fast.yields.get(&code.file) {
            Some(found) => *found,
            None => {
                let found = search(&memory, code);
                if self.fast.yields.len() >= MOST_FILES {
                    self.fast.yields.clear();
                }
                self.fast.yields.insert(code.file.clone(), found);
                found
            }
        };
        let function = code.start.checked_add(found?)?;
        let mut bytes = [0; fast::YIELD.len()];
        memory.read(Address(function), &mut bytes).ok()?;
        let at = fast::YIELD_SITE as usize;
        let site = bytes[at..at + SITE_LEN].try_into().ok()?;
        (bytes == fast::YIELD).then_some((function + fast::YIELD_SITE, site))
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
    pub(super) fn free_descriptor(&self, tid: i32) -> u64 {
        let highest = self
            .task(tid)
            .ok()
            .and_then(|task| task.files.lock().numbers().last().copied());
        u64::from(highest.unwrap_or(0).max(200).cast_unsigned()) + 1
    }

    /// Has the thread ask, by a native signal, as soon as its call is over. Not where the frame of that might not fit.
    pub(super) fn ask_stub(&mut self, call: &Call, goal: Goal) -> Result<()> {
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
            Goal::Patch { sites, pages } => {
                for (index, page) in pages.iter().enumerate() {
                    let is_there = result(index)? == *page;
                    let mut space = self.task(call.tid)?.space.lock();
                    if is_there {
                        space.pages.insert(*page);
                    } else {
                        space.occupied.insert(*page);
                    }
                }
                self.patch_all(call.tid, sites)
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
            Goal::Map(wanted) => {
                let results = (result(0)?, result(1)?, result(2)?);
                let is_there = results == (wanted.address, 0, 0);
                self.window_mapped(call.tid, wanted, is_there);
                Ok(())
            }
            Goal::Unmap(_) => Ok(()),
        }
    }

    /// Whether a call is one that the thread's stub was given to make.
    #[must_use]
    pub fn is_of_plan(&self, call: &Call) -> bool {
        let plan = self
            .tasks
            .get(&call.tid)
            .and_then(|task| task.plan.as_ref());
        plan.is_some_and(|plan| plan.is_given && commands(&plan.goal).iter().any(|command| {
            matches!(command, Command::Call { nr, args } if *nr == i64::from(call.nr) && *args == call.args)
        }))
    }

    /// The stub maps the channel, or a window: gives it the descriptor. `false`: this is none of its mappings.
    pub fn maps_own(&mut self, call: &Call) -> Result<bool> {
        if !self.is_of_plan(call) {
            return Ok(false);
        }
        let number = u32::try_from(call.args[4]).map_err(|_| Errno::EBADF)?;
        let task = self.task(call.tid)?;
        if let Some(Plan {
            goal: Goal::Map(wanted),
            ..
        }) = &task.plan
        {
            let file = wanted.description.file.host().ok_or(Errno::EBADF)?;
            self.listener.give_fd(call.id, file, number, false)?;
            return Ok(true);
        }
        let channel = std::sync::Arc::new(channel::Channel::new()?);
        self.listener
            .give_fd(call.id, channel.fd(), number, false)?;
        task.space.lock().channel = Some(channel);
        Ok(true)
    }

    /// Each as far as there is room for it.
    fn patch_all(&mut self, tid: i32, sites: &[(u64, Way)]) -> Result<()> {
        for (site, way) in sites {
            // One that has no room stays as it is.
            let _ = self.patch(tid, *site, *way);
        }
        Ok(())
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
            let looks = u32::from(self.fast.may_look);
            Memory { tid }.write_u32(Address(loader::LOOKS), looks)?;
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

    /// The mapping that a site is in. Only code of the process's own is patched: a private mapping, that nobody but a debugger writes to.
    fn private_code(&self, tid: i32, site: u64) -> Result<Code> {
        let end = site + SITE_LEN as u64;
        let covers = |code: &Code| code.start <= site && end <= code.end;
        let space = self.task(tid)?.space.lock();
        if let Some(known) = space.private.iter().find(|code| covers(code)) {
            return Ok(known.clone());
        }
        drop(space);
        let text =
            read_below(&self.host_proc, &format!("{tid}/maps"), MOST_MAPS).ok_or(Errno::ENOENT)?;
        let found = text
            .split(|byte| *byte == b'\n')
            .find_map(|line| Code::of_line(line).filter(|(code, _)| covers(code)));
        match found {
            Some((code, true)) => {
                self.task(tid)?.space.lock().private.push(code.clone());
                Ok(code)
            }
            _ => Err(Errno::EACCES),
        }
    }
}

/// A mapping of code, and which part of which file it is: offset, device and inode, as /proc/PID/maps tells them.
#[derive(Debug, Clone)]
pub struct Code {
    pub start: u64,
    pub end: u64,
    file: String,
}

impl Code {
    /// By a line of /proc/PID/maps; and whether it is private code.
    fn of_line(line: &[u8]) -> Option<(Self, bool)> {
        let fields: Vec<&str> = line
            .split(|byte| *byte == b' ')
            .take(5)
            .map_while(|field| std::str::from_utf8(field).ok())
            .collect();
        let [range, protection, offset, device, inode] = fields[..] else {
            return None;
        };
        let (low, high) = range.split_once('-')?;
        let code = Self {
            start: u64::from_str_radix(low, 16).ok()?,
            end: u64::from_str_radix(high, 16).ok()?,
            file: format!("{offset} {device} {inode}"),
        };
        Some((code, protection == "r-xp"))
    }
}

/// Where in it the C library's sched_yield(3) is. Once for each file.
fn search(memory: &Memory, code: &Code) -> Option<u64> {
    let len = usize::try_from(code.end - code.start).ok()?;
    if len > MOST_CODE || code.file.ends_with(" 0") {
        return None;
    }
    let mut bytes = vec![0; len];
    memory.read(Address(code.start), &mut bytes).ok()?;
    fast::find_yield(&bytes).map(|at| at as u64)
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
        Goal::Map(Wanted {
            address,
            len,
            is_writable,
            number,
            ..
        }) => {
            let protection = if *is_writable {
                data
            } else {
                libc::PROT_READ as u64
            };
            let dontfork = libc::MADV_DONTFORK as u64;
            vec![
                call(
                    libc::SYS_mmap,
                    [*address, *len, protection, shared, *number, 0],
                ),
                call(libc::SYS_madvise, [*address, *len, dontfork, 0, 0, 0]),
                // The file is not to be held by more than its mapping.
                call(libc::SYS_close, [*number, 0, 0, 0, 0, 0]),
            ]
        }
        Goal::Unmap(windows) => windows
            .iter()
            .map(|(address, len)| call(libc::SYS_munmap, [*address, *len, 0, 0, 0, 0]))
            .collect(),
    }
}
