//! Erasing typed characters, words and lines. Linux: drivers/tty/n_tty.c eraser().

use libc::{VERASE, VKILL};

use super::output::is_control;
use super::state::State;
use super::termios::{ECHO, ECHOCTL, ECHOE, ECHOK, ECHOKE, ECHOPRT};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Character,
    Word,
    Line,
}

impl State {
    /// ECHOPRT shows what is erased between a backslash and a slash.
    pub fn finish_erasing(&mut self) {
        if std::mem::take(&mut self.is_erasing) {
            self.echo_raw(b'/');
        }
    }

    pub fn erase(&mut self, byte: u8) {
        if self.input.len() == self.complete {
            return;
        }
        let kind = if self.termios.is_char(byte, VERASE) {
            Kind::Character
        } else if self.termios.is_char(byte, VKILL) {
            Kind::Line
        } else {
            Kind::Word
        };
        if kind == Kind::Line && !self.can_rub_out() {
            return self.drop_line();
        }
        let mut has_seen_word = false;
        while self.input.len() > self.complete {
            let Some((first, len)) = self.last_character() else {
                break;
            };
            if kind == Kind::Word {
                if is_word(first) {
                    has_seen_word = true;
                } else if has_seen_word {
                    break;
                }
            }
            let rest = self.input.len() - len;
            let erased: Vec<u8> = self.input.drain(rest..).map(|cell| cell.byte).collect();
            if self.termios.has_local(ECHO) {
                self.show_erased(kind, &erased);
            }
            if kind == Kind::Character {
                break;
            }
        }
        if self.input.len() == self.complete && self.termios.has_local(ECHO) {
            self.finish_erasing();
        }
    }

    fn can_rub_out(&self) -> bool {
        [ECHO, ECHOK, ECHOKE, ECHOE]
            .iter()
            .all(|flag| self.termios.has_local(*flag))
    }

    /// A killed line where it is not rubbed out: the character is shown, and a new line begun.
    fn drop_line(&mut self) {
        self.input.truncate(self.complete);
        if !self.termios.has_local(ECHO) {
            return;
        }
        self.finish_erasing();
        self.echo(self.termios.chars[VKILL]);
        if self.termios.has_local(ECHOK) {
            self.echo_raw(b'\n');
        }
    }

    /// The first byte of the last character typed, and how many it has. `None`: only its tail is there, which stays.
    fn last_character(&self) -> Option<(u8, usize)> {
        for index in (self.complete..self.input.len()).rev() {
            let byte = self.input[index].byte;
            if !self.is_continuation(byte) {
                return Some((byte, self.input.len() - index));
            }
        }
        None
    }

    fn show_erased(&mut self, kind: Kind, erased: &[u8]) {
        let Some(first) = erased.first().copied() else {
            return;
        };
        let shows_controls = self.termios.has_local(ECHOCTL);
        if self.termios.has_local(ECHOPRT) {
            if !self.is_erasing {
                self.echo_raw(b'\\');
                self.is_erasing = true;
            }
            self.echo(first);
            for byte in &erased[1..] {
                self.echo_raw(*byte);
                self.column = self.column.saturating_sub(1);
            }
        } else if kind == Kind::Character && !self.termios.has_local(ECHOE) {
            self.echo(self.termios.chars[VERASE]);
        } else if first == b'\t' {
            self.show_erased_tab();
        } else {
            let columns = match (is_control(first), shows_controls) {
                (true, true) => 2,
                (true, false) => 0,
                (false, _) => 1,
            };
            for _ in 0..columns {
                for byte in *b"\x08 \x08" {
                    self.echo_raw(byte);
                }
            }
        }
    }

    fn show_erased_tab(&mut self) {
        let mut columns = 0;
        for index in (self.complete..self.input.len()).rev() {
            let byte = self.input[index].byte;
            if byte == b'\t' {
                return self.echo_erased_tab(columns, true);
            }
            if is_control(byte) {
                columns += if self.termios.has_local(ECHOCTL) {
                    2
                } else {
                    0
                };
            } else if !self.is_continuation(byte) {
                columns += 1;
            }
        }
        self.echo_erased_tab(columns, false);
    }
}

/// isalnum() of Linux' table (Latin-1's letters are), or an underscore.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || (byte >= 0xC0 && byte != 0xD7 && byte != 0xF7)
}
