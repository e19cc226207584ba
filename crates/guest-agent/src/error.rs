//! What can fail, with its subject.

use std::fmt::Display;

#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) message: String,
    pub(crate) errno: i32,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>, errno: i32) -> Self {
        Self {
            message: message.into(),
            errno,
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Adds the subject to an error of a system call.
pub(crate) trait About<T> {
    fn about(self, what: impl Display) -> Result<T>;
}

impl<T> About<T> for std::io::Result<T> {
    fn about(self, what: impl Display) -> Result<T> {
        self.map_err(|error| {
            Error::new(
                format!("{what}: {error}"),
                error.raw_os_error().unwrap_or(0),
            )
        })
    }
}

impl<T> About<T> for rustix::io::Result<T> {
    fn about(self, what: impl Display) -> Result<T> {
        self.map_err(|errno| Error::new(format!("{what}: {errno}"), errno.raw_os_error()))
    }
}
