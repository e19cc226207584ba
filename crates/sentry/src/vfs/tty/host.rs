//! The host's side of the sandbox's own terminal: a pseudoterminal of which `init` made the slave this process's controlling terminal (`do --tty`).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::termios::{
    OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use super::Tty;
use super::state::{INCOMING_MAX, State};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::wake::WaitQueue;
use crate::watcher::HasQueue;

const SIGWINCH: i32 = 28;

#[derive(Debug)]
pub struct HostLine {
    fd: OwnedFd,
    /// The host's settings before it became raw.
    before: Termios,
}

impl HostLine {
    /// Makes the host's terminal carry bytes as they are. The description is this one's alone, so it can be non-blocking.
    pub(super) fn new(fd: OwnedFd) -> Result<(Self, [u16; 4])> {
        let before = tcgetattr(&fd)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&fd, OptionalActions::Now, &raw)?;
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        let size = tcgetwinsize(&fd).map_or([0; 4], to_size);
        Ok((Self { fd, before }, size))
    }

    /// Prints what the host takes now; the rest when it tells that there is room.
    pub(super) fn drain(&self, state: &mut State) {
        while !state.output.is_empty() {
            match rustix::io::write(&self.fd, state.output.as_slices().0) {
                Ok(count) if count > 0 => drop(state.output.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => state.output.clear(),
            }
        }
    }

    /// Takes what was typed, as far as there is room; false if the other side is gone.
    fn fetch(&self, state: &mut State) -> bool {
        loop {
            let room = INCOMING_MAX.saturating_sub(state.incoming.len()).min(4096);
            if room == 0 {
                return true;
            }
            let mut bytes = [0; 4096];
            match rustix::io::read(&self.fd, &mut bytes[..room]) {
                Ok(0) => return false,
                Ok(count) => state.receive(&bytes[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }
}

fn to_size(size: Winsize) -> [u16; 4] {
    [size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel]
}

impl Tty {
    /// The host's terminal, for who watches it.
    #[must_use]
    pub fn host(&self) -> Option<impl AsFd + '_> {
        self.host.as_ref().map(|line| line.fd.as_fd())
    }

    /// Takes what the host has, which tells of it only once.
    pub(super) fn fetch(&self) {
        if let Some(line) = &self.host {
            let mut has_ended = false;
            let mut state = self.lock();
            if state.is_hung_up {
                return;
            }
            let sizes = |state: &State| {
                (
                    state.incoming.len(),
                    state.input.len(),
                    state.complete,
                    state.output.len(),
                )
            };
            let before = sizes(&state);
            has_ended |= !line.fetch(&mut state);
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
    }

    /// Prints what waits for the host's room, before more is added.
    pub(super) fn refill_output(&self) {
        if let Some(line) = &self.host {
            line.drain(&mut self.lock());
        }
    }

    /// Learns the size that the host's terminal has; its programs are told if it is another.
    pub fn refresh_size(&self) {
        if let Some(line) = &self.host
            && let Ok(size) = tcgetwinsize(&line.fd)
        {
            self.set_size(to_size(size));
        }
    }

    pub(super) fn set_size(&self, size: [u16; 4]) {
        if self.lock().size == size {
            return;
        }
        self.change(|state| {
            state.size = size;
            state.signals.push(SIGWINCH);
        });
        if let Some(line) = &self.host {
            let [ws_row, ws_col, ws_xpixel, ws_ypixel] = size;
            let _ = tcsetwinsize(
                &line.fd,
                Winsize {
                    ws_row,
                    ws_col,
                    ws_xpixel,
                    ws_ypixel,
                },
            );
        }
    }

    /// At the sandbox's end: the host's settings come back, after what is still to be printed.
    pub fn close_host(&self, patience: std::time::Duration) {
        let Some(line) = &self.host else { return };
        let until = std::time::Instant::now() + patience;
        let mut state = self.lock();
        loop {
            line.drain(&mut state);
            let left = until.saturating_duration_since(std::time::Instant::now());
            if state.output.is_empty() || left.is_zero() {
                break;
            }
            let mut polled = [rustix::event::PollFd::new(
                &line.fd,
                rustix::event::PollFlags::OUT,
            )];
            let wait = rustix::event::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let _ = rustix::event::poll(&mut polled, Some(&wait));
        }
        let _ = tcsetattr(&line.fd, OptionalActions::Now, &line.before);
    }
}

impl HasQueue for Tty {
    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn on_event(&self, kernel: &mut Kernel) {
        self.fetch();
        self.change(|_| ());
        super::events::settle(kernel);
    }
}

impl Kernel {
    /// The sandbox's own terminal, if `fd` is one: the controlling terminal of this process.
    pub fn add_console(&mut self, fd: &OwnedFd) -> Option<Arc<Tty>> {
        let session = rustix::termios::tcgetsid(fd).ok()?;
        if session != rustix::process::getpid() {
            return None;
        }
        let owner = rustix::fs::fstat(fd).ok()?;
        // A description of its own: the sentry's messages on standard error must be able to wait.
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let copy = self
            .reopen(fd, flags)
            .ok()
            .or_else(|| fd.try_clone().ok())?;
        let tty = self
            .terminals
            .add_console(copy, owner.st_uid, owner.st_gid)
            .ok()?;
        let watched: std::sync::Weak<Tty> = Arc::downgrade(&tty);
        if let Some(host) = tty.host() {
            let _ = self.watcher.watch_file(host, watched);
        }
        Some(tty)
    }
}
