//! Reading: what a reader may take of what was typed. termios(3), "Canonical and noncanonical mode".

use libc::{VMIN, VTIME};

use super::state::{Mark, State};
use super::termios::EXTPROC;

impl State {
    #[must_use]
    pub fn reads_lines(&self) -> bool {
        self.termios.canonical() && !self.termios.has_local(EXTPROC)
    }

    /// Bytes, VEOF's marks included, that a reader can have.
    #[must_use]
    pub fn available(&self) -> usize {
        if self.reads_lines() {
            self.complete
        } else {
            self.input.len()
        }
    }

    /// VMIN, and VTIME in tenths of a second.
    #[must_use]
    pub fn min_and_time(&self) -> (usize, u64) {
        let chars = &self.termios.chars;
        (usize::from(chars[VMIN]), u64::from(chars[VTIME]))
    }

    /// FIONREAD: without VEOF's marks.
    #[must_use]
    pub fn readable_bytes(&self) -> usize {
        let cells = self.input.iter().take(self.available());
        cells.filter(|cell| cell.mark != Mark::End).count()
    }

    /// Linux: input_available_p(tty, poll = 1).
    #[must_use]
    pub fn is_readable(&self) -> bool {
        let (min, time) = self.min_and_time();
        let wanted = if self.reads_lines() || time > 0 || min == 0 {
            1
        } else {
            min
        };
        self.available() >= wanted
    }

    /// What a read of `room` bytes gets, and how many cells that uses up; `consume` takes them then.
    #[must_use]
    pub fn look(&self, room: usize) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        let lines = self.reads_lines();
        for (index, cell) in self.input.iter().take(self.available()).enumerate() {
            if lines && cell.mark == Mark::End {
                return (bytes, index + 1);
            }
            if bytes.len() == room {
                return (bytes, index);
            }
            bytes.push(cell.byte);
            if lines && cell.mark == Mark::Line {
                return (bytes, index + 1);
            }
        }
        let used = bytes.len();
        (bytes, used)
    }

    pub fn consume(&mut self, cells: usize) {
        let cells = cells.min(self.input.len());
        self.input.drain(..cells);
        self.complete = self.complete.saturating_sub(cells);
        self.receive_waiting();
    }
}
