//! `casemate-engine vmm`: a virtual machine monitor on KVM with Firecracker's REST API.
//!
//! One process is one virtual machine. Its threads: the *loop* (API, sockets, standard input) and one per virtual CPU.
//! A virtual CPU's thread also works the queues its guest rings for: see `devices/virtio/mod.rs` for why.
//!
//! Lock order: a virtio transport, then the serial port. Nobody holds two transports.
//!
//! Whatever the guest can write, memory and registers, and whatever comes over the API socket, is hostile. `raw.rs` is the only
//! file with unsafe code.
#![deny(unsafe_code)]

mod api;
pub mod devices;
mod log;
mod machine;
mod raw;
mod terminal;

pub use devices::virtio;

/// Guest memory without dirty tracking.
pub type Memory = vm_memory::GuestMemoryMmap<()>;
