//! Typing: what becomes of each byte that comes from the keyboard. Linux: drivers/tty/n_tty.c n_tty_receive_char_special().

use libc::{
    VEOF, VEOL, VEOL2, VERASE, VINTR, VKILL, VLNEXT, VQUIT, VREPRINT, VSTART, VSTOP, VSUSP, VWERASE,
};

use super::state::{Cell, INPUT_MAX, Mark, State};
use super::termios::{
    ECHO, ECHOCTL, ECHONL, EXTPROC, ICRNL, IEXTEN, IGNCR, INLCR, ISIG, ISTRIP, IUCLC, IXANY, IXON,
    NOFLSH, PARMRK,
};

const SIGNALS: [(usize, i32); 3] = [
    (VINTR, libc::SIGINT),
    (VQUIT, libc::SIGQUIT),
    (VSUSP, libc::SIGTSTP),
];

impl State {
    /// Takes bytes from the keyboard's side; what the discipline has no room for stays in `incoming`.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.incoming.extend(bytes);
        self.receive_waiting();
    }

    pub fn receive_waiting(&mut self) {
        let mut has_received = false;
        while self.has_room()
            && let Some(byte) = self.incoming.pop_front()
        {
            self.receive_byte(byte);
            has_received = true;
        }
        // Of lines `end_line` tells. Linux: __receive_buf().
        let by_line = self.termios.canonical() && !self.termios.has_local(EXTPROC);
        if has_received && !by_line && !self.input.is_empty() {
            self.typed_news += 1;
        }
    }

    /// An overlong line may still be edited and ended: its last byte is overwritten meanwhile.
    fn has_room(&self) -> bool {
        self.input.len() + 1 < INPUT_MAX || (self.termios.canonical() && self.complete == 0)
    }

    fn keep(&mut self, byte: u8, mark: Mark) {
        if self.input.len() >= INPUT_MAX {
            self.input.pop_back();
        }
        self.input.push_back(Cell { byte, mark });
    }

    fn receive_byte(&mut self, byte: u8) {
        let mut byte = byte;
        if self.termios.has_input(ISTRIP) {
            byte &= 0x7F;
        }
        if self.termios.has_input(IUCLC) && self.termios.has_local(IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if std::mem::take(&mut self.takes_next_literally) {
            self.receive_plain(byte, false);
        } else if self.termios.has_local(EXTPROC) {
            self.keep(byte, Mark::Plain);
        } else {
            self.receive_special(byte);
        }
    }

    /// `ends_line`: a carriage return that became a newline is echoed as one; a newline that means nothing, by its name.
    fn receive_plain(&mut self, byte: u8, ends_line: bool) {
        self.resume_by_any();
        if self.termios.has_local(ECHO) {
            self.finish_erasing();
            if ends_line {
                self.echo_raw(b'\n');
            } else {
                self.echo_first(byte);
            }
        }
        if byte == 0xFF && self.termios.has_input(PARMRK) {
            self.keep(byte, Mark::Plain);
        }
        self.keep(byte, Mark::Plain);
    }

    /// Echoes a byte of a line; the column of its first is where erasing goes back to.
    fn echo_first(&mut self, byte: u8) {
        if self.complete == self.input.len() {
            self.line_column = self.column;
        }
        self.echo(byte);
    }

    fn resume_by_any(&mut self) {
        let any = self.termios.has_input(IXON) && self.termios.has_input(IXANY);
        if self.is_stopped && !self.is_stopped_by_call && any {
            self.start();
        }
    }

    fn receive_special(&mut self, byte: u8) {
        let termios = self.termios;
        if termios.has_input(IXON) {
            if termios.is_char(byte, VSTART) {
                if !self.is_stopped_by_call {
                    self.start();
                }
                return;
            }
            if termios.is_char(byte, VSTOP) {
                return self.stop();
            }
        }
        if termios.has_local(ISIG)
            && let Some((_, signal)) = SIGNALS
                .iter()
                .find(|(index, _)| termios.is_char(byte, *index))
        {
            return self.receive_signal(byte, *signal);
        }
        self.resume_by_any();
        let typed = byte;
        let byte = match typed {
            b'\r' if termios.has_input(IGNCR) => return,
            b'\r' if termios.has_input(ICRNL) => b'\n',
            b'\n' if termios.has_input(INLCR) => b'\r',
            byte => byte,
        };
        if !termios.canonical() || !self.edit(byte) {
            self.receive_plain(byte, typed == b'\r' && byte == b'\n');
        }
    }

    fn receive_signal(&mut self, byte: u8, signal: i32) {
        self.signals.push(signal);
        if !self.termios.has_local(NOFLSH) {
            self.flush_output();
            self.flush_input();
        }
        if self.termios.has_input(IXON) && !self.is_stopped_by_call {
            self.start();
        }
        if self.termios.has_local(ECHO) {
            self.echo(byte);
        }
    }

    /// The bytes that edit or end a line; false for all others.
    fn edit(&mut self, byte: u8) -> bool {
        let termios = self.termios;
        let extended = termios.has_local(IEXTEN);
        let echoes = termios.has_local(ECHO);
        let is = |index| termios.is_char(byte, index);
        if is(VERASE) || is(VKILL) || is(VWERASE) && extended {
            self.erase(byte);
        } else if is(VLNEXT) && extended {
            self.takes_next_literally = true;
            if echoes {
                self.finish_erasing();
                if termios.has_local(ECHOCTL) {
                    self.echo_raw(b'^');
                    self.echo_raw(0x08);
                }
            }
        } else if is(VREPRINT) && echoes && extended {
            self.reprint(byte);
        } else if byte == b'\n' {
            if echoes || termios.has_local(ECHONL) {
                self.echo_raw(b'\n');
            }
            self.end_line(byte, Mark::Line);
        } else if is(VEOF) {
            self.end_line(0, Mark::End);
        } else if is(VEOL) || is(VEOL2) && extended {
            if echoes {
                self.echo_first(byte);
            }
            if byte == 0xFF && termios.has_input(PARMRK) {
                self.keep(byte, Mark::Plain);
            }
            self.end_line(byte, Mark::Line);
        } else {
            return false;
        }
        true
    }

    fn end_line(&mut self, byte: u8, mark: Mark) {
        self.keep(byte, mark);
        self.complete = self.input.len();
        self.typed_news += 1;
    }

    fn reprint(&mut self, byte: u8) {
        self.finish_erasing();
        self.echo(byte);
        self.echo_raw(b'\n');
        for index in self.complete..self.input.len() {
            self.echo(self.input[index].byte);
        }
    }
}
