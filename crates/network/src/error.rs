//! What can fail, with its subject.

use std::fmt::Display;

use rustix::io::Errno;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub message: String,
    /// 0: no call of the kernel's said it.
    pub errno: i32,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            errno: 0,
        }
    }

    pub(crate) fn of(what: impl Display, errno: Errno) -> Self {
        let reason = errno.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default();
        Self {
            message: format!("{what}: {reason}"),
            errno: errno.raw_os_error(),
        }
    }
}

/// Adds the subject to an error of the kernel's.
pub(crate) trait About<T> {
    fn about(self, what: impl Display) -> Result<T>;
}

impl<T> About<T> for std::result::Result<T, Errno> {
    fn about(self, what: impl Display) -> Result<T> {
        self.map_err(|errno| Error::of(what, errno))
    }
}
