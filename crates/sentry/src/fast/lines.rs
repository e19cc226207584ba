//! Lines: two threads of one process that take turns at a pipe, or at a stream of local sockets, hand each other messages without the sentry
//! (`casemate_platform::line`). docs/decisions/2026-11-28-lines.md.
//!
//! A line is open only while nobody else could notice: the file is empty, nobody waits for it or watches it. Whoever looks at the file by any other call
//! cuts the line first (`Pipe::lock`, `UnixSocket::lock`, `File::queue`), which brings what was not read back to where everybody finds it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use casemate_platform::channel::Channel;
use casemate_platform::line::{Ends, Rest};
use casemate_platform::notify::Call;

use crate::kernel::Kernel;
use crate::kernel::task::Task;
use crate::vfs::description::Description;

/// Turns that the sentry sees before it opens a line; twice as many after each that was cut soon.
const FIRST_TURNS: u32 = 8;
const MOST_TURNS: u32 = 1024;
/// A line that lasted so long was worth it.
const LONG: Duration = Duration::from_millis(10);

/// One direction of a file that can have a line: it goes to who reads there.
pub trait Lined: Send + Sync + Debug {
    fn line(&self) -> &Line;

    /// Cuts the line, and keeps what was on it. Whether its reader stands in a call.
    fn cut(&self) -> bool;

    /// Has `begin` open the line if nothing is there to be read, nobody waits for anything, or watches, and reads and writes do nothing but move bytes. Nobody
    /// else looks at the file meanwhile, not from another container either.
    fn open(&self, begin: &mut dyn FnMut());
}

/// Whether the call is one that a line could serve: read(2), and recv(2) without a flag.
#[must_use]
pub fn reads(call: &Call) -> bool {
    let nr = i64::from(call.nr);
    nr == libc::SYS_read || nr == libc::SYS_recvfrom && is_bare(call)
}

/// write(2), send(2) likewise.
fn writes(call: &Call) -> bool {
    let nr = i64::from(call.nr);
    nr == libc::SYS_write || nr == libc::SYS_sendto && is_bare(call)
}

/// No flags, no address.
fn is_bare(call: &Call) -> bool {
    call.args[3] as u32 == 0 && call.args[4] == 0
}

/// A thread (native id) and its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    tid: i32,
    fd: i32,
}

#[derive(Debug)]
struct Open {
    channel: Arc<Channel>,
    ends: Ends,
    reader: End,
    since: Instant,
}

#[derive(Debug)]
struct State {
    writer: Option<End>,
    reader: Option<End>,
    was_written: bool,
    turns: u32,
    wanted: u32,
    open: Option<Open>,
}

/// Who takes turns at one direction of a file, and the line that it has.
#[derive(Debug)]
pub struct Line {
    is_open: AtomicBool,
    state: Mutex<State>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            is_open: AtomicBool::new(false),
            state: Mutex::new(State {
                writer: None,
                reader: None,
                was_written: false,
                turns: 0,
                wanted: FIRST_TURNS,
                open: None,
            }),
        }
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Cuts it. The file puts back what was on it.
    pub fn cut(&self) -> Rest {
        let mut state = self.lock();
        let Some(open) = state.open.take() else {
            return Rest::default();
        };
        self.is_open.store(false, Ordering::Relaxed);
        state.turns = 0;
        state.wanted = if open.since.elapsed() >= LONG {
            FIRST_TURNS
        } else {
            (state.wanted * 2).min(MOST_TURNS)
        };
        open.channel.cut_line(open.ends)
    }

    /// The thread whose reads of that descriptor the line serves.
    fn reader_by(&self, fd: i32) -> Option<i32> {
        let state = self.lock();
        let reader = state.open.as_ref()?.reader;
        (reader.fd == fd).then_some(reader.tid)
    }

    /// A write in the ordinary way.
    fn wrote(&self, end: End) {
        let mut state = self.lock();
        if state.was_written || state.writer != Some(end) {
            state.turns = 0;
        }
        state.writer = Some(end);
        state.was_written = true;
    }

    /// A read likewise; both ends, if it is time for a line.
    fn read(&self, end: End) -> Option<(End, End)> {
        let mut state = self.lock();
        if !state.was_written || state.reader != Some(end) {
            state.turns = 0;
        }
        state.reader = Some(end);
        state.was_written = false;
        state.turns += 1;
        let writer = state.writer?;
        (state.turns >= state.wanted && writer.tid != end.tid).then_some((end, writer))
    }
}

/// A slot's part: the files whose lines end and begin there.
#[derive(Debug, Default)]
pub struct Lines {
    reads: Option<Weak<dyn Lined>>,
    writes: Option<Weak<dyn Lined>>,
}

impl Lines {
    /// Its thread's calls come in the ordinary way again.
    pub fn cut(&mut self) {
        for file in [self.reads.take(), self.writes.take()] {
            if let Some(file) = file.and_then(|file| file.upgrade()) {
                file.cut();
            }
        }
    }
}

/// Whose descriptor was closed while it stood in a read of a line: the call that it makes now is of the file that it was.
#[derive(Debug)]
pub struct Detached {
    fd: i32,
    description: Arc<Description>,
    has_come: bool,
}

impl Task {
    /// The description that a descriptor of the call stood for when the call began, if that is not what it stands for now.
    #[must_use]
    pub fn detached(&self, call: &Call, fd: i32) -> Option<Arc<Description>> {
        let detached = self.detached.as_ref()?;
        (detached.is_of(call) && detached.fd == fd).then(|| detached.description.clone())
    }
}

impl Detached {
    fn is_of(&self, call: &Call) -> bool {
        reads(call) && call.args[0] as i32 == self.fd
    }
}

