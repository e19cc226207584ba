//! Snapshots: a state file, small and checked, and a memory file, as large as the guest's memory and sparse.
//!
//! The memory file is the plain memory, region behind region, as Firecracker's is: tools that merge or compress it work. The state file
//! is ours (`file.rs`). A snapshot is whole from one instant on, the renaming of its state file; before, there is none.
mod checksum;
pub(crate) mod file;
pub(crate) mod handler;
pub(crate) mod memory;
mod pending;
pub(crate) mod request;

use serde::{Deserialize, Serialize};

use crate::machine::MachineState;

/// The content of a state file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// Which monitor wrote it; for people.
    pub(crate) monitor: String,
    /// The machine's configuration as JSON, as `GET /vm/config` shows it: the devices are made anew from it.
    pub(crate) config: String,
    pub(crate) machine: MachineState,
}
