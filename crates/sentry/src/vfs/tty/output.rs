//! Printing: output processing and echo. Linux: drivers/tty/n_tty.c do_output_char(), __process_echoes().

use super::state::State;
use super::termios::{ECHOCTL, IUTF8, OCRNL, OLCUC, ONLCR, ONLRET, ONOCR, OPOST, XTABS};

const TAB: u32 = 8;

#[must_use]
pub(super) fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7F
}

impl State {
    /// A further byte of a character of several.
    #[must_use]
    pub fn is_continuation(&self, byte: u8) -> bool {
        self.termios.has_input(IUTF8) && byte & 0xC0 == 0x80
    }

    /// Prints what a program wrote.
    pub fn print(&mut self, bytes: &[u8]) {
        if !self.termios.has_output(OPOST) {
            self.output.extend(bytes);
            return;
        }
        for byte in bytes {
            let (processed, len) = self.process(*byte);
            self.output.extend(&processed[..len]);
        }
    }

    /// What becomes of a byte, and the column after it. A tab may become eight blanks: that is the most.
    fn process(&mut self, byte: u8) -> ([u8; 8], usize) {
        let one = |byte: u8| ([byte, 0, 0, 0, 0, 0, 0, 0], 1);
        let termios = self.termios;
        match byte {
            b'\n' => {
                if termios.has_output(ONLRET) {
                    self.column = 0;
                }
                if termios.has_output(ONLCR) {
                    (self.column, self.line_column) = (0, 0);
                    return (*b"\r\n\0\0\0\0\0\0", 2);
                }
                self.line_column = self.column;
                one(b'\n')
            }
            b'\r' => {
                if termios.has_output(ONOCR) && self.column == 0 {
                    return ([0; 8], 0);
                }
                if termios.has_output(OCRNL) {
                    if termios.has_output(ONLRET) {
                        (self.column, self.line_column) = (0, 0);
                    }
                    return one(b'\n');
                }
                (self.column, self.line_column) = (0, 0);
                one(b'\r')
            }
            b'\t' => {
                let blanks = TAB - self.column % TAB;
                self.column = self.column.wrapping_add(blanks);
                if termios.output & XTABS == XTABS {
                    return (*b"        ", blanks as usize);
                }
                one(b'\t')
            }
            0x08 => {
                self.column = self.column.saturating_sub(1);
                one(byte)
            }
            _ if is_control(byte) => one(byte),
            _ => {
                if !self.is_continuation(byte) {
                    self.column = self.column.wrapping_add(1);
                }
                one(if termios.has_output(OLCUC) {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                })
            }
        }
    }

    /// Echoes a byte, output processing applied.
    pub fn echo_raw(&mut self, byte: u8) {
        if self.termios.has_output(OPOST) {
            let (processed, len) = self.process(byte);
            self.put_echo(&processed[..len]);
        } else {
            self.put_echo(&[byte]);
        }
    }

    /// Echoes a byte, a control character as ^X if ECHOCTL asks for it.
    pub fn echo(&mut self, byte: u8) {
        if self.termios.has_local(ECHOCTL) && is_control(byte) && byte != b'\t' {
            self.put_echo(&[b'^', byte ^ 0x40]);
            self.column = self.column.wrapping_add(2);
        } else {
            self.echo_raw(byte);
        }
    }

    /// Moves back over an erased tab, before which `columns` of the line (or of what follows an earlier tab) were used.
    pub fn echo_erased_tab(&mut self, columns: u32, follows_tab: bool) {
        let from = if follows_tab { 0 } else { self.line_column };
        let back = TAB - columns.wrapping_add(from) % TAB;
        for _ in 0..back {
            self.put_echo(b"\x08");
            self.column = self.column.saturating_sub(1);
        }
    }
}
