//! The network of a machine's guests (docs/decisions/2026-11-28-network-of-guests.md): read from a network namespace of the host, joined with tap devices there, and made again in the guest.
//!
//! What rtnetlink(7) answers is the kernel's, but what it tells of was set by others: only what a guest can be given becomes a type.
#![forbid(unsafe_code)]

mod apply;
mod error;
mod kernel;
mod netlink;
mod read;
mod redirect;
mod tap;

pub use apply::apply;
pub use error::Error;
pub use read::read;
pub use redirect::{connect, release};
pub use tap::{Tap, make_taps};
