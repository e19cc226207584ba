//! What the relay on the host and the agent in a guest say to each other over one stream of bytes (docs/decisions/2026-11-28-guest-protocol.md).
//!
//! Each side treats the other as hostile: frames are bounded, and a stream carries no more bytes than its receiver has allowed.
#![forbid(unsafe_code)]

mod bytes;
mod link;
mod messages;
pub mod network;
mod window;

pub use bytes::Bytes;
pub use link::{Link, LinkError};
pub use messages::{Limits, ProcessRow, Root, Share, Stats, ToGuest, ToHost};
pub use window::{Allowance, Receipt, WINDOW};

/// Both sides are built together; a kernel's initial file system with an older agent is noticed by this number.
pub const VERSION: u32 = 4;
/// The largest frame to the guest: a plan with its seccomp profile, a program's arguments and environment (2 MiB at most, execve(2)).
pub const MAX_TO_GUEST: usize = 8 << 20;
/// The largest frame from the guest, which is hostile.
pub const MAX_TO_HOST: usize = 256 << 10;
/// Bytes of a stream in one frame: small, so that a stream with much to say lets the others in between.
pub const MAX_DATA: usize = 16 << 10;
/// Streams of a process. With a terminal there is only the first, in both directions.
pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
/// Where credit for a connection's bytes is given.
pub const CHANNEL: u8 = 3;
/// Where credit for the bytes of files is given, to process 0.
pub const FILES: u8 = 4;
/// The largest request for files (crates/guest-files): a write of 128 KiB with its records.
pub const MAX_FILE_REQUEST: usize = (128 << 10) + 4096;
