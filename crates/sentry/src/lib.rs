//! The sentry: Linux for the programs of one sandbox, in user space. docs/design/sentry.md.
//!
//! A call's way: platform (a notification) > worker > syscalls::<family> > vfs | kernel > back. No layer calls upward. Locks: kernel::wake.
#![forbid(unsafe_code)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "registers are 64 bits wide and the ABI takes the part that a call declares; usize is u64 here"
)]

pub mod boot;
pub mod control;
pub mod errno;
pub mod fast;
pub mod hooks;
pub mod host;
pub mod kernel;
pub mod member;
pub mod memory;
pub mod syscalls;
mod threads;
pub mod trace;
pub mod vfs;
pub mod watcher;
pub mod worker;

pub use boot::{Config, Given, await_zygote, run, start_zygote};
pub use casemate_platform::zygote::{Starting, Zygote};
pub use hooks::Hook;
pub use kernel::machine::Cgroup;
pub use trace::Settings as StraceSettings;
