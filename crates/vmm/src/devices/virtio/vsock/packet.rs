//! The 44-byte header of a vsock packet (virtio 1.2 §5.10.6).

/// The host's address; 0 and 1 are reserved.
pub(super) const HOST_CID: u64 = 2;
pub(super) const HEADER: usize = 44;
/// VIRTIO_VSOCK_TYPE_STREAM.
pub(super) const STREAM: u16 = 1;

/// What a packet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Data = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

impl Operation {
    fn from_number(number: u16) -> Option<Operation> {
        use Operation::{CreditRequest, CreditUpdate, Data, Request, Reset, Response, Shutdown};
        [
            Request,
            Response,
            Reset,
            Shutdown,
            Data,
            CreditUpdate,
            CreditRequest,
        ]
        .into_iter()
        .find(|operation| *operation as u16 == number)
    }
}

/// Flags of a shutdown: its sender takes no more, sends no more.
pub(super) const NO_RECEIVE: u32 = 1;
pub(super) const NO_SEND: u32 = 2;

/// A header, from the side of the one who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source_cid: u64,
    pub(super) target_cid: u64,
    pub(super) source_port: u32,
    pub(super) target_port: u32,
    pub(super) length: u32,
    pub(super) kind: u16,
    /// None for a number that no version of the device knows.
    pub(super) operation: Option<Operation>,
    pub(super) flags: u32,
    /// How much the sender can hold, and how much of it its program took so far.
    pub(super) capacity: u32,
    pub(super) forwarded: u32,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Header {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Header {
            source_cid: long(0),
            target_cid: long(8),
            source_port: word(16),
            target_port: word(20),
            length: word(24),
            kind: half(28),
            operation: Operation::from_number(half(30)),
            flags: word(32),
            capacity: word(36),
            forwarded: word(40),
        }
    }

    pub(super) fn emit(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let operation = self.operation.map_or(0, |operation| operation as u16);
        let fields: [(usize, &[u8]); 10] = [
            (0, &self.source_cid.to_le_bytes()),
            (8, &self.target_cid.to_le_bytes()),
            (16, &self.source_port.to_le_bytes()),
            (20, &self.target_port.to_le_bytes()),
            (24, &self.length.to_le_bytes()),
            (28, &self.kind.to_le_bytes()),
            (30, &operation.to_le_bytes()),
            (32, &self.flags.to_le_bytes()),
            (36, &self.capacity.to_le_bytes()),
            (40, &self.forwarded.to_le_bytes()),
        ];
        for (at, field) in fields {
            bytes[at..at + field.len()].copy_from_slice(field);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parsing_and_emitting_are_inverse(mut bytes in prop::array::uniform32(any::<u8>()), tail in prop::array::uniform12(any::<u8>())) {
            // A known operation: unknown ones are not kept.
            (bytes[30], bytes[31]) = (bytes[30] % 7 + 1, 0);
            let mut whole = [0; HEADER];
            whole[..32].copy_from_slice(&bytes);
            whole[32..].copy_from_slice(&tail);
            prop_assert_eq!(Header::parse(&whole).emit(), whole);
        }
    }
}
