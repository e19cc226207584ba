//! Hashing of thread numbers, some ten times for each call: a multiplication, where the standard hasher takes 15 ns. The host's kernel gives the numbers out, in
//! turn, so nobody picks those that collide.

use std::hash::{BuildHasherDefault, Hasher};

pub type ByNumber = BuildHasherDefault<NumberHasher>;

#[derive(Debug, Default, Clone, Copy)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_i32(i32::from(*byte));
        }
    }

    fn write_i32(&mut self, number: i32) {
        /// 2^64 divided by the golden ratio: neighbours end up far apart, in the high bits too.
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        self.0 = (self.0 ^ u64::from(number.cast_unsigned())).wrapping_mul(SPREAD);
        self.0 ^= self.0 >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

    #[test]
    fn numbers_in_a_row_spread_over_both_ends() {
        let hashes: Vec<u64> = (1..=128)
            .map(|number: i32| ByNumber::default().hash_one(number))
            .collect();
        let low: BTreeSet<u64> = hashes.iter().map(|hash| hash & 0xFF).collect();
        let high: BTreeSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert!(
            low.len() > 70 && high.len() > 70,
            "{} {}",
            low.len(),
            high.len()
        );
    }
}
