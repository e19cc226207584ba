//! A 16550 serial port on COM1, between the guest and the monitor's standard input and output.
use std::io::{self, Write};
use std::ops::Deref;

use vm_superio::serial::SerialEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::machine::Signal;

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
