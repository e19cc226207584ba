//! What a guest reaches by ports and by memory outside its RAM.
mod bus;
mod legacy;
pub mod limiter;
pub mod mmds;
pub mod state;
pub mod virtio;

pub(crate) use bus::{Bus, EXITS, Output, UART, lock};
pub(crate) use legacy::boot_timer::BootTimer;
pub(crate) use legacy::keyboard::Keyboard;
pub(crate) use legacy::output::Output as SerialOutput;
pub(crate) use legacy::serial::SerialPort;
