//! For the fuzzer: a guest's whole conversation out of random bytes.

use std::path::Path;

use crate::server::{MAX_REQUEST, Server};
use crate::wire::HEADER;

/// Plays the requests that `bytes` are against a server of `directory`: for each its operation, its node and its length, then its fields.
///
/// # Panics
/// If an answer is not as long as it says, or there is no server.
pub fn play(directory: &Path, mut bytes: &[u8]) {
    let mut server = Server::new(directory).expect("a directory and /proc");
    while let Some(([operation, node, length], rest)) = bytes.split_first_chunk() {
        let (fields, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        bytes = rest;
        let message = message(u32::from(*operation), u64::from(*node), fields);
        let Ok(Some(answer)) = server.answer(&message) else {
            continue;
        };
        let told = answer.first_chunk().map(|head| u32::from_le_bytes(*head));
        assert_eq!(told, u32::try_from(answer.len()).ok());
        assert!(answer.len() <= MAX_REQUEST);
    }
}

/// struct fuse_in_header, of the caller's own user: others would be refused, or be somebody.
fn message(operation: u32, node: u64, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + fields.len()).unwrap_or(u32::MAX);
    let mut message = length.to_le_bytes().to_vec();
    message.extend(operation.to_le_bytes());
    message.extend(1u64.to_le_bytes());
    message.extend(node.to_le_bytes());
    message.extend(rustix::process::geteuid().as_raw().to_le_bytes());
    message.extend(rustix::process::getegid().as_raw().to_le_bytes());
    message.extend([0; 8]);
    message.extend(fields);
    message
}
