//! Sends a guest's port and memory accesses to the device that owns them.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::controller::Shared;
use crate::devices::virtio::Transport;
use crate::devices::{BootTimer, Keyboard, SerialPort};
use crate::log::Log;
use crate::machine::layout::{BOOT_TIMER, VIRTIO_LEN, VIRTIO_START};

const SERIAL: std::ops::RangeInclusive<u16> = 0x3f8..=0x3ff;
const KEYBOARD: [u16; 2] = [0x60, 0x64];

/// All devices of a machine. Which exist is fixed when it starts, so looking one up takes no lock.
#[derive(Debug)]
pub(crate) struct Bus {
    pub(crate) serial: Mutex<SerialPort>,
    pub(crate) keyboard: Mutex<Keyboard>,
    pub(crate) boot_timer: Option<BootTimer>,
    pub(crate) virtio: Vec<Mutex<Transport>>,
    pub(crate) log: Arc<Log>,
    pub(crate) exits: Shared<4>,
    pub(crate) uart: Shared<2>,
}

/// For the metrics, with Firecracker's names.
pub(crate) const EXITS: [&str; 4] = [
    "exit_io_in",
    "exit_io_out",
    "exit_mmio_read",
    "exit_mmio_write",
];
pub(crate) const UART: [&str; 2] = ["read_count", "write_count"];
const IO_IN: usize = 0;
const IO_OUT: usize = 1;
const MMIO_READ: usize = 2;
const MMIO_WRITE: usize = 3;
const READ: usize = 0;
const WRITE: usize = 1;

/// What an access means for the machine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Done,
    /// Make the same write again before the guest runs on: the device gave its lock back in the middle of its work.
    Again,
    Reset,
}

impl Bus {
    pub(crate) fn port_read(&self, port: u16, data: &mut [u8]) {
        self.exits.add(IO_IN, 1);
        // Ports that nothing answers read as ones, as an empty bus does.
        data.fill(0xff);
        let [byte] = data else { return };
        if SERIAL.contains(&port) {
            self.uart.add(READ, 1);
            *byte = lock(&self.serial).read((port - SERIAL.start()).to_le_bytes()[0]);
        } else if KEYBOARD.contains(&port) {
            *byte = lock(&self.keyboard).read(port);
        }
    }

    pub(crate) fn port_write(&self, port: u16, data: &[u8]) -> Output {
        self.exits.add(IO_OUT, 1);
        if SERIAL.contains(&port) {
            self.uart.add(WRITE, data.len() as u64);
            // `rep outsb` arrives as one exit with many bytes.
            let mut serial = lock(&self.serial);
            for byte in data {
                serial.write((port - SERIAL.start()).to_le_bytes()[0], *byte);
            }
        } else if let (true, [byte]) = (KEYBOARD.contains(&port), data) {
            if lock(&self.keyboard).write(port, *byte) {
                return Output::Reset;
            }
        }
        Output::Done
    }

    pub(crate) fn memory_read(&self, address: u64, data: &mut [u8]) {
        self.exits.add(MMIO_READ, 1);
        data.fill(0xff);
        if let Some((transport, offset)) = self.virtio_at(address) {
            lock(transport).read(offset, data);
        }
    }

    pub(crate) fn memory_write(&self, address: u64, data: &[u8]) -> Output {
        self.exits.add(MMIO_WRITE, 1);
        if let Some((transport, offset)) = self.virtio_at(address) {
            if lock(transport).write(offset, data) {
                return Output::Again;
            }
        } else if let (BOOT_TIMER, Some(timer)) = (address, &self.boot_timer) {
            timer.write(data, &self.log);
        }
        Output::Done
    }

    fn virtio_at(&self, address: u64) -> Option<(&Mutex<Transport>, u64)> {
        let offset = address.checked_sub(VIRTIO_START)?;
        let index = usize::try_from(offset / VIRTIO_LEN).ok()?;
        Some((self.virtio.get(index)?, offset % VIRTIO_LEN))
    }
}

/// A device of a thread that panicked is still a device: its state is checked on every access anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
