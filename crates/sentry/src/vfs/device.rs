//! The memory devices: null, zero, full, random, urandom. mem(4), random(4). Known by number, wherever their node lies.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::attributes::{Attributes, device_number};
use super::description::Description;
use super::file::File;
use super::place::Place;
use crate::errno::{Errno, Result};
use crate::memory::Buffer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null,
    Zero,
    Full,
    Random,
}

#[derive(Debug)]
pub struct Device {
    kind: Kind,
    attributes: Attributes,
    place: Place,
    /// The host's node, where mapping it means something (/dev/zero).
    host: Option<OwnedFd>,
}

impl Device {
    /// The device of a node, or `None` if it is not one of these.
    #[must_use]
    pub fn of(attributes: Attributes, place: Place) -> Option<Self> {
        if attributes.kind() != libc::S_IFCHR {
            return None;
        }
        let kind = [
            (3, Kind::Null),
            (5, Kind::Zero),
            (7, Kind::Full),
            (8, Kind::Random),
            (9, Kind::Random),
        ]
        .into_iter()
        .find(|(minor, _)| attributes.rdev == device_number(1, *minor))?
        .1;
        let host = (kind == Kind::Zero).then(|| {
            crate::host::openat(
                rustix::fs::CWD,
                "/dev/zero",
                rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
            .ok()
        });
        Some(Self {
            kind,
            attributes,
            place,
            host: host.flatten(),
        })
    }
}

impl File for Device {
    fn read(&self, _description: &Description, to: &mut Buffer, _at: Option<u64>) -> Result<usize> {
        let mut done = 0;
        let mut bytes = vec![0; to.remaining().min(64 << 10)];
        while to.remaining() > 0 && self.kind != Kind::Null {
            let len = to.remaining().min(bytes.len());
            if self.kind == Kind::Random {
                crate::host::random(&mut bytes[..len])?;
            }
            match to.put(&bytes[..len]) {
                Ok(count) if count == len => done += count,
                Ok(count) => return Ok(done + count),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(
        &self,
        _description: &Description,
        from: &mut Buffer,
        _at: Option<u64>,
    ) -> Result<usize> {
        match self.kind {
            Kind::Full => Err(Errno::ENOSPC),
            _ => Ok(from.remaining()),
        }
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes)
    }

    fn seek(&self, description: &Description, _offset: i64, _whence: i32) -> Result<u64> {
        // Linux: drivers/char/mem.c null_lseek().
        *description.position() = 0;
        Ok(0)
    }

    fn host(&self) -> Option<BorrowedFd<'_>> {
        self.host.as_ref().map(AsFd::as_fd)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }

    fn is_stream(&self) -> bool {
        false
    }
}
