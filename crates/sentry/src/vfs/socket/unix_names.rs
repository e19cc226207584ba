//! Addresses of local sockets, and who has them. unix(7), "Address format".

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::unix::{Kind, UnixSocket};
use crate::errno::{Errno, Result};

/// sun_path.
const PATH_ROOM: usize = 108;
/// Autobind's names are five hexadecimal digits.
const AUTOMATIC: u32 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    Unnamed,
    Path(Vec<u8>),
    /// Without the NUL that stands before it.
    Abstract(Vec<u8>),
}

impl Name {
    /// A `struct sockaddr_un`. `EINVAL` too short, too long or another family.
    pub fn parse(address: &[u8]) -> Result<Self> {
        if address.len() < 2 || address.len() > PATH_ROOM + 2 {
            return Err(Errno::EINVAL);
        }
        if address[..2] != (libc::AF_UNIX as u16).to_le_bytes() {
            return Err(Errno::EINVAL);
        }
        Ok(match &address[2..] {
            [] => Self::Unnamed,
            [0, rest @ ..] => Self::Abstract(rest.to_vec()),
            path => {
                let end = path.iter().position(|byte| *byte == 0);
                Self::Path(path[..end.unwrap_or(path.len())].to_vec())
            }
        })
    }

    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = (libc::AF_UNIX as u16).to_le_bytes().to_vec();
        match self {
            Self::Unnamed => {}
            Self::Path(path) => {
                bytes.extend_from_slice(path);
                bytes.push(0);
            }
            Self::Abstract(name) => {
                bytes.push(0);
                bytes.extend_from_slice(name);
            }
        }
        bytes
    }
}

/// The sandbox's bound sockets. Entries of sockets that are gone are dropped when a table has doubled.
#[derive(Debug, Default)]
pub struct Names {
    /// Abstract ones, by type too: each type has names of its own.
    by_name: HashMap<(Kind, Vec<u8>), Weak<UnixSocket>>,
    /// By device and inode of the file that bind made.
    by_file: HashMap<(u64, u64), Weak<UnixSocket>>,
    next_automatic: u32,
    prune_at: usize,
}

fn alive(socket: Option<&Weak<UnixSocket>>) -> Option<Arc<UnixSocket>> {
    socket
        .and_then(Weak::upgrade)
        .filter(|socket| !socket.is_released())
}

impl Names {
    #[must_use]
    pub fn named(&self, kind: Kind, name: &[u8]) -> Option<Arc<UnixSocket>> {
        alive(self.by_name.get(&(kind, name.to_vec())))
    }

    #[must_use]
    pub fn at(&self, file: (u64, u64)) -> Option<Arc<UnixSocket>> {
        alive(self.by_file.get(&file))
    }

    pub fn add_file(&mut self, file: (u64, u64), socket: &Arc<UnixSocket>) {
        self.prune();
        self.by_file.insert(file, Arc::downgrade(socket));
    }

    /// `EADDRINUSE`
    pub fn add_name(&mut self, name: &[u8], socket: &Arc<UnixSocket>) -> Result<()> {
        if self.named(socket.kind, name).is_some() {
            return Err(Errno::EADDRINUSE);
        }
        self.prune();
        self.by_name
            .insert((socket.kind, name.to_vec()), Arc::downgrade(socket));
        Ok(())
    }

    /// A name of the sentry's choice. `ENOSPC` none is left.
    pub fn add_automatic(&mut self, socket: &Arc<UnixSocket>) -> Result<Vec<u8>> {
        for _ in 0..AUTOMATIC {
            self.next_automatic = (self.next_automatic + 1) % AUTOMATIC;
            let name = format!("{:05x}", self.next_automatic).into_bytes();
            if self.add_name(&name, socket).is_ok() {
                return Ok(name);
            }
        }
        Err(Errno::ENOSPC)
    }

    fn prune(&mut self) {
        if self.by_name.len() + self.by_file.len() >= self.prune_at.max(64) {
            self.by_name
                .retain(|_, socket| alive(Some(socket)).is_some());
            self.by_file
                .retain(|_, socket| alive(Some(socket)).is_some());
            self.prune_at = 2 * (self.by_name.len() + self.by_file.len());
        }
    }
}
