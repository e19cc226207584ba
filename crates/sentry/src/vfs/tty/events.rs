//! What a terminal does to processes. Typing, closing and hanging up happen where the kernel is not at hand (a file's last reference may go anywhere), so they
//! are noted here, and done by the worker before it answers the call that caused them.

use std::sync::Arc;

use super::Tty;
use crate::kernel::Kernel;
use crate::kernel::signals::{Info, SI_KERNEL, SIGCONT};
use crate::vfs::deferred::Deferred;

const SIGHUP: i32 = 1;

#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// To the foreground group.
    Signal(i32),
    HangUp,
    /// Nobody has it open any more.
    Closed,
}

static EVENTS: Deferred<(Arc<Tty>, Event)> = Deferred::new();

pub(super) fn defer(tty: Arc<Tty>, event: Event) {
    EVENTS.push(tty.kernel, (tty, event));
}

/// Does what was noted.
pub fn settle(kernel: &mut Kernel) {
    EVENTS.settle(kernel, |kernel, (tty, event)| match event {
        Event::Signal(signal) => {
            let group = tty.lock().foreground;
            if group != 0 {
                kernel.send_to_group(group, signal);
            }
        }
        Event::HangUp => kernel.hang_up_session(&tty),
        Event::Closed => {
            if tty.lingers() {
                kernel.terminals.lingering.push(tty);
            }
        }
    });
}

impl Kernel {
    /// The session loses its terminal, and its leader is told; the leader's own end tells the foreground group. Linux: tty_signal_session_leader().
    fn hang_up_session(&mut self, tty: &Arc<Tty>) {
        let (session, foreground) = tty.change(|state| {
            (
                std::mem::take(&mut state.session),
                std::mem::take(&mut state.foreground),
            )
        });
        self.take_terminal_from(session);
        if let Ok(leader) = self.process_mut(session) {
            leader.hung_up_group = foreground;
            self.send_to_process(session, Info::new(SIGHUP, SI_KERNEL));
            self.send_to_process(session, Info::new(SIGCONT, SI_KERNEL));
        }
    }
}
