//! The terminal that programs have: /dev/pts/N, /dev/tty, /dev/console.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Tty;
use super::control::{self, SIGTTIN, SIGTTOU};
use super::termios::TOSTOP;
use crate::errno::{Errno, Result};
use crate::kernel::task::Restart;
use crate::kernel::wake::WaitQueue;
use crate::memory::{Address, Buffer};
use crate::syscalls::{Cx, SysResult, value};
use crate::vfs::attributes::Attributes;
use crate::vfs::description::Description;
use crate::vfs::fasync;
use crate::vfs::file::{File, POLLERR, POLLHUP, READABLE, WRITABLE};
use crate::vfs::place::Place;

/// What one look at the room prints at most.
const CHUNK: usize = 2048;

#[derive(Debug)]
pub struct Slave {
    pub tty: Arc<Tty>,
    place: Place,
    /// Of the node that was opened, where that is not /dev/pts/N.
    attributes: Option<Attributes>,
}

impl Slave {
    /// `EIO`: its master is gone, or has not unlocked it.
    pub fn open(tty: &Arc<Tty>, place: Place, attributes: Option<Attributes>) -> Result<Arc<Self>> {
        let state = tty.lock();
        if state.is_hung_up || state.is_locked || tty.is_closed() {
            return Err(Errno::EIO);
        }
        drop(state);
        tty.change(|state| {
            state.slaves += 1;
            state.has_lost_slaves = false;
        });
        Ok(Arc::new(Self {
            tty: tty.clone(),
            place,
            attributes,
        }))
    }

    /// Reads what there is, whatever VMIN says.
    fn read_now(&self, to: &mut Buffer) -> Result<usize> {
        let state = self.tty.lock();
        if state.available() == 0 {
            return Err(Errno::EAGAIN);
        }
        let (bytes, cells) = state.look(to.remaining());
        drop(state);
        let count = if bytes.is_empty() { 0 } else { to.put(&bytes)? };
        let taken = if count < bytes.len() { count } else { cells };
        self.tty.change(|state| state.consume(taken));
        self.tty.fetch();
        Ok(count)
    }

    /// What is there now, before a read of `room` bytes waits; `Some`: it need not.
    fn satisfies(&self, room: usize, timed_out: bool) -> (bool, usize) {
        let state = self.tty.lock();
        let available = state.available();
        let (min, time) = state.min_and_time();
        if state.is_hung_up {
            return (true, available);
        }
        let wanted = if state.reads_lines() {
            1
        } else {
            min.min(room)
        };
        let enough = if wanted == 0 {
            available > 0 || time == 0 || timed_out
        } else {
            available >= wanted || (timed_out && available > 0)
        };
        (enough, available)
    }

    /// When a read without a line must end: VTIME after its start if VMIN is 0, else after the last byte.
    fn deadline(&self, cx: &Cx<'_>, available: usize) -> Option<Instant> {
        let state = self.tty.lock();
        let (min, time) = state.min_and_time();
        if state.reads_lines() || time == 0 || (min > 0 && available == 0) {
            return None;
        }
        let limit = Some(Duration::from_millis(100 * time));
        if min > 0 && cx.progress() != available as u64 {
            return limit.and_then(|limit| Instant::now().checked_add(limit));
        }
        cx.deadline(limit)
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        self.tty.change(|state| {
            state.slaves -= 1;
            if state.slaves == 0 {
                state.has_lost_slaves = true;
                state.is_exclusive = false;
            }
        });
        if self.tty.lingers() {
            self.tty.defer(super::events::Event::Closed);
        }
    }
}

impl File for Slave {
    fn read(&self, _description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        if to.remaining() == 0 || self.tty.lock().is_hung_up {
            return Ok(0);
        }
        self.read_now(to)
    }

    fn read_call(
        &self,
        cx: &mut Cx<'_>,
        description: &Arc<Description>,
        to: &mut Buffer,
    ) -> Option<SysResult> {
        Some(self.read_waiting(cx, description, to))
    }

    fn before_write(&self, cx: &mut Cx<'_>) -> Result<()> {
        if self.tty.lock().termios.has_local(TOSTOP) {
            control::check_foreground(cx, &self.tty, SIGTTOU)?;
        }
        Ok(())
    }

    fn write(
        &self,
        description: &Description,
        from: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        self.tty.refill_output();
        let mut state = self.tty.lock();
        if state.is_hung_up {
            return Err(Errno::EIO);
        }
        let room = state.output_room();
        state.wants_room |= room == 0 && description.is_nonblocking();
        drop(state);
        if room == 0 {
            return if from.remaining() == 0 {
                Ok(0)
            } else {
                Err(Errno::EAGAIN)
            };
        }
        let bytes = from.take_vec(room.min(CHUNK))?;
        self.tty.change(|state| state.print(&bytes));
        Ok(bytes.len())
    }

    fn poll(&self) -> u32 {
        let state = self.tty.lock();
        if state.is_hung_up {
            return READABLE | WRITABLE | POLLERR | POLLHUP;
        }
        let mut events = 0;
        if state.is_readable() {
            events |= READABLE;
        }
        if state.output_room() > 0 {
            events |= WRITABLE;
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.tty.queue)
    }

    fn fasync(&self) -> [Option<&fasync::List>; 2] {
        [Some(&self.tty.slave_fasync), None]
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes.unwrap_or_else(|| self.tty.attributes()))
    }

    fn ioctl(
        &self,
        cx: &mut Cx<'_>,
        description: &Description,
        request: u32,
        argument: Address,
    ) -> Result<i64> {
        if self.tty.lock().is_hung_up {
            return Err(if request == super::ioctl::TIOCSPGRP {
                Errno::ENOTTY
            } else {
                Errno::EIO
            });
        }
        super::ioctl::slave(cx, &self.tty, description, request, argument)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }

    fn name(&self) -> Vec<u8> {
        format!("/dev/pts/{}", self.tty.number).into_bytes()
    }
}

impl Slave {
    fn read_waiting(
        &self,
        cx: &mut Cx<'_>,
        description: &Arc<Description>,
        to: &mut Buffer,
    ) -> SysResult {
        if self.tty.lock().is_hung_up {
            return value(0);
        }
        control::check_foreground(cx, &self.tty, SIGTTIN)?;
        if to.remaining() == 0 {
            return value(0);
        }
        self.tty.fetch();
        let ticket = cx.ticket()?;
        self.tty.queue.add(ticket);
        let (enough, available) = self.satisfies(to.remaining(), cx.has_timed_out());
        if enough || description.is_nonblocking() {
            return match self.read(description, to, None) {
                // VMIN is 0, and the time is over: nothing is no error.
                Err(Errno::EAGAIN) if enough => value(0),
                other => value(other?),
            };
        }
        let deadline = self.deadline(cx, available);
        cx.wait(ticket, deadline, Restart::IfAsked, available as u64)
    }
}
