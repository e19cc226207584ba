//! The few devices of a PC that remain.
pub(crate) mod boot_timer;
pub(crate) mod keyboard;
pub(crate) mod output;
pub(crate) mod serial;
