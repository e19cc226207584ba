//! The other side of a pseudoterminal: what /dev/ptmx opens. pty(7), ptmx(4).

use std::sync::Arc;

use super::Tty;
use super::state::INCOMING_MAX;
use crate::errno::{Errno, Result};
use crate::kernel::wake::WaitQueue;
use crate::memory::{Address, Buffer};
use crate::syscalls::Cx;
use crate::vfs::attributes::Attributes;
use crate::vfs::description::Description;
use crate::vfs::fasync::{self, Band};
use crate::vfs::file::{File, POLLHUP, POLLPRI, READABLE, WRITABLE};
use crate::vfs::place::Place;

const TIOCPKT_DATA: u8 = 0;
const CHUNK: usize = 64 << 10;
/// Bytes left to read at which writers go on. Linux: TTY_THRESHOLD_UNTHROTTLE.
const UNTHROTTLED: usize = 128;

#[derive(Debug)]
pub struct Master {
    pub tty: Arc<Tty>,
    place: Place,
    attributes: Attributes,
}

impl Master {
    /// A new pair: `EIO`, `ENOSPC`.
    pub fn open(cx: &mut Cx<'_>, place: Place, attributes: Attributes) -> Result<Arc<Self>> {
        let who = cx.task()?.credentials.clone();
        let tty = cx.kernel.terminals.add(who.fsuid, who.fsgid)?;
        Ok(Arc::new(Self {
            tty,
            place,
            attributes,
        }))
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        // Of one that was given away, the one outside is left: the host tells when that is closed.
        if self.tty.host.get().is_none() {
            self.tty.hang_up();
        }
    }
}

impl File for Master {
    fn read(&self, _description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let state = self.tty.lock();
        let mut bytes = Vec::new();
        if state.has_packets {
            if state.packet_status != 0 {
                bytes.push(state.packet_status);
            } else if !state.output.is_empty() {
                bytes.push(TIOCPKT_DATA);
            }
        }
        let status = bytes.first().copied().unwrap_or(TIOCPKT_DATA);
        let head = bytes.len();
        if status == 0 {
            let room = to.remaining().min(CHUNK) - head;
            bytes.extend(state.output.iter().take(room));
        }
        if bytes.is_empty() {
            return Err(if state.has_lost_slaves {
                Errno::EIO
            } else {
                Errno::EAGAIN
            });
        }
        drop(state);
        let count = to.put(&bytes)?;
        let has_made_room = self.tty.change(|state| {
            if status != 0 {
                state.packet_status = 0;
            }
            let taken = count.saturating_sub(head).min(state.output.len());
            state.output.drain(..taken);
            state.output.len() <= UNTHROTTLED && std::mem::take(&mut state.wants_room)
        });
        if has_made_room {
            self.tty.slave_fasync.tell(Band::Out);
        }
        Ok(count)
    }

    fn write(
        &self,
        _description: &Description,
        from: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        let state = self.tty.lock();
        let room = INCOMING_MAX.saturating_sub(state.incoming.len());
        drop(state);
        if room == 0 && from.remaining() > 0 {
            return Err(Errno::EAGAIN);
        }
        let bytes = from.take_vec(room)?;
        self.tty.change(|state| state.receive(&bytes));
        Ok(bytes.len())
    }

    fn poll(&self) -> u32 {
        let state = self.tty.lock();
        let mut events = 0;
        if !state.output.is_empty() {
            events |= READABLE;
        }
        if state.has_packets && state.packet_status != 0 {
            events |= READABLE | POLLPRI;
        }
        if state.has_lost_slaves {
            events |= POLLHUP;
        }
        if state.incoming.len() < INCOMING_MAX {
            events |= WRITABLE;
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.tty.queue)
    }

    fn fasync(&self) -> [Option<&fasync::List>; 2] {
        [Some(&self.tty.master_fasync), None]
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes)
    }

    fn ioctl(
        &self,
        cx: &mut Cx<'_>,
        _description: &Description,
        request: u32,
        argument: Address,
    ) -> Result<i64> {
        super::ioctl::master(cx, &self.tty, request, argument)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}
