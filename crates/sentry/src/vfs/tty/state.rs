//! A terminal's state: settings, what was typed, what was printed. The line discipline (`input`, `erase`, `output`, `take`) is methods of it, free of locks.

use std::collections::VecDeque;

use super::termios::{EXTPROC, ICANON, IXON, Termios};

/// What the discipline holds for readers. Linux: N_TTY_BUF_SIZE.
pub const INPUT_MAX: usize = 4096;
/// What the master may write ahead of the discipline. Linux: tty_buffer_set_limit(.., 8192).
pub const INCOMING_MAX: usize = 8192;
/// What the slave may print ahead of the master's reader.
pub const OUTPUT_MAX: usize = 16 << 10;
/// Echo beyond that is lost: nobody can be made to wait for it.
const ECHO_MAX: usize = 4096;

/// Packet mode's status bits. ioctl_tty(2), TIOCPKT.
pub mod packet {
    pub const FLUSHREAD: u8 = 1;
    pub const FLUSHWRITE: u8 = 2;
    pub const STOP: u8 = 4;
    pub const START: u8 = 8;
    pub const NOSTOP: u8 = 16;
    pub const DOSTOP: u8 = 32;
    pub const IOCTL: u8 = 64;
}

/// What a typed byte is to a canonical reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Plain,
    /// The last of a line.
    Line,
    /// Ends what is read, and is not read itself (VEOF).
    End,
}

#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub byte: u8,
    pub mark: Mark,
}

#[derive(Debug, Default)]
pub struct State {
    pub termios: Termios,
    /// Rows, columns, and both in pixels.
    pub size: [u16; 4],
    pub session: i32,
    pub foreground: i32,
    pub incoming: VecDeque<u8>,
    pub input: VecDeque<Cell>,
    /// How many of `input` belong to complete lines.
    pub complete: usize,
    pub takes_next_literally: bool,
    pub is_erasing: bool,
    pub output: VecDeque<u8>,
    /// Echo while output is stopped.
    pub held_echo: VecDeque<u8>,
    pub column: u32,
    pub line_column: u32,
    pub is_stopped: bool,
    /// By TCXONC: then no typed character starts it again.
    pub is_stopped_by_call: bool,
    pub has_packets: bool,
    pub packet_status: u8,
    pub is_locked: bool,
    pub is_exclusive: bool,
    pub slaves: u32,
    /// The last slave was closed; not so before the first was opened.
    pub has_lost_slaves: bool,
    pub is_hung_up: bool,
    /// How often whoever reads the slave is to be told of something new (`vfs::fasync`).
    pub typed_news: u32,
    /// A write of the slave's found no room: that there is some again is told. Linux: TTY_DO_WRITE_WAKEUP.
    pub wants_room: bool,
    /// Signals for the foreground group, until somebody who has the kernel sends them.
    pub signals: Vec<i32>,
}

impl State {
    /// Changes settings as n_tty_set_termios() and pty_set_termios() do.
    pub fn set_termios(&mut self, new: Termios) {
        let old = std::mem::replace(&mut self.termios, new);
        if (old.local ^ new.local) & (ICANON | EXTPROC) != 0 {
            for cell in &mut self.input {
                cell.mark = Mark::Plain;
            }
            self.complete = 0;
            if new.canonical()
                && let Some(last) = self.input.back_mut()
            {
                last.mark = Mark::Line;
                self.complete = self.input.len();
            }
            self.is_erasing = false;
            self.takes_next_literally = false;
        }
        if old.has_input(IXON)
            && !new.has_input(IXON)
            && self.is_stopped
            && !self.is_stopped_by_call
        {
            self.start();
        }
        let flow = |of: &Termios| {
            of.has_input(IXON) && of.chars[libc::VSTOP] == 0x13 && of.chars[libc::VSTART] == 0x11
        };
        let extended = (old.local | new.local) & EXTPROC != 0;
        if flow(&old) != flow(&new) || extended {
            self.packet_status &= !(packet::DOSTOP | packet::NOSTOP);
            self.tell(if flow(&new) {
                packet::DOSTOP
            } else {
                packet::NOSTOP
            });
            if extended {
                self.tell(packet::IOCTL);
            }
        }
    }

    /// Notes a status for a master in packet mode.
    pub fn tell(&mut self, status: u8) {
        if self.has_packets {
            self.packet_status |= status;
        }
    }

    pub fn stop(&mut self) {
        if !self.is_stopped {
            self.is_stopped = true;
            self.packet_status &= !packet::START;
            self.tell(packet::STOP);
        }
    }

    pub fn start(&mut self) {
        if self.is_stopped {
            self.is_stopped = false;
            self.packet_status &= !packet::STOP;
            self.tell(packet::START);
        }
        let held = std::mem::take(&mut self.held_echo);
        self.output.extend(held);
    }

    pub fn flush_input(&mut self) {
        self.input.clear();
        self.complete = 0;
        self.is_erasing = false;
        self.takes_next_literally = false;
        self.tell(packet::FLUSHREAD);
    }

    pub fn flush_output(&mut self) {
        self.output.clear();
        self.held_echo.clear();
        self.tell(packet::FLUSHWRITE);
    }

    /// A byte on its way to the screen, as it is.
    pub fn put(&mut self, byte: u8) {
        self.output.push_back(byte);
    }

    /// As `put`, for echo: kept while output is stopped, lost where nobody reads.
    pub fn put_echo(&mut self, bytes: &[u8]) {
        let queue = if self.is_stopped {
            &mut self.held_echo
        } else {
            &mut self.output
        };
        if queue.len() < OUTPUT_MAX + ECHO_MAX {
            queue.extend(bytes);
        }
    }

    #[must_use]
    pub fn output_room(&self) -> usize {
        if self.is_stopped {
            0
        } else {
            OUTPUT_MAX.saturating_sub(self.output.len())
        }
    }
}
