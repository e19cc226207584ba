//! Signals to the relay: those for the program, the terminal's size, and the ends of children.

use casemate_guest_protocol::ToGuest;
use casemate_host::child;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;

use super::{FIRST, Failure, Phase, Relay};
use crate::events::read_signals;

impl Relay {
    pub(super) fn take_signals(&mut self) -> Result<(), Failure> {
        for signal in read_signals(&self.signals) {
            match signal {
                libc::SIGCHLD => {
                    while let Ok(Some(ended)) = child::reap() {
                        if self.hypervisor.is_helper(ended.pid) {
                            let words = self.hypervisor.last_words();
                            return Err(Failure::plain(format!(
                                "the server of the machine's files ended: {words}"
                            )));
                        }
                        if self.hypervisor.is(ended.pid) {
                            // What it has said until then is still in the link.
                            while self.link.receive().is_ok() && self.is_over.is_none() {
                                while let Some(message) = self.link.take()? {
                                    self.heard(message)?;
                                }
                                if !readable(self.link.fd()) {
                                    break;
                                }
                            }
                            if self.is_over.is_none() {
                                return Err(self.machine_ended());
                            }
                        }
                    }
                }
                libc::SIGWINCH if self.config.has_terminal => self.resize(FIRST)?,
                _ if self.phase() == Phase::Runs => self.link.send(&ToGuest::Signal {
                    process: FIRST,
                    signal,
                })?,
                // As the first process of a pid namespace that waits for `start`: nothing but SIGKILL ends it.
                _ => {}
            }
        }
        Ok(())
    }
}

fn readable(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec::default();
    poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
}
