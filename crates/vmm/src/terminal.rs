//! Standard input as the guest's serial line.
use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// A terminal in raw mode; the earlier mode comes back when this is dropped.
#[derive(Debug)]
pub(crate) struct RawTerminal(Option<Termios>);

impl RawTerminal {
    /// Does nothing where standard input is no terminal.
    pub(crate) fn enter() -> RawTerminal {
        let Ok(before) = tcgetattr(io::stdin()) else {
            return RawTerminal(None);
        };
        let mut raw = before.clone();
        raw.make_raw();
        match tcsetattr(io::stdin(), OptionalActions::Now, &raw) {
            Ok(()) => RawTerminal(Some(before)),
            Err(_) => RawTerminal(None),
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing can be done about a terminal that is gone.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
