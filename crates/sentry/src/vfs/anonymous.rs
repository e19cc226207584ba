//! Files without a place: what the host's kernel calls anonymous inodes.

use super::attributes::Attributes;

/// The attributes that all of them share: no type, no size. Linux: fs/anon_inodes.c.
#[must_use]
pub fn attributes() -> Attributes {
    Attributes {
        dev: 15,
        ino: 1033,
        mode: 0o600,
        nlink: 1,
        blksize: 4096,
        ..Attributes::default()
    }
}
