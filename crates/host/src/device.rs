//! Which device a descriptor is.

use std::os::fd::AsFd;

use rustix::fs::{FileType, fstat, makedev};

/// Whether it is the null device, 1:3 (Linux: Documentation/admin-guide/devices.txt), whatever its name. A descriptor of O_PATH will do.
#[must_use]
pub fn is_null(fd: impl AsFd) -> bool {
    fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == makedev(1, 3)
    })
}
