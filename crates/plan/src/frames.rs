//! Frames of the control sockets: a 4-byte little-endian length, then one MessagePack map (docs/design/plan.md, "Frames"). What a peer sends is hostile: no
//! more is believed of a length than the socket's own bound.

use serde::{Deserialize, Serialize};

/// A message with its header.
///
/// # Errors
/// Its body is longer than `most` bytes.
pub fn encode<T: Serialize>(message: &T, most: usize) -> Result<Vec<u8>, String> {
    let body = rmp_serde::to_vec_named(message).map_err(|error| error.to_string())?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if body.len() > most {
        return Err(too_long(body.len(), most));
    }
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Takes the first whole frame's message out of `received`; `None`: more is to come.
///
/// # Errors
/// The peer does not speak this protocol, or says more than `most` bytes at once.
pub fn take<T: for<'a> Deserialize<'a>>(
    received: &mut Vec<u8>,
    most: usize,
) -> Result<Option<T>, String> {
    let Some((header, rest)) = received.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*header) as usize;
    if length > most {
        return Err(too_long(length, most));
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let message = rmp_serde::from_slice(body).map_err(|error| error.to_string());
    received.drain(..4 + length);
    message.map(Some)
}

fn too_long(length: usize, most: usize) -> String {
    format!("a frame of {length} bytes, at most {most}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: usize = 64;

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(texts in prop::collection::vec("[a-z]{0,40}", 0..6), cut in 0_usize..400) {
            let stream: Vec<u8> = texts.iter().flat_map(|text| encode(text, MOST).unwrap_or_default()).collect();
            let cut = cut.min(stream.len());
            let (mut received, mut found) = (Vec::new(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                received.extend_from_slice(part);
                while let Some(text) = take::<String>(&mut received, MOST).expect("frames of ours") {
                    found.push(text);
                }
            }
            prop_assert_eq!(found, texts);
            prop_assert!(received.is_empty());
        }

        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut received = bytes;
            while let Ok(Some(_)) = take::<String>(&mut received, MOST) {}
        }
    }

    #[test]
    fn what_is_too_long_is_refused_on_both_sides() {
        let text = "x".repeat(MOST);
        encode(&text, MOST).expect_err("more than a frame holds");
        let mut claims = u32::MAX.to_le_bytes().to_vec();
        take::<String>(&mut claims, MOST).expect_err("a length above the bound");
    }
}
