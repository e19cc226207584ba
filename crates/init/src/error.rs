//! What can fail, with its subject; it travels to the starter as an `error` frame.

use std::io;

/// A failed operation: what was done to what, and the errno behind it (0: none).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub message: String,
    pub errno: i32,
}

impl Error {
    /// An error of a system call, with what was tried.
    pub fn io(what: impl std::fmt::Display, source: &io::Error) -> Self {
        let errno = source.raw_os_error().unwrap_or(0);
        let reason = if errno == 0 {
            source.to_string()
        } else {
            rustix::io::Errno::from_raw_os_error(errno).to_string()
        };
        let reason = reason
            .split(" (os error")
            .next()
            .unwrap_or_default()
            .to_owned();
        Self {
            message: format!("{what}: {reason}"),
            errno,
        }
    }

    /// An error that no system call reported.
    pub fn plain(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            errno: 0,
        }
    }

    pub fn with_errno(message: impl Into<String>, errno: i32) -> Self {
        Self {
            message: message.into(),
            errno,
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Adds the subject to an I/O error.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::io(what(), &source))
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::io(what(), &source.into()))
    }
}
