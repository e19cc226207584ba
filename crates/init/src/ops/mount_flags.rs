//! mount(2)'s flags as the new calls take them: attributes of the mount, parameters of the file system.

use casemate_host::mount as attr;

pub(super) const MS_RDONLY: u64 = 1;
const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;
const MS_SYNCHRONOUS: u64 = 16;
pub(super) const MS_REMOUNT: u64 = 32;
const MS_MANDLOCK: u64 = 64;
const MS_DIRSYNC: u64 = 128;
const MS_NOSYMFOLLOW: u64 = 256;
const MS_NOATIME: u64 = 1024;
const MS_NODIRATIME: u64 = 2048;
pub(super) const MS_BIND: u64 = 4096;
pub(super) const MS_REC: u64 = 16384;
pub(super) const MS_SILENT: u64 = 32768;
const MS_RELATIME: u64 = 1 << 21;
const MS_STRICTATIME: u64 = 1 << 24;
const MS_LAZYTIME: u64 = 1 << 25;

/// The mount's own attributes (`MOUNT_ATTR_*`).
pub(super) fn attributes(flags: u64) -> u64 {
    let pairs = [
        (MS_RDONLY, attr::MOUNT_ATTR_RDONLY),
        (MS_NOSUID, attr::MOUNT_ATTR_NOSUID),
        (MS_NODEV, attr::MOUNT_ATTR_NODEV),
        (MS_NOEXEC, attr::MOUNT_ATTR_NOEXEC),
        (MS_NODIRATIME, attr::MOUNT_ATTR_NODIRATIME),
        (MS_NOSYMFOLLOW, attr::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let plain = pairs
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .fold(0, |all, (_, attribute)| all | attribute);
    let atime = match flags {
        _ if flags & MS_STRICTATIME != 0 => attr::MOUNT_ATTR_STRICTATIME,
        _ if flags & MS_NOATIME != 0 => attr::MOUNT_ATTR_NOATIME,
        _ => 0, // relatime, the kernel's default
    };
    plain | atime
}

/// Whether the flags say anything about access times; if not, a bind mount keeps its source's.
pub(super) fn names_atime(flags: u64) -> bool {
    flags & (MS_NOATIME | MS_STRICTATIME | MS_RELATIME) != 0
}

/// The file system's own flags, as fsconfig(2) keys.
pub(super) fn superblock_flags(flags: u64) -> Vec<&'static std::ffi::CStr> {
    let pairs: [(u64, &std::ffi::CStr); 5] = [
        (MS_RDONLY, c"ro"),
        (MS_SYNCHRONOUS, c"sync"),
        (MS_DIRSYNC, c"dirsync"),
        (MS_MANDLOCK, c"mand"),
        (MS_LAZYTIME, c"lazytime"),
    ];
    pairs
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, key)| *key)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_nosuid_is_both_attributes() {
        assert_eq!(
            attributes(MS_RDONLY | MS_NOSUID),
            attr::MOUNT_ATTR_RDONLY | attr::MOUNT_ATTR_NOSUID
        );
    }

    #[test]
    fn strictatime_wins_over_noatime() {
        assert_eq!(
            attributes(MS_STRICTATIME | MS_NOATIME),
            attr::MOUNT_ATTR_STRICTATIME
        );
    }

    #[test]
    fn relatime_is_the_default_and_still_named() {
        assert_eq!(attributes(MS_RELATIME), 0);
        assert!(names_atime(MS_RELATIME));
    }

    #[test]
    fn only_superblock_flags_are_passed_to_the_file_system() {
        assert_eq!(superblock_flags(MS_NODEV | MS_LAZYTIME), [c"lazytime"]);
    }
}
