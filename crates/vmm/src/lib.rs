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
mod cli;
mod config;
mod controller;
pub mod devices;
mod event_loop;
mod fork;
mod jail;
mod log;
mod machine;
mod raw;
mod seccomp;
mod snapshot;
mod terminal;

use std::process::ExitCode;

pub use devices::virtio;

/// For the fuzzer: what is read of a client's or a file's bytes before anything else is known of them. The first byte says which reader.
#[cfg(feature = "fuzzing")]
pub fn read_hostile(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 4 {
        0 => drop(api::http::parse(bytes, 4096)),
        1 => drop(snapshot::file::decode(bytes)),
        2 => drop(seccomp::compiled(bytes)),
        _ => drop(serde_json::from_slice::<config::VmConfig>(bytes)),
    }
}

/// Guest memory without dirty tracking.
pub type Memory = vm_memory::GuestMemoryMmap<()>;

/// Runs a monitor as `words` (the arguments behind `vmm`) say, until its guest ends.
#[expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the command's own messages"
)]
pub fn run(words: &[&str]) -> ExitCode {
    let options = match cli::parse(words) {
        Ok(cli::Command::Run(options)) => options,
        Ok(cli::Command::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("casemate-engine vmm: {error}");
            return ExitCode::from(2);
        }
    };
    match event_loop::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("casemate-engine vmm: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a monitor in a jail: `words` are the arguments behind `jailer`.
#[expect(clippy::print_stderr, reason = "the command's own messages")]
pub fn run_jailed(words: &[&str]) -> ExitCode {
    match jail::enter(words) {
        Ok(arguments) => run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()),
        Err(error) => {
            eprintln!("casemate-engine jailer: {error}");
            ExitCode::from(2)
        }
    }
}
