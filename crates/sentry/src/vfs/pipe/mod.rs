//! Pipes and FIFOs. pipe(7).

mod buffers;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::buffers::{Buffers, Kind, PAGE};
use super::attributes::Attributes;
use super::description::Description;
use super::fasync::{self, Band};
use super::file::{File, POLLERR, POLLHUP, READABLE, WRITABLE};
use super::place::Place;
use crate::errno::{Errno, Result};
use crate::fast::lines::{Line, Lined};
use crate::kernel::wake::WaitQueue;
use crate::memory::Buffer;

/// Bytes that a pipe holds unless F_SETPIPE_SZ says otherwise.
pub const DEFAULT_CAPACITY: usize = 64 << 10;

#[derive(Debug)]
struct State {
    buffers: Buffers,
    readers: u32,
    writers: u32,
    /// How often an end was ever opened: a FIFO's open waits for the other side's next.
    reader_opens: u64,
    writer_opens: u64,
}

impl State {
    /// As much as there is, or one packet.
    fn read(&mut self, to: &mut Buffer) -> Result<usize> {
        if let Some(len) = self.buffers.packet() {
            let bytes = self.buffers.peek(len.min(to.remaining()));
            if to.put(&bytes)? < bytes.len() {
                return Err(Errno::EFAULT);
            }
            // What there was no room for is lost.
            self.buffers.consume(len);
            return Ok(bytes.len());
        }
        let mut done = 0;
        while to.remaining() > 0 && self.buffers.packet().is_none() && !self.buffers.is_empty() {
            let front = self.buffers.front();
            let len = front.len().min(to.remaining());
            match to.put(&front[..len]) {
                Ok(count) => {
                    self.buffers.consume(count);
                    done += count;
                    if count < len {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

#[derive(Debug)]
pub struct Pipe {
    state: Mutex<State>,
    /// One queue for both sides: who is woken looks again.
    queue: WaitQueue,
    /// Those who read and have O_ASYNC on, and those who write.
    readers: fasync::List,
    writers: fasync::List,
    attributes: Attributes,
    line: Line,
}

impl Pipe {
    #[must_use]
    pub fn new(attributes: Attributes) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                buffers: Buffers::new(DEFAULT_CAPACITY),
                readers: 0,
                writers: 0,
                reader_opens: 0,
                writer_opens: 0,
            }),
            queue: WaitQueue::default(),
            readers: fasync::List::default(),
            writers: fasync::List::default(),
            attributes,
            line: Line::default(),
        })
    }

    /// For whoever looks at it, by whatever call: all of its bytes are here then.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.bring_back(&mut state);
        state
    }

    /// Cuts the line, with nobody else looking. Whether its reader stands in a call.
    fn bring_back(&self, state: &mut State) -> bool {
        if !self.line.is_open() {
            return false;
        }
        let rest = self.line.cut();
        if let Some(message) = rest.message {
            state.buffers.push(&message, message.len(), Kind::Stream);
        }
        rest.has_reader
    }

    /// For whoever waits, or watches.
    #[must_use]
    pub fn queue(&self) -> &WaitQueue {
        if self.line.is_open() {
            self.cut();
        }
        &self.queue
    }

    #[must_use]
    pub fn capacity(&self) -> usize {
        self.lock().buffers.capacity()
    }

    /// F_SETPIPE_SZ: a power of two of whole pages. `EBUSY` it holds more already.
    pub fn set_capacity(&self, bytes: usize) -> Result<usize> {
        let capacity = bytes
            .max(PAGE)
            .checked_next_power_of_two()
            .ok_or(Errno::EINVAL)?;
        if capacity > 1 << 20 {
            return Err(Errno::EPERM);
        }
        if !self.lock().buffers.set_capacity(capacity) {
            return Err(Errno::EBUSY);
        }
        Ok(capacity)
    }

    /// The next bytes, which stay: splice(2) and tee(2) take them once they have gone on.
    #[must_use]
    pub fn peek(&self, limit: usize) -> Vec<u8> {
        self.lock().buffers.peek(limit)
    }

    pub fn consume(&self, count: usize) {
        let mut state = self.lock();
        let free = state.buffers.free();
        state.buffers.consume(count);
        let has_freed = state.buffers.free() > free;
        drop(state);
        self.queue.wake();
        // Linux: splice(2) tells of whole pages, read(2) of every byte.
        if has_freed {
            self.writers.tell(Band::Out);
        }
    }

    /// For pages of somebody else's.
    #[must_use]
    pub fn room(&self) -> usize {
        self.lock().buffers.free()
    }

    /// Adds what `room` has been asked for.
    pub fn push(&self, bytes: &[u8]) {
        let count = bytes.len();
        self.lock().buffers.push(bytes, count, Kind::Spliced);
        self.queue.wake();
        self.readers.tell(Band::In);
    }

