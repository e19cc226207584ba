//! Terminals: pseudoterminal pairs, and the sandbox's own terminal. tty(4), pty(7), termios(3).
//!
//! `state` holds a terminal's state and `input`, `erase`, `output`, `take` are its line discipline; `slave` and `master` are what programs open, `ioctl` and
//! `settings` their controls, `control` sessions and job control, `devpts` the directory, `events` what a terminal does to processes.
//!
//! The sandbox's own terminal (`host`) is such a terminal, too, whose other side is the host's pseudoterminal in raw mode. The alternative, to keep the
//! host's discipline and pass settings through, would have two kernels decide about one terminal: the host's sends ^C to its foreground group, which is
//! always the sentry, and stops or refuses by groups that it does not know. So the host only carries bytes, and the size.

pub mod control;
pub mod devpts;
mod erase;
pub mod events;
pub mod given;
pub mod host;
mod input;
pub mod ioctl;
pub mod master;
mod output;
pub(in crate::vfs) mod settings;
pub mod slave;
pub mod state;
mod take;
pub mod termios;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::attributes::Attributes;
use super::fasync::{self, Band};
use crate::control::Reporter;
use crate::errno::{Errno, Result};
use crate::kernel::wake::WaitQueue;
use events::Event;
use state::State;

/// Pseudoterminals at once. Linux: kernel.pty.max.
const MOST: u32 = 4096;

#[derive(Debug)]
pub struct Tty {
    /// N of /dev/pts/N.
    pub number: u32,
    /// Whose terminal it is: a container's kernel, by its number in the sandbox.
    pub kernel: u32,
    pub attributes: Mutex<Attributes>,
    state: Mutex<State>,
    /// One for both sides: who is woken looks again.
    pub queue: WaitQueue,
    slave_fasync: fasync::List,
    master_fasync: fasync::List,
    host: OnceLock<host::HostLine>,
    itself: Weak<Self>,
}

impl Tty {
    fn new(
        (kernel, number): (u32, u32),
        attributes: Attributes,
        state: State,
        host: Option<host::HostLine>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            number,
            kernel,
            attributes: Mutex::new(attributes),
            state: Mutex::new(state),
            queue: WaitQueue::default(),
            slave_fasync: fasync::List::default(),
            master_fasync: fasync::List::default(),
            host: host.map_or_else(OnceLock::new, OnceLock::from),
            itself: itself.clone(),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn attributes(&self) -> Attributes {
        *self
            .attributes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and tells everyone whom that may concern. Not for a mere look: who waits would be woken by its own.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let printed = state.output.len();
        let result = change(&mut state);
        let has_printed = state.output.len() > printed;
        if let Some(host) = self.host.get() {
            host.drain(&mut state);
        }
        let signals = std::mem::take(&mut state.signals);
        let typed = std::mem::take(&mut state.typed_news);
        drop(state);
        for signal in signals {
            self.defer(Event::Signal(signal));
        }
        self.queue.wake();
        for _ in 0..typed {
            self.slave_fasync.tell(Band::In);
        }
        if has_printed {
            self.master_fasync.tell(Band::In);
        }
        result
    }

    fn defer(&self, event: Event) {
        if let Some(itself) = self.itself.upgrade() {
            events::defer(itself, event);
        }
    }

    /// Nobody is at the other side any more: readers find the end, writers EIO, and the session is told.
    pub fn hang_up(&self) {
        let is_new = self.change(|state| !std::mem::replace(&mut state.is_hung_up, true));
        if is_new {
            self.defer(Event::HangUp);
        }
    }
}

/// The terminals of a sandbox, by number.
#[derive(Debug)]
pub struct Terminals {
    pairs: BTreeMap<u32, Weak<Tty>>,
    pub console: Option<Arc<Tty>>,
    /// Closed, but not all that was printed was taken yet.
    pub lingering: Vec<Arc<Tty>>,
    /// Ends that are told once all was printed: whoever hears of one reads no further.
    unprinted: Vec<(Arc<Tty>, Reporter, i32)>,
    /// st_dev of /dev/pts.
    pub device: u64,
    kernel: u32,
}

impl Terminals {
    #[must_use]
    pub fn new(kernel: u32, root: impl std::os::fd::AsFd) -> Self {
        let seen = rustix::fs::statx(
            root,
            "dev/pts",
            rustix::fs::AtFlags::empty(),
            rustix::fs::StatxFlags::BASIC_STATS,
        );
        let device = seen.map_or(super::attributes::device_number(0, 45), |raw| {
            rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor)
        });
        Self {
            pairs: BTreeMap::new(),
            console: None,
            lingering: Vec::new(),
            unprinted: Vec::new(),
            device,
            kernel,
        }
    }

    #[must_use]
    pub fn get(&self, number: u32) -> Option<Arc<Tty>> {
        if let Some(console) = self.console.as_ref().filter(|tty| tty.number == number) {
            return Some(console.clone());
        }
        self.pairs
            .get(&number)
            .and_then(Weak::upgrade)
            .filter(|tty| !tty.lock().is_hung_up)
    }

    /// Numbers in use, ascending.
    #[must_use]
    pub fn numbers(&self) -> Vec<u32> {
        let console = self.console.iter().map(|tty| tty.number);
        let pairs = self.pairs.keys().copied();
        let mut numbers: Vec<u32> = console
            .chain(pairs.filter(|number| self.get(*number).is_some()))
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// A new pair, locked, with the lowest free number. `ENOSPC`: there are too many.
    pub fn add(&mut self, uid: u32, gid: u32) -> Result<Arc<Tty>> {
        let number = self.free_number()?;
        let attributes = devpts::slave_attributes(self.device, number, uid, gid);
        let state = State {
            is_locked: true,
            ..State::default()
        };
        let tty = Tty::new((self.kernel, number), attributes, state, None);
        self.pairs.insert(number, Arc::downgrade(&tty));
        Ok(tty)
    }

    /// A terminal whose other side is the host's. The sandbox's own is number 0, as it is the first of the host's devpts.
    pub fn add_host(
        &mut self,
        fd: OwnedFd,
        is_console: bool,
        (uid, gid): (u32, u32),
    ) -> Result<Arc<Tty>> {
        let (line, size) = host::HostLine::new(fd, is_console)?;
        let number = self.free_number()?;
        let attributes = devpts::slave_attributes(self.device, number, uid, gid);
        let state = State {
            size,
            ..State::default()
        };
        let tty = Tty::new((self.kernel, number), attributes, state, Some(line));
        if is_console {
            self.console = Some(tty.clone());
        } else {
            self.pairs.insert(number, Arc::downgrade(&tty));
        }
        Ok(tty)
    }

    /// Those whose last output the host may not have yet.
    #[must_use]
    pub fn with_output(&self) -> Vec<Arc<Tty>> {
        self.lingering
            .iter()
            .chain(&self.console)
            .cloned()
            .collect()
    }

    fn free_number(&mut self) -> Result<u32> {
        let live = self.numbers();
        self.pairs.retain(|number, _| live.contains(number));
        (0..MOST)
            .find(|number| !live.contains(number))
            .ok_or(Errno::ENOSPC)
    }
}
