//! Why a machine or a program is not there, or no more.

use casemate_guest_protocol::LinkError;

use crate::messages::Event;

/// Why there is no machine, or no program in it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(super) op: String,
    pub(super) index: i64,
    pub(super) errno: i32,
    pub(super) message: String,
}

impl Failure {
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self {
            op: "machine".into(),
            index: -1,
            errno: 0,
            message: message.into(),
        }
    }

    pub(super) fn event(self) -> Event {
        Event::Error {
            op: self.op,
            index: self.index,
            errno: self.errno,
            message: self.message,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or(0),
            ..Self::plain(error.to_string())
        }
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::plain(format!("the guest: {error}"))
    }
}