impl Kernel {
    /// A call has come in the ordinary way: only the first one after its line's end is of the file that was.
    pub(super) fn note_detached(&mut self, call: &Call) {
        if let Ok(task) = self.task_mut(call.tid)
            && let Some(detached) = &mut task.detached
        {
            if detached.has_come || !detached.is_of(call) {
                task.detached = None;
            } else {
                detached.has_come = true;
            }
        }
    }

    /// A descriptor is another file's now, or nobody's.
    pub fn descriptor_closed(&mut self, pid: i32, fd: i32, description: &Arc<Description>) {
        if let Some(file) = description.file.lined(false)
            && file.line().is_open()
        {
            let reader = file.line().reader_by(fd);
            if file.cut()
                && let Some(tid) = reader
                && let Some(task) = self.tasks.get_mut(&tid)
            {
                task.detached = Some(Box::new(Detached {
                    fd,
                    description: description.clone(),
                    has_come: false,
                }));
            }
        }
        if let Some(file) = description.file.lined(true) {
            file.cut();
        }
        description.file.flushed(self.owner_number(pid));
    }

    /// A thread's calls are to be asked about, one by one.
    pub fn cut_lines(&mut self, tid: i32) {
        let slot = self.tasks.get_mut(&tid).and_then(|task| task.slot.as_mut());
        if let Some(slot) = slot {
            slot.lines.cut();
        }
    }

    /// A read or write has moved bytes and is about to be answered.
    pub fn note_transfer(&mut self, call: &Call) {
        if !self.fast.has_lines {
            return;
        }
        let writes = writes(call);
        if !writes && !reads(call) {
            return;
        }
        let fd = call.args[0] as i32;
        let Some(task) = self.tasks.get(&call.tid) else {
            return;
        };
        let Ok(description) = task.files.lock().get(fd) else {
            return;
        };
        let Some(file) = description.file.lined(writes) else {
            return;
        };
        let end = End { tid: call.tid, fd };
        if writes {
            let wants_slot = task.wants_slot && task.slot.is_none();
            file.line().wrote(end);
            if wants_slot {
                self.begin_registration(call);
            }
            return;
        }
        if let Some((reader, writer)) = file.line().read(end)
            && !description.is_nonblocking()
        {
            self.open_line(call, &file, reader, writer);
            // It may have become so meanwhile, by a process of another container.
            if description.is_nonblocking() {
                file.cut();
            }
        }
    }

    /// Opens a line, or sees that its threads have what it takes.
    fn open_line(&mut self, call: &Call, file: &Arc<dyn Lined>, reader: End, writer: End) {
        let (Some(reading), Some(writing)) =
            (self.tasks.get(&reader.tid), self.tasks.get(&writer.tid))
        else {
            return;
        };
        let is_free = |task: &Task| task.credentials.filters.is_none() && task.embryo.is_none();
        if reading.pid != writing.pid || !is_free(reading) || !is_free(writing) {
            return;
        }
        // The writer's descriptor may be another's by now.
        let leads_here = writing.files.lock().get(writer.fd).is_ok_and(|found| {
            // Packets are no lines'.
            let is_stream = found.flags() & libc::O_DIRECT.cast_unsigned() == 0;
            let found = (found.is_writable() && is_stream)
                .then(|| found.file.lined(true))
                .flatten();
            found.is_some_and(|found| Arc::as_ptr(&found).addr() == Arc::as_ptr(file).addr())
        });
        if !leads_here {
            return;
        }
        if writing.slot.is_none() {
            if let Ok(task) = self.task_mut(writer.tid) {
                task.wants_slot = true;
            }
        }
        let Some(slot) = self
            .tasks
            .get(&reader.tid)
            .and_then(|task| task.slot.as_ref())
        else {
            return self.begin_registration(call);
        };
        let (channel, own) = (slot.channel.clone(), slot.index);
        let other = self
            .tasks
            .get(&writer.tid)
            .and_then(|task| task.slot.as_ref());
        let Some(other) = other.filter(|other| Arc::ptr_eq(&other.channel, &channel)) else {
            return;
        };
        let other = other.index;
        // One in each direction: what a slot has place for.
        for (tid, is_reader) in [(reader.tid, true), (writer.tid, false)] {
            if let Some(slot) = self.tasks.get_mut(&tid).and_then(|task| task.slot.as_mut()) {
                let half = if is_reader {
                    &mut slot.lines.reads
                } else {
                    &mut slot.lines.writes
                };
                let old = half.replace(Arc::downgrade(file));
                if let Some(old) = old.and_then(|old| old.upgrade()) {
                    old.cut();
                }
            }
        }
        let looks = self.fast.may_look;
        file.open(&mut || {
            let ends = channel.open_line((own, reader.fd), (other, writer.fd), looks);
            let Some(ends) = ends else {
                return;
            };
            let line = file.line();
            line.lock().open = Some(Open {
                channel: channel.clone(),
                ends,
                reader,
                since: Instant::now(),
            });
            line.is_open.store(true, Ordering::Relaxed);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_turns_for_a_while_gets_a_line_and_who_does_not_none() {
        let line = Line::default();
        let (writer, reader) = (End { tid: 1, fd: 5 }, End { tid: 2, fd: 4 });
        for _ in 1..FIRST_TURNS {
            line.wrote(writer);
            assert_eq!(line.read(reader), None);
        }
        line.wrote(writer);
        assert_eq!(line.read(reader), Some((reader, writer)));
        // Two writes for one read, or another writer, begin anew.
        line.wrote(writer);
        line.wrote(writer);
        assert_eq!(line.read(reader), None);
        line.wrote(End { tid: 3, fd: 5 });
        assert_eq!(line.read(reader), None);
    }
}
