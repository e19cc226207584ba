//! Signals that come from outside the sandbox: somebody signals its container, which the host does to the sentry; or the host's terminal does.

use casemate_platform::signals::Came;

use super::Kernel;
use super::signals::{Info, SI_KERNEL, SI_USER};

const SIGHUP: i32 = 1;
const SIGWINCH: i32 = 28;
/// What is passed on: all that can be caught, but for the faults, which are the sentry's own where they come from anywhere, and SIGCHLD, which tells of the
/// zygote. 32 and 33 are the C library's.
const NOT_PASSED: [i32; 11] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCHLD,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
    32,
    33,
];

/// The signals to take from the host.
#[must_use]
pub fn passed() -> Vec<i32> {
    (1..=super::signals::LAST)
        .filter(|signal| !NOT_PASSED.contains(signal))
        .collect()
}

impl Kernel {
    /// The sandbox's first process gets it as from a sender outside of its pid namespace: process 0. pid_namespaces(7).
    pub fn host_signal(&mut self, came: Came) {
        let from_kernel = came.code == SI_KERNEL;
        if from_kernel && let Some(tty) = self.terminals.console.clone() {
            match came.signal {
                SIGWINCH => tty.refresh_size(),
                SIGHUP => tty.hang_up(),
                // What else a terminal sends has no cause: it is raw, and the sentry's group in its foreground.
                _ => {}
            }
            return crate::vfs::tty::events::settle(self);
        }
        // SIGPIPE for the sentry's own writing, and the like.
        if from_kernel {
            return;
        }
        self.send_to_process(1, Info::from_sender(came.signal, SI_USER, 0, came.uid));
    }
}
