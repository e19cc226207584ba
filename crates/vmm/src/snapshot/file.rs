//! The state file: magic, version, length, content, checksum over all before it. Numbers are little-endian.
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Saved;
use super::checksum::crc64;

const MAGIC: [u8; 8] = *b"CSMTSNAP";
/// Raised whenever the content's layout changes. Devices have versions of their own, so a change in one does not raise it.
const VERSION: u32 = 1;
/// Magic, version, length.
const HEADER: usize = 20;
const CHECKSUM: usize = 8;
/// 32 processors and 19 devices need less than 1 MiB.
const MAX_CONTENT: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("it cannot be read or written: {0}")]
    Io(#[from] io::Error),
    #[error("it is no snapshot of this monitor: it starts with other bytes")]
    Magic,
    #[error("it has version {0}; this monitor reads version {VERSION}")]
    Version(u32),
    #[error("it says that it holds {0} bytes; at most {MAX_CONTENT} are taken")]
    TooLong(u64),
    #[error("it is cut off or has bytes behind its end: {found} bytes instead of {wanted}")]
    Length { found: u64, wanted: u64 },
    #[error("its checksum is wrong: it was changed or is damaged")]
    Checksum,
    #[error("its content cannot be decoded: {0}")]
    Content(String),
}

pub(crate) fn encode(saved: &Saved) -> Result<Vec<u8>, FileError> {
    let content =
        rmp_serde::to_vec(saved).map_err(|error| FileError::Content(error.to_string()))?;
    let length = content.len() as u64;
    if length > MAX_CONTENT {
        return Err(FileError::TooLong(length));
    }
    let mut bytes = Vec::with_capacity(HEADER + content.len() + CHECKSUM);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(content);
    bytes.extend(crc64(&bytes).to_le_bytes());
    Ok(bytes)
}

/// What `bytes`, a whole file, hold. Every length is checked before anything is made of it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Saved, FileError> {
    let short = || FileError::Length {
        found: bytes.len() as u64,
        wanted: (HEADER + CHECKSUM) as u64,
    };
    let (head, rest) = bytes.split_at_checked(HEADER).ok_or_else(short)?;
    let length = content_length(head)?;
    let wanted = length + (HEADER + CHECKSUM) as u64;
    if bytes.len() as u64 != wanted {
        return Err(FileError::Length {
            found: bytes.len() as u64,
            wanted,
        });
    }
    let (content, sum) = rest
        .split_at_checked(rest.len() - CHECKSUM)
        .ok_or_else(short)?;
    let summed = bytes.get(..bytes.len() - CHECKSUM).unwrap_or_default();
    if sum != crc64(summed).to_le_bytes() {
        return Err(FileError::Checksum);
    }
    rmp_serde::from_slice(content).map_err(|error| FileError::Content(error.to_string()))
}

fn content_length(head: &[u8]) -> Result<u64, FileError> {
    let (magic, rest) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(FileError::Magic);
    }
    let (version, length) = rest.split_at(4);
    let version = u32::from_le_bytes(version.try_into().unwrap_or_default());
    if version != VERSION {
        return Err(FileError::Version(version));
    }
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    if length > MAX_CONTENT {
        return Err(FileError::TooLong(length));
    }
    Ok(length)
}

/// The version that this monitor writes and reads.
pub(crate) fn own_version() -> String {
    shown(VERSION)
}

/// The version of a state file, which may be one that this monitor does not read. Nothing else of it is checked.
pub(crate) fn version(path: &Path) -> Result<String, FileError> {
    let mut head = [0; MAGIC.len() + 4];
    open(path)?.read_exact(&mut head)?;
    let (magic, version) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(FileError::Magic);
    }
    Ok(shown(u32::from_le_bytes(
        version.try_into().unwrap_or_default(),
    )))
}

/// In the form of Firecracker's, whose tools read it.
fn shown(version: u32) -> String {
    format!("v{version}.0.0")
}

pub(crate) fn read(path: &Path) -> Result<Saved, FileError> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    // One more than the longest, so that a longer file is seen as one.
    file.take(MAX_CONTENT + (HEADER + CHECKSUM) as u64 + 1)
        .read_to_end(&mut bytes)?;
    decode(&bytes)
}

/// Opens a regular file. Not blocking: a FIFO in its place must not hang the API.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

pub(crate) fn write(mut file: &File, saved: &Saved) -> Result<(), FileError> {
    Ok(file.write_all(&encode(saved)?)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::machine::MachineState;

    fn whole() -> Vec<u8> {
        encode(&Saved {
            monitor: "test".to_owned(),
            config: "{}".to_owned(),
            machine: MachineState::sample(),
        })
        .unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let saved = decode(&whole()).unwrap();
        assert_eq!(encode(&saved).unwrap(), whole());
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = whole();
        bytes[8] = 9;
        assert!(matches!(decode(&bytes), Err(FileError::Version(9))));
    }

    #[test]
    fn a_length_is_checked_before_it_is_used() {
        let mut bytes = whole();
        bytes[12..20].fill(0xff);
        assert!(matches!(decode(&bytes), Err(FileError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn any_change_is_refused(places in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..6)) {
            let original = whole();
            let mut bytes = original.clone();
            for (place, change) in places {
                bytes[place.index(original.len())] ^= change;
            }
            prop_assume!(bytes != original);
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn a_part_is_refused(end in any::<prop::sample::Index>()) {
            let bytes = whole();
            prop_assert!(decode(&bytes[..end.index(bytes.len())]).is_err());
        }

        #[test]
        fn more_is_refused(more in prop::collection::vec(any::<u8>(), 1..64)) {
            let mut bytes = whole();
            bytes.extend(more);
            prop_assert!(decode(&bytes).is_err());
        }

        /// Content of somebody who can sum too: refused or taken, but no panic and no memory without end.
        #[test]
        fn forged_content_does_no_harm(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
            let mut bytes = whole();
            let end = bytes.len() - CHECKSUM;
            for (place, value) in places {
                bytes[HEADER + place.index(end - HEADER)] = value;
            }
            let sum = crc64(&bytes[..end]).to_le_bytes();
            bytes[end..].copy_from_slice(&sum);
            if let Ok(saved) = decode(&bytes) {
                prop_assert!(encode(&saved).is_ok());
            }
        }

        #[test]
        fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
