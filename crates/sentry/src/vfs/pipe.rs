//! Pipes and FIFOs. pipe(7).

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attributes::Attributes;
use super::description::Description;
use super::file::{File, POLLERR, POLLHUP, READABLE, WRITABLE};
use super::place::Place;
use crate::errno::{Errno, Result};
use crate::fast::lines::{Line, Lined};
use crate::kernel::wake::WaitQueue;
use crate::memory::{Address, Buffer};
use crate::syscalls::Cx;

/// Bytes that a pipe holds unless F_SETPIPE_SZ says otherwise.
pub const DEFAULT_CAPACITY: usize = 64 << 10;
/// The largest write that is never split. limits.h PIPE_BUF.
const PIPE_BUF: usize = 4096;
const FIONREAD: u32 = 0x541B;

#[derive(Debug)]
struct State {
    bytes: VecDeque<u8>,
    capacity: usize,
    readers: u32,
    writers: u32,
    /// How often an end was ever opened: a FIFO's open waits for the other side's next.
    reader_opens: u64,
    writer_opens: u64,
}

#[derive(Debug)]
pub struct Pipe {
    state: Mutex<State>,
    /// One queue for both sides: who is woken looks again.
    queue: WaitQueue,
    attributes: Attributes,
    line: Line,
}

impl Pipe {
    #[must_use]
    pub fn new(attributes: Attributes) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                bytes: VecDeque::new(),
                capacity: DEFAULT_CAPACITY,
                readers: 0,
                writers: 0,
                reader_opens: 0,
                writer_opens: 0,
            }),
            queue: WaitQueue::default(),
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
        state.bytes.extend(rest.message.unwrap_or_default());
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
        self.lock().capacity
    }

    /// F_SETPIPE_SZ: a power of two of whole pages. `EBUSY` it holds more already.
    pub fn set_capacity(&self, bytes: usize) -> Result<usize> {
        let capacity = bytes
            .max(4096)
            .checked_next_power_of_two()
            .ok_or(Errno::EINVAL)?;
        if capacity > 1 << 20 {
            return Err(Errno::EPERM);
        }
        let mut state = self.lock();
        if state.bytes.len() > capacity {
            return Err(Errno::EBUSY);
        }
        state.capacity = capacity;
        Ok(capacity)
    }

    /// The next bytes, which stay: splice(2) and tee(2) take them once they have gone on.
    #[must_use]
    pub fn peek(&self, limit: usize) -> Vec<u8> {
        self.lock().bytes.iter().take(limit).copied().collect()
    }

    pub fn consume(&self, count: usize) {
        let mut state = self.lock();
        let count = count.min(state.bytes.len());
        state.bytes.drain(..count);
        drop(state);
        self.queue.wake();
    }

    #[must_use]
    pub fn room(&self) -> usize {
        let state = self.lock();
        state.capacity.saturating_sub(state.bytes.len())
    }

    /// Adds what `room` has been asked for.
    pub fn push(&self, bytes: &[u8]) {
        self.lock().bytes.extend(bytes);
        self.queue.wake();
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
        let is_empty = state.bytes.is_empty() && state.readers > 0 && state.writers > 0;
        if is_empty && self.queue.is_quiet() {
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
        drop(state);
        self.pipe.queue.wake();
    }
}

impl File for PipeEnd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        let mut state = self.pipe.lock();
        if to.remaining() == 0 {
            return Ok(0);
        }
        if state.bytes.is_empty() {
            return if state.writers == 0 {
                Ok(0)
            } else {
                Err(Errno::EAGAIN)
            };
        }
        let mut done = 0;
        while to.remaining() > 0 && !state.bytes.is_empty() {
            let front = state.bytes.as_slices().0;
            let len = front.len().min(to.remaining());
            match to.put(&front[..len]) {
                Ok(count) => {
                    state.bytes.drain(..count);
                    done += count;
                    if count < len {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        drop(state);
        self.pipe.queue.wake_for(WRITABLE);
        Ok(done)
    }

    fn write(
        &self,
        _description: &Description,
        from: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        let mut state = self.pipe.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        let room = state.capacity - state.bytes.len().min(state.capacity);
        if room == 0 || (from.remaining() <= PIPE_BUF && from.remaining() > room) {
            return Err(Errno::EAGAIN);
        }
        let bytes = from.take_vec(room)?;
        state.bytes.extend(&bytes);
        drop(state);
        self.pipe.queue.wake_for(READABLE);
        Ok(bytes.len())
    }

    fn is_at_once(&self, writes: Option<usize>, may_wait: bool) -> bool {
        let state = self.pipe.lock();
        !may_wait
            || match writes {
                None => !state.bytes.is_empty() || state.writers == 0,
                Some(count) => {
                    state.readers == 0 || state.bytes.len().saturating_add(count) <= state.capacity
                }
            }
    }

    fn poll(&self) -> u32 {
        let state = self.pipe.lock();
        let mut events = 0;
        if self.reads {
            if !state.bytes.is_empty() {
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
            if state.bytes.len() < state.capacity {
                events |= WRITABLE;
            }
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(self.pipe.queue())
    }

    fn lined(&self, writes: bool) -> Option<Arc<dyn Lined>> {
        let is_there = if writes { self.writes } else { self.reads };
        is_there.then(|| self.pipe.clone() as Arc<dyn Lined>)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.pipe.attributes)
    }

    fn ioctl(
        &self,
        cx: &mut Cx<'_>,
        _description: &Description,
        request: u32,
        argument: Address,
    ) -> Result<i64> {
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let len = self.pipe.lock().bytes.len();
        cx.memory()
            .write_i32(argument, i32::try_from(len).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    fn name(&self) -> Vec<u8> {
        format!("pipe:[{}]", self.pipe.attributes.ino).into_bytes()
    }
}
