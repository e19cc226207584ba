//! Which device a descriptor is.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};

/// Whether it is the null device, 1:3 (Linux: Documentation/admin-guide/devices.txt), whatever its name. A descriptor of O_PATH will do.
/// By statx(2), which the sentry's jail has for all attributes.
#[must_use]
pub fn is_null(fd: impl AsFd) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    statx(fd, "", flags, StatxFlags::BASIC_STATS).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.stx_mode.into()) == FileType::CharacterDevice
            && (stat.stx_rdev_major, stat.stx_rdev_minor) == (1, 3)
    })
}
