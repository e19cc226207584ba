//! The jail that programs, and our own engines, enter: credentials, capabilities, landlock, seccomp. All through safe wrappers.
#![forbid(unsafe_code)]

mod capabilities;
pub mod credentials;
pub mod landlock;
pub mod seccomp;

pub use capabilities::mask as capability_mask;

use std::io;

/// What can fail, with its subject.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what}: {source}")]
    Call {
        what: &'static str,
        source: io::Error,
    },
    #[error("unknown capability {0:?}")]
    UnknownCapability(String),
    #[error("landlock: {0}")]
    Landlock(String),
    #[error("{0}")]
    Profile(String),
}

pub(crate) fn call(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Call { what, source }
}

/// Sets `no_new_privs` for this thread and all it will execute.
///
/// # Errors
/// [`Error::Call`].
pub fn no_new_privs() -> Result<(), Error> {
    casemate_host::ids::set_no_new_privs().map_err(call("PR_SET_NO_NEW_PRIVS"))
}
