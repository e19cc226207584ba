//! Frames out of a stream: a 4-byte little-endian length, then one MessagePack map of at most 1 MiB.

pub(crate) const MAX_FRAME: usize = 1 << 20;

/// The stream is broken: a frame is longer than any may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Bytes received that are not yet a whole frame.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole frame's body, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let Some((header, rest)) = self.0.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_FRAME {
            return Err(TooLong);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let body = rest[..length].to_vec();
        self.0.drain(..4 + length);
        if self.0.is_empty() {
            self.0 = Vec::new(); // an idle agent holds no memory for the largest frame it ever saw
        }
        Ok(Some(body))
    }
}

/// A body with its header.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(body.len() + 4);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However a stream is cut, the same frames come out.
        #[test]
        fn frames_survive_any_cut(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8), cut in 1usize..64) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
            let mut buffer = Buffer::default();
            let mut found = Vec::new();
            for part in stream.chunks(cut) {
                buffer.extend(part);
                while let Some(body) = buffer.next().unwrap() {
                    found.push(body);
                }
            }
            prop_assert_eq!(found, bodies);
        }

        #[test]
        fn any_bytes_are_frames_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut buffer = Buffer::default();
            buffer.extend(&bytes);
            while let Ok(Some(body)) = buffer.next() {
                prop_assert!(body.len() <= MAX_FRAME);
            }
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_before_its_body_comes() {
        let mut buffer = Buffer::default();
        buffer.extend(&u32::MAX.to_le_bytes());
        assert_eq!(buffer.next(), Err(TooLong));
    }
}
