//! A 16550 serial port on COM1, between the guest and the monitor's standard input and output.
use std::io::{self, Write};
use std::ops::Deref;

use vm_superio::serial::{SerialEvents, SerialState};
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::devices::state::{DeviceState, StateError};
use crate::machine::Signal;

/// "COM1": not a virtio device, so not one of their numbers.
const KIND: u32 = u32::from_le_bytes(*b"COM1");
/// Version of its state: nine registers, the input that the guest has not read.
const STATE: u16 = 1;

/// Signals the port's interrupt line.
#[derive(Debug)]
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Tells the loop that the guest has read all input, so that it may hand over more.
#[derive(Debug)]
struct Emptied(Signal);

impl SerialEvents for Emptied {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        self.0.send();
    }
}

pub(crate) struct SerialPort(Serial<Line, Emptied, Box<dyn Write + Send>>);

impl SerialPort {
    pub(crate) fn new(
        interrupt: EventFd,
        emptied: Signal,
        output: Box<dyn Write + Send>,
    ) -> SerialPort {
        SerialPort(Serial::with_events(
            Line(interrupt),
            Emptied(emptied),
            output,
        ))
    }

    /// The port's registers and unread input.
    pub(crate) fn save(&self) -> DeviceState {
        let state = self.0.state();
        let registers = [
            state.baud_divisor_low,
            state.baud_divisor_high,
            state.interrupt_enable,
            state.interrupt_identification,
            state.line_control,
            state.line_status,
            state.modem_control,
            state.modem_status,
            state.scratch,
        ];
        DeviceState::new(KIND, STATE, &(registers, state.in_buffer))
    }

    /// A port as `save` described it. An interrupt that waited is raised again.
    pub(crate) fn restore(
        state: &DeviceState,
        interrupt: EventFd,
        emptied: Signal,
        output: Box<dyn Write + Send>,
    ) -> Result<SerialPort, StateError> {
        let (registers, in_buffer): ([u8; 9], Vec<u8>) = state.read(KIND, STATE)?;
        let [
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
        ] = registers;
        let state = SerialState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
            in_buffer,
        };
        let serial = Serial::from_state(&state, Line(interrupt), Emptied(emptied), output);
        Ok(SerialPort(serial.map_err(|_| {
            StateError::Unfit("the serial port's input")
        })?))
    }

    pub(crate) fn read(&mut self, offset: u8) -> u8 {
        self.0.read(offset)
    }

    /// Takes a byte. A reader that is gone or full loses it: the guest must not be able to hang or end the monitor by printing.
    pub(crate) fn write(&mut self, offset: u8, byte: u8) {
        let _ = self.0.write(offset, byte);
    }

    /// Hands input to the guest; returns how many bytes fitted.
    pub(crate) fn receive(&mut self, input: &[u8]) -> usize {
        let fits = input.len().min(self.0.fifo_capacity());
        if fits == 0 {
            return 0;
        }
        self.0
            .enqueue_raw_bytes(input.get(..fits).unwrap_or_default())
            .unwrap_or(0)
    }
}

impl std::fmt::Debug for SerialPort {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SerialPort").finish_non_exhaustive()
    }
}

impl Deref for Line {
    type Target = EventFd;

    fn deref(&self) -> &EventFd {
        &self.0
    }
}
