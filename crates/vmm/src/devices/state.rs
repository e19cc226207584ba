//! What a device takes along into a snapshot or a fork, as plain data.
//!
//! The host's side of a device, its file or socket, is not part of it: it is opened anew from the configuration, and may be another one.
//! Data that comes from a file is checked as if a guest had written it.
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::virtio::Broken;

/// One device's state: which kind of device wrote it, in which version of its layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    kind: u32,
    version: u16,
    data: Vec<u8>,
}

/// Why a state is refused.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("it is of a device of kind {found}, and this one is of kind {wanted}")]
    Kind { found: u32, wanted: u32 },
    #[error(
        "device kind {kind} wrote it in version {found} of its layout; this monitor reads {wanted}"
    )]
    Version { kind: u32, found: u16, wanted: u16 },
    #[error("device kind {kind}: {reason}")]
    Data { kind: u32, reason: String },
    #[error("{0} does not fit this device")]
    Unfit(&'static str),
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl DeviceState {
    /// Keeps `content` as version `version` of the layout of a device of this kind.
    pub fn new(kind: u32, version: u16, content: &impl Serialize) -> DeviceState {
        // Plain data always encodes: the encoder's errors are those of a writer, and this one is memory. Empty data decodes as nothing.
        let data = rmp_serde::to_vec(content).unwrap_or_default();
        DeviceState {
            kind,
            version,
            data,
        }
    }

    /// The content, if a device of this kind wrote it in this version.
    ///
    /// # Errors
    /// [`StateError`] of all sorts.
    pub fn read<T: DeserializeOwned>(&self, kind: u32, version: u16) -> Result<T, StateError> {
        if self.kind != kind {
            return Err(StateError::Kind {
                found: self.kind,
                wanted: kind,
            });
        }
        if self.version != version {
            return Err(StateError::Version {
                kind,
                found: self.version,
                wanted: version,
            });
        }
        rmp_serde::from_slice(&self.data).map_err(|error| StateError::Data {
            kind,
            reason: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back_and_a_stranger_s_is_refused() {
        let state = DeviceState::new(5, 1, &(7_u32, "x"));
        assert_eq!(
            state.read::<(u32, String)>(5, 1).unwrap(),
            (7, "x".to_owned())
        );
        assert!(matches!(
            state.read::<(u32, String)>(4, 1),
            Err(StateError::Kind { .. })
        ));
        assert!(matches!(
            state.read::<(u32, String)>(5, 2),
            Err(StateError::Version { .. })
        ));
        assert!(matches!(
            state.read::<Vec<u64>>(5, 1),
            Err(StateError::Data { .. })
        ));
    }
}
