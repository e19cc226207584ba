//! Compiles the OCI seccomp object to classic BPF and installs it.
//!
//! The semantics are runc's with libseccomp: rules are tried in the order in which they stand, the first whose conditions all hold decides; a name that this
//! machine's table does not know is skipped.

mod actions;
mod compile;
mod names;

pub use compile::compile;

/// Whether x86-64 has a call of this name.
#[must_use]
pub fn is_call(name: &str) -> bool {
    names::Arch::X86_64.number(name).is_some()
}

use std::os::fd::OwnedFd;

use casemate_host::seccomp::{FLAG_LOG, FLAG_NEW_LISTENER, Instruction, install};

use crate::{Error, call};

/// A compiled filter.
#[derive(Debug)]
pub struct Filter {
    instructions: Vec<Instruction>,
    flags: u64,
}

impl Filter {
    /// The program as the kernel gets it.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Installs the filter on this thread; with `listener`, returns the notify descriptor.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn install(&self, listener: bool, log: bool) -> Result<Option<OwnedFd>, Error> {
        let flags = self.flags
            | if listener { FLAG_NEW_LISTENER } else { 0 }
            | if log { FLAG_LOG } else { 0 };
        install(&self.instructions, flags).map_err(call("seccomp"))
    }
}
