//! An i8042 keyboard controller: reset, and Ctrl+Alt+Del. Source: IBM PC/AT Technical Reference, "Keyboard Controller".
use std::collections::VecDeque;

use vmm_sys_util::eventfd::EventFd;

use crate::devices::state::{DeviceState, StateError};

/// "8042": not a virtio device, so not one of their numbers.
const KIND: u32 = u32::from_le_bytes(*b"8042");
/// Version of its state: what [`Content`] says.
const STATE: u16 = 1;
/// Control byte, output port, pending command, whether the last byte was one, unread bytes.
type Content = (u8, u8, Option<u8>, bool, Vec<u8>);

const DATA: u16 = 0x60;
const COMMAND: u16 = 0x64;

const READ_CONTROL: u8 = 0x20;
const WRITE_CONTROL: u8 = 0x60;
const DISABLE_MOUSE: u8 = 0xa7;
const SELF_TEST: u8 = 0xaa;
const PORT_TEST: u8 = 0xab;
const DISABLE_KEYBOARD: u8 = 0xad;
const ENABLE_KEYBOARD: u8 = 0xae;
const READ_OUTPUT_PORT: u8 = 0xd0;
const WRITE_OUTPUT_PORT: u8 = 0xd1;
const PULSE_RESET: u8 = 0xfe;

const OUTPUT_FULL: u8 = 1;
const SYSTEM_FLAG: u8 = 1 << 2;
const LAST_WAS_COMMAND: u8 = 1 << 3;
const KEYBOARD_UNLOCKED: u8 = 1 << 4;

const INTERRUPT_ENABLED: u8 = 1;
const KEYBOARD_DISABLED: u8 = 1 << 4;
/// A key's bytes wait here; a guest that never reads makes it no longer.
const BUFFER: usize = 16;
/// Scan code set 2: Ctrl, Alt, Del pressed.
const CTRL_ALT_DEL: [u8; 4] = [0x14, 0x11, 0xe0, 0x71];

#[derive(Debug)]
pub(crate) struct Keyboard {
    interrupt: EventFd,
    control: u8,
    output_port: u8,
    /// The command whose parameter the next byte on the data port is.
    pending: Option<u8>,
    last_was_command: bool,
    buffer: VecDeque<u8>,
}

impl Keyboard {
    pub(crate) fn new(interrupt: EventFd) -> Keyboard {
        Keyboard {
            interrupt,
            control: SYSTEM_FLAG | INTERRUPT_ENABLED,
            output_port: 0,
            pending: None,
            last_was_command: false,
            buffer: VecDeque::new(),
        }
    }

    pub(crate) fn save(&self) -> DeviceState {
        let content = (
            self.control,
            self.output_port,
            self.pending,
            self.last_was_command,
            &self.buffer,
        );
        DeviceState::new(KIND, STATE, &content)
    }

    pub(crate) fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        let (control, output_port, pending, last_was_command, buffer): Content =
            state.read(KIND, STATE)?;
        if buffer.len() > BUFFER {
            return Err(StateError::Unfit("the keyboard's buffer"));
        }
        self.control = control;
        self.output_port = output_port;
        self.pending = pending;
        self.last_was_command = last_was_command;
        self.buffer = buffer.into();
        if !self.buffer.is_empty() {
            self.interrupt();
        }
        Ok(())
    }

    /// Presses Ctrl+Alt+Del. Returns whether the guest can see it: a full buffer or a disabled keyboard loses keys.
    pub(crate) fn press_ctrl_alt_del(&mut self) -> bool {
        let fits = self.buffer.len() + CTRL_ALT_DEL.len() <= BUFFER;
        if !fits || self.control & KEYBOARD_DISABLED != 0 {
            return false;
        }
        self.buffer.extend(CTRL_ALT_DEL);
        self.interrupt();
        true
    }

    pub(crate) fn read(&mut self, port: u16) -> u8 {
        match port {
            DATA => {
                let byte = self.buffer.pop_front().unwrap_or(0);
                if !self.buffer.is_empty() {
                    self.interrupt();
                }
                byte
            }
            COMMAND => {
                let full = if self.buffer.is_empty() {
                    0
                } else {
                    OUTPUT_FULL
                };
                let command = if self.last_was_command {
                    LAST_WAS_COMMAND
                } else {
                    0
                };
                full | command | SYSTEM_FLAG | KEYBOARD_UNLOCKED
            }
            _ => 0,
        }
    }

    /// Takes a byte; returns whether the guest pulled the reset line.
    pub(crate) fn write(&mut self, port: u16, byte: u8) -> bool {
        self.last_was_command = port == COMMAND;
        match port {
            COMMAND => return self.command(byte),
            DATA => match self.pending.take() {
                Some(WRITE_CONTROL) => self.control = byte,
                Some(WRITE_OUTPUT_PORT) => self.output_port = byte,
                // A command for the keyboard itself: acknowledged, whatever it is.
                _ => self.answer(0xfa),
            },
            _ => {}
        }
        false
    }

    fn command(&mut self, command: u8) -> bool {
        match command {
            READ_CONTROL => self.answer(self.control),
            READ_OUTPUT_PORT => self.answer(self.output_port),
            WRITE_CONTROL | WRITE_OUTPUT_PORT => self.pending = Some(command),
            SELF_TEST => self.answer(0x55),
            PORT_TEST | DISABLE_MOUSE => self.answer(0),
            DISABLE_KEYBOARD => self.control |= KEYBOARD_DISABLED,
            ENABLE_KEYBOARD => self.control &= !KEYBOARD_DISABLED,
            PULSE_RESET => return true,
            _ => {}
        }
        false
    }

    fn answer(&mut self, byte: u8) {
        self.buffer.clear();
        self.buffer.push_back(byte);
        self.interrupt();
    }

    fn interrupt(&self) {
        if self.control & INTERRUPT_ENABLED != 0 {
            // An eventfd's counter cannot fill up with ones while KVM empties it.
            let _ = self.interrupt.write(1);
        }
    }
}
