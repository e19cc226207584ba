//! Free page hinting (virtio 1.2 §5.5.6.6 is silent about the commands; they are those of Linux and QEMU): the guest says which pages
//! hold nothing, once, when it is asked to.
use virtio_queue::Queue;

use super::discard_all;
use crate::Memory;
use crate::virtio::{Broken, Chain, Worked, drain};

/// VIRTIO_BALLOON_CMD_ID_STOP, VIRTIO_BALLOON_CMD_ID_DONE.
const STOP: u32 = 0;
const DONE: u32 = 1;

/// One run after the other: the host's number of the run, and what the guest said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hinting {
    pub host_command: u32,
    pub guest_command: Option<u32>,
    last_run: u32,
    acknowledges: bool,
}

impl Hinting {
    /// A new run. `acknowledges`: its end is told to the guest without being asked for, which frees the pages for its use.
    pub(super) fn start(&mut self, acknowledges: bool) {
        // Numbers that are commands are none of runs.
        self.last_run = self.last_run.wrapping_add(1).max(DONE + 1);
        self.host_command = self.last_run;
        self.acknowledges = acknowledges;
    }

    /// The pages are the guest's again.
    pub(super) fn stop(&mut self) {
        self.host_command = DONE;
    }

    pub(super) fn forget_guest(&mut self) {
        self.guest_command = None;
    }

    /// Takes commands and pages. Returns, with the usual, whether the guest has to hear of a new command.
    pub(super) fn work(
        &mut self,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<(Worked, bool), Broken> {
        let before = self.host_command;
        let worked = drain(queue, memory, |chain| self.take(chain, memory))?;
        Ok((worked, self.host_command != before))
    }

    fn take(&mut self, chain: &Chain, memory: &Memory) -> Result<usize, Broken> {
        let mut command = [0; 4];
        if chain.read(memory, 0, &mut command)? == command.len() {
            let command = u32::from_le_bytes(command);
            self.guest_command = Some(command);
            if command == STOP && self.acknowledges && self.host_command > DONE {
                self.host_command = DONE;
            }
        }
        // Pages of an earlier run may be in use again.
        if self.host_command > DONE && self.guest_command == Some(self.host_command) {
            discard_all(chain, memory)?;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_numbers_that_are_no_commands() {
        let mut hinting = Hinting {
            last_run: u32::MAX - 1,
            ..Hinting::default()
        };
        for number in [u32::MAX, 2, 3] {
            hinting.start(true);
            assert_eq!(hinting.host_command, number);
        }
        hinting.stop();
        assert_eq!(hinting.host_command, DONE);
    }
}
