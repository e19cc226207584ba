//! The relay: a container's first process on the host when its program is in a virtual machine (docs/design/microvm.md, "The relay").
//!
//! It starts the hypervisor, speaks with the agent in the guest, carries streams and signals, and ends as the program ends. What it is told by the guest
//! is hostile: frames and streams are bounded, and it executes nothing once the hypervisor runs.
#![forbid(unsafe_code)]

mod agents;
mod cards;
pub mod client;
mod connection;
mod events;
mod files;
mod hypervisor;
mod jail;
mod messages;
mod relay;
mod streams;
mod terminal;
mod vhost;

use std::os::fd::OwnedFd;

use casemate_guest_protocol::{Limits, Root, Share};
use casemate_network::Tap;

pub use relay::run;

/// The machine and its first container.
#[derive(Debug)]
pub struct Config {
    /// Programs that the hypervisor needs beside it, which keep what this process has. In an argument `{listen:PATH}` becomes the number of a socket's descriptor
    /// that listens there, for every user of the jail.
    pub helpers: Vec<Vec<String>>,
    /// Where the relay stands before a helper that serves files.
    pub files: Option<Front>,
    /// The hypervisor; in an argument `{link}` becomes the number of the stream's descriptor, `{monitor}` that of the hypervisor's own, and `{open:PATH}` that of
    /// the file, opened for reading, `{copy:PATH}` that of a copy in memory.
    pub command: Vec<String>,
    /// The guest was booted before and is restored: its agent has said Hello to somebody else. What the hypervisor's monitor is told once it runs.
    pub restored: Option<Vec<String>>,
    /// What the hypervisor's monitor is told as soon as it hears; words in braces as in `command`.
    pub orders: Vec<String>,
    pub env: Vec<String>,
    /// User and group of the hypervisor and of the relay, once the helpers run.
    pub user: (u32, u32),
    /// The hypervisor traces processes of its own.
    pub traces: bool,
    /// For each tap: further words of the command, or lines for a restored guest's monitor, if it takes `orders`. `{place}`, `{tap}` (its descriptor), `{mac}` and
    /// `{mtu}` are the tap's.
    pub card: Vec<String>,
    pub share: Option<Share>,
    /// The first container's root, if it is not the host's directory.
    pub root: Option<Root>,
    pub container: String,
    /// The guest's plan, encoded.
    pub plan: Vec<u8>,
    pub has_terminal: bool,
    pub limits: Limits,
    pub default_action: bool,
    /// Bytes that may be under way to the guest; 0: as many as the stream takes.
    pub link_window: u32,
    /// How long the guest may take to come up.
    pub boot_timeout_s: u32,
}

/// The hypervisor connects to `listen`, is told that the device has this name, and for the rest speaks with who listens at `server`.
#[derive(Debug)]
pub struct Front {
    pub listen: String,
    pub server: String,
    pub name: String,
}

/// What the relay was born with.
#[derive(Debug)]
pub struct Given {
    /// To the starter, until the program runs.
    pub channel: OwnedFd,
    /// Where `start`, `exec` and the other verbs come in.
    pub listen: OwnedFd,
    /// Where connections to the agent come in that is the container's program, if it is one.
    pub agent: Option<OwnedFd>,
    /// The hypervisor's alone.
    pub inherit: Vec<OwnedFd>,
    /// The other ends of the machine's cards.
    pub taps: Vec<Tap>,
    /// Where it is written, at the end, how often a program was killed for the limit of memory.
    pub report: Option<OwnedFd>,
}

/// What a shell would report for wait(2)'s status.
#[must_use]
pub fn shell_code(status: i32) -> i32 {
    if status & 0x7F == 0 {
        status >> 8 & 0xFF
    } else {
        128 + (status & 0x7F)
    }
}
