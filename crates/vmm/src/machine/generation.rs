//! The generation id: 16 random bytes that are others after each load and each fork, and an interrupt that says so.
//!
//! Two machines that go on from one state have the same keys in the same generators. Linux's `vmgenid` driver mixes the new id into its
//! generator when it hears of it (Microsoft, "Virtual Machine Generation ID"; Linux drivers/virt/vmgenid.c).
use vm_memory::Bytes;
use vmm_sys_util::eventfd::EventFd;

use crate::Memory;
use crate::machine::layout::GENERATION;
use crate::machine::{MachineError, raw_random};

pub(crate) const ID_BYTES: usize = 16;

/// The interrupt that tells the guest to look at its id.
#[derive(Debug)]
pub(crate) struct Generation(EventFd);

impl Generation {
    pub(crate) fn new(line: EventFd) -> Generation {
        Generation(line)
    }

    /// Writes a new id. It has to be there before the guest runs: what it makes of the old one must not be the same twice.
    pub(crate) fn write(memory: &Memory) -> Result<(), MachineError> {
        let id = raw_random()?;
        Ok(memory.write_slice(&id, GENERATION)?)
    }

    /// Tells the guest.
    pub(crate) fn notify(&self) {
        // An eventfd's counter cannot fill up with ones while KVM empties it.
        let _ = self.0.write(1);
    }
}