    #[must_use]
    pub fn counts(&self) -> (u32, u32, u64, u64) {
        let state = self.lock();
        (
            state.readers,
            state.writers,
            state.reader_opens,
            state.writer_opens,
        )
    }
}

impl Lined for Pipe {
    fn line(&self) -> &Line {
        &self.line
    }

    fn cut(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.bring_back(&mut state)
    }

    fn open(&self, begin: &mut dyn FnMut()) {
        let state = self.lock();
        let is_empty = state.buffers.is_empty() && state.readers > 0 && state.writers > 0;
        let is_quiet = self.queue.is_quiet() && self.readers.is_empty() && self.writers.is_empty();
        if is_empty && is_quiet {
            begin();
        }
    }
}

/// One end, or for a FIFO opened O_RDWR both.
#[derive(Debug)]
pub struct PipeEnd {
    pub pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    place: Option<Place>,
}

impl PipeEnd {
    #[must_use]
    pub fn new(pipe: Arc<Pipe>, reads: bool, writes: bool, place: Option<Place>) -> Self {
        let mut state = pipe.lock();
        state.readers += u32::from(reads);
        state.writers += u32::from(writes);
        state.reader_opens += u64::from(reads);
        state.writer_opens += u64::from(writes);
        drop(state);
        pipe.queue.wake();
        Self {
            pipe,
            reads,
            writes,
            place,
        }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut state = self.pipe.lock();
        state.readers -= u32::from(self.reads);
        state.writers -= u32::from(self.writes);
        // Linux: pipe_release().
        let is_last_of_a_side = (state.readers == 0) != (state.writers == 0);
        drop(state);
        self.pipe.queue.wake();
        if is_last_of_a_side {
            self.pipe.readers.tell(Band::In);
            self.pipe.writers.tell(Band::Out);
        }
    }
}

impl File for PipeEnd {
    fn read(&self, description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        let mut state = self.pipe.lock();
        if to.remaining() == 0 {
            return Ok(0);
        }
        if state.buffers.is_empty() {
            let is_end = state.writers == 0;
            drop(state);
            // Linux: anon_pipe_read() tells whatever it found, unless it waits.
            if is_end || description.is_nonblocking() {
                self.pipe.writers.tell(Band::Out);
            }
            return if is_end { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let done = state.read(to)?;
        drop(state);
        self.pipe.queue.wake_for(WRITABLE);
        self.pipe.writers.tell(Band::Out);
        Ok(done)
    }

    fn write(
        &self,
        description: &Description,
        from: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        let count = from.remaining();
        if count == 0 {
            return Ok(0);
        }
        let mut state = self.pipe.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        let room = state.buffers.room_for(count);
        if room == 0 {
            drop(state);
            // Of a write that does nothing readers hear, too. Linux: anon_pipe_write().
            if description.is_nonblocking() && from.is_untouched() {
                self.pipe.readers.tell(Band::In);
            }
            return Err(Errno::EAGAIN);
        }
        let bytes = from.take_vec(room)?;
        let kind = if description.flags() & libc::O_DIRECT.cast_unsigned() == 0 {
            Kind::Stream
        } else {
            Kind::Packets
        };
        state.buffers.push(&bytes, count, kind);
        drop(state);
        self.pipe.queue.wake_for(READABLE);
        self.pipe.readers.tell(Band::In);
        Ok(bytes.len())
    }

    fn is_at_once(&self, writes: Option<usize>, may_wait: bool) -> bool {
        let state = self.pipe.lock();
        !may_wait
            || match writes {
                None => !state.buffers.is_empty() || state.writers == 0,
                Some(count) => state.readers == 0 || state.buffers.room_for(count) == count,
            }
    }

    fn poll(&self) -> u32 {
        let state = self.pipe.lock();
        let mut events = 0;
        if self.reads {
            if !state.buffers.is_empty() {
                events |= READABLE;
            }
            if state.writers == 0 && state.writer_opens > 0 {
                events |= POLLHUP;
            }
        }
        if self.writes {
            if state.readers == 0 {
                events |= POLLERR;
            }
            if !state.buffers.is_full() {
                events |= WRITABLE;
            }
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(self.pipe.queue())
    }

    fn fasync(&self) -> [Option<&fasync::List>; 2] {
        [
            self.reads.then_some(&self.pipe.readers),
            self.writes.then_some(&self.pipe.writers),
        ]
    }

    fn lined(&self, writes: bool) -> Option<Arc<dyn Lined>> {
        let is_there = if writes { self.writes } else { self.reads };
        is_there.then(|| self.pipe.clone() as Arc<dyn Lined>)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.pipe.attributes)
    }

    fn readable_bytes(&self) -> Result<usize> {
        Ok(self.pipe.lock().buffers.len())
    }

    fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    fn name(&self) -> Vec<u8> {
        format!("pipe:[{}]", self.pipe.attributes.ino).into_bytes()
    }
}
