//! The host's side of a terminal that somebody outside sits before: the slave of a pseudoterminal of the host's. The sandbox's own is this process's
//! controlling terminal (`init` made it that), so the host signals a new size and a hang-up. That of a further program (`exec --tty`) is nobody's on the
//! host, and is asked for its size whenever something is typed.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno as HostErrno;
use rustix::termios::{
    OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use super::devpts::PtsNode;
use super::master::Master;
use super::slave::Slave;
use super::state::{INCOMING_MAX, State};
use super::{Terminals, Tty};
use crate::control::{Report, Reporter};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::wake::WaitQueue;
use crate::vfs::description::Description;
use crate::vfs::place::Place;
use crate::watcher::HasQueue;

const SIGWINCH: i32 = 28;
const CHUNK: usize = 4096;

#[derive(Debug)]
pub struct HostLine {
    /// None once it was closed.
    fd: Mutex<Option<Arc<OwnedFd>>>,
    /// The host's settings before it became raw.
    before: Termios,
    /// The sandbox's own is there as long as the sandbox; a further one is closed by the last that has it open: its reader waits for that.
    is_console: bool,
}

impl HostLine {
    /// Makes the host's terminal carry bytes as they are. The description is this one's alone, so it can be non-blocking.
    pub(super) fn new(fd: OwnedFd, is_console: bool) -> Result<(Self, [u16; 4])> {
        let before = tcgetattr(&fd)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&fd, OptionalActions::Now, &raw)?;
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        let size = tcgetwinsize(&fd).map_or([0; 4], to_size);
        let line = Self {
            fd: Mutex::new(Some(Arc::new(fd))),
            before,
            is_console,
        };
        Ok((line, size))
    }

    fn fd(&self) -> Option<Arc<OwnedFd>> {
        self.fd
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Prints what the host takes now; the rest when it tells that there is room.
    pub(super) fn drain(&self, state: &mut State) {
        let Some(fd) = self.fd() else {
            return state.output.clear();
        };
        while !state.output.is_empty() {
            match crate::host::write(&fd, state.output.as_slices().0) {
                Ok(count) if count > 0 => drop(state.output.drain(..count)),
                Err(HostErrno::INTR) => {}
                Ok(_) | Err(HostErrno::AGAIN) => return,
                Err(_) => state.output.clear(),
            }
        }
        if state.has_lost_slaves && !self.is_console {
            *self.fd.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Takes what was typed, as far as there is room; false if the other side is gone.
    fn fetch(&self, state: &mut State) -> bool {
        let Some(fd) = self.fd() else { return true };
        let mut bytes = [0; CHUNK];
        loop {
            let room = INCOMING_MAX.saturating_sub(state.incoming.len()).min(CHUNK);
            if room == 0 {
                return true;
            }
            match crate::host::read(&fd, &mut bytes[..room]) {
                Ok(0) => return false,
                Ok(count) => state.receive(&bytes[..count]),
                Err(HostErrno::INTR) => {}
                Err(HostErrno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }
}

fn to_size(size: Winsize) -> [u16; 4] {
    [size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel]
}

impl Tty {
    /// The host's terminal, while it is open.
    #[must_use]
    pub fn host(&self) -> Option<Arc<OwnedFd>> {
        self.host.get()?.fd()
    }

    /// Whether its other side was the host's, and is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.host.get().is_some() && self.host().is_none()
    }

    /// Whether it is to be kept although nobody has it open: its reader has not taken all yet.
    #[must_use]
    pub fn lingers(&self) -> bool {
        self.host.get().is_some_and(|line| !line.is_console)
            && self.host().is_some()
            && self.lock().has_lost_slaves
    }

    /// Takes what the host has, which tells of it only once.
    pub(super) fn fetch(&self) {
        let Some(line) = self.host.get() else { return };
        let sizes = |state: &State| {
            let (incoming, output) = (state.incoming.len(), state.output.len());
            (incoming, output, state.input.len(), state.complete)
        };
        let mut state = self.lock();
        if state.is_hung_up {
            return;
        }
        let before = sizes(&state);
        let has_ended = !line.fetch(&mut state);
        // Waking for nothing would have two readers wake each other for ever.
        let is_same = before == sizes(&state) && state.signals.is_empty();
        drop(state);
        if !is_same {
            self.change(|_| ());
        }
        if has_ended {
            self.hang_up();
        }
    }

    /// Prints what waits for the host's room, before more is added.
    pub(super) fn refill_output(&self) {
        if let Some(line) = self.host.get() {
            line.drain(&mut self.lock());
        }
    }

    /// Whether the host has not taken all output yet.
    fn has_unprinted(&self) -> bool {
        self.host().is_some() && !self.lock().output.is_empty()
    }

    /// Learns the size that the host's terminal has; its programs are told if it is another.
    pub fn refresh_size(&self) {
        if let Some(fd) = self.host()
            && let Ok(size) = tcgetwinsize(&fd)
        {
            self.note_size(to_size(size));
        }
    }

    fn note_size(&self, size: [u16; 4]) -> bool {
        if self.lock().size == size {
            return false;
        }
        self.change(|state| {
            state.size = size;
            state.signals.push(SIGWINCH);
        });
        true
    }

    pub(super) fn set_size(&self, size: [u16; 4]) {
        if self.note_size(size)
            && let Some(fd) = self.host()
        {
            let [ws_row, ws_col, ws_xpixel, ws_ypixel] = size;
            let size = Winsize {
                ws_row,
                ws_col,
                ws_xpixel,
                ws_ypixel,
            };
            let _ = tcsetwinsize(&fd, size);
        }
    }

    /// At the sandbox's end: the host's settings come back, after what is still to be printed.
    pub fn close_host(&self, patience: Duration) {
        let Some(line) = self.host.get() else { return };
        let Some(fd) = line.fd() else { return };
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            line.drain(&mut state);
            let left = until.saturating_duration_since(Instant::now());
            if state.output.is_empty() || left.is_zero() {
                break;
            }
            let wait = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let _ = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&wait));
        }
        let _ = tcsetattr(&fd, OptionalActions::Now, &line.before);
    }
}

impl Terminals {
    /// A program that was started from outside has ended. With a reader that takes its time, that is told when the host has all of the output.
    pub fn tell_end(&mut self, terminal: Option<Arc<Tty>>, reporter: Reporter, status: i32) {
        match terminal.filter(|tty| tty.has_unprinted()) {
            Some(tty) => self.unprinted.push((tty, reporter, status)),
            None => reporter.tell(Report::Exited(status)),
        }
    }

    fn tell_ends(&mut self) {
        self.unprinted.retain(|(tty, reporter, status)| {
            let waits = tty.has_unprinted();
            if !waits {
                reporter.tell(Report::Exited(*status));
            }
            waits
        });
    }
}

impl HasQueue for Tty {
    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn on_event(&self, kernel: &mut Kernel) {
        // Before what was typed after the change.
        self.refresh_size();
        self.fetch();
        self.change(|_| ());
        super::events::settle(kernel);
        kernel.terminals.lingering.retain(|tty| tty.lingers());
        kernel.terminals.tell_ends();
    }
}

/// One description, as the streams of a terminal's first program share it.
pub fn open_streams(tty: &Arc<Tty>) -> Result<Arc<Description>> {
    let place = Place::Pts(PtsNode::Slave(tty.number));
    let slave = Slave::open(tty, place, None)?;
    Ok(Description::new(slave, libc::O_RDWR.cast_unsigned()))
}

impl Kernel {
    /// The sandbox's own terminal, if `fd` is one: the controlling terminal of this process.
    pub fn add_console(&mut self, fd: &OwnedFd) -> Option<Arc<Tty>> {
        let session = rustix::termios::tcgetsid(fd).ok()?;
        if session != rustix::process::getpid() {
            return None;
        }
        let owner = crate::host::fstat(fd).ok()?;
        // A description of its own: the sentry's messages on standard error must be able to wait.
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let copy = self
            .reopen(fd, flags)
            .ok()
            .or_else(|| fd.try_clone().ok())?;
        self.add_host_terminal(copy, true, (owner.stx_uid, owner.stx_gid))
            .ok()
    }

    /// The terminal of a further container: its process on the host passes on what the host's terminal says to that.
    pub fn console_of(&mut self, fd: OwnedFd) -> Option<Arc<Description>> {
        let owner = crate::host::fstat(&fd).ok()?;
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let own = self.reopen(&fd, flags).ok().unwrap_or(fd);
        let owner = (owner.stx_uid, owner.stx_gid);
        let tty = self.add_host_terminal(own, true, owner).ok()?;
        open_streams(&tty).ok()
    }

    /// The terminal for a further program, open as its streams are to be.
    pub fn open_host_terminal(
        &mut self,
        fd: OwnedFd,
        owner: (u32, u32),
    ) -> Result<Arc<Description>> {
        open_streams(&self.add_host_terminal(fd, false, owner)?)
    }

    /// The other side of a terminal, for somebody outside: from here on a terminal of the host's carries what its master would have, which only changes
    /// the size. `EBUSY`: it was given away before.
    pub fn export_terminal(&mut self, master: &Master) -> Result<OwnedFd> {
        let [rows, columns, ..] = master.tty.lock().size;
        let (theirs, ours) = crate::control::terminal(&self.root, (columns, rows))?;
        let (line, _) = HostLine::new(ours, false)?;
        master.tty.host.set(line).map_err(|_| Errno::EBUSY)?;
        let watched: Weak<Tty> = Arc::downgrade(&master.tty);
        if let Some(host) = master.tty.host() {
            let _ = self.watcher.watch_file(&*host, watched);
        }
        // What was printed meanwhile.
        master.tty.change(|_| ());
        Ok(theirs)
    }

    fn add_host_terminal(
        &mut self,
        fd: OwnedFd,
        is_console: bool,
        owner: (u32, u32),
    ) -> Result<Arc<Tty>> {
        let tty = self.terminals.add_host(fd, is_console, owner)?;
        let watched: Weak<Tty> = Arc::downgrade(&tty);
        if let Some(host) = tty.host() {
            let _ = self.watcher.watch_file(&*host, watched);
        }
        Ok(tty)
    }

    /// A program that was started with a terminal leads its session.
    pub fn give_started_terminal(&mut self, pid: i32, tid: i32) {
        let stream = self
            .tasks
            .get(&tid)
            .and_then(|task| task.files.lock().get(0).ok());
        let slave = stream
            .as_ref()
            .and_then(|stream| stream.file.downcast_ref::<Slave>());
        if let Some(tty) = slave.map(|slave| slave.tty.clone())
            && tty.host.get().is_some()
            && tty.lock().session == 0
        {
            self.give_terminal(pid, &tty);
        }
    }
}
