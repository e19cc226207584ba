//! Where lines go. A pipe that is full holds the sandbox up, as strace(1) would; where a write does not wait (O_NONBLOCK, a reader that is gone), lines are lost
//! and counted.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::host;

#[derive(Debug)]
pub struct Sink {
    /// `None`: standard error.
    file: Option<OwnedFd>,
    lost: u64,
}

impl Sink {
    #[must_use]
    pub fn new(file: Option<OwnedFd>) -> Self {
        Self { file, lost: 0 }
    }

    pub(super) fn write(&mut self, line: &str) {
        if self.lost > 0 && self.write_all(&format!("--- {} lines lost ---\n", self.lost)) {
            self.lost = 0;
        }
        if !self.write_all(line) {
            self.lost += 1;
        }
    }

    fn write_all(&self, text: &str) -> bool {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let written = match &self.file {
                Some(file) => host::write(file, rest),
                None => host::write(rustix::stdio::stderr(), rest),
            };
            match written {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }
}
