//! Session tokens: random numbers that are valid for a time. They are not part of a snapshot, so that a copy's guest needs its own.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};

/// More than a guest's programs need; with one more, the one that ends first is forgotten.
const MAX_TOKENS: usize = 1024;
const BYTES: usize = 24;

#[derive(Debug, Default)]
pub(crate) struct Tokens(BTreeMap<String, Instant>);

impl Tokens {
    /// A new token, valid for `seconds`. None if the host has no random bytes.
    pub(super) fn make(&mut self, seconds: u32, now: Instant) -> Option<String> {
        let mut bytes = [0_u8; BYTES];
        if getrandom(&mut bytes, GetRandomFlags::empty()) != Ok(BYTES) {
            return None;
        }
        self.0.retain(|_, end| *end > now);
        if self.0.len() >= MAX_TOKENS {
            let first = self.0.iter().min_by_key(|(_, end)| **end);
            let first = first.map(|(token, _)| token.clone())?;
            self.0.remove(&first);
        }
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0
            .insert(token.clone(), now + Duration::from_secs(seconds.into()));
        Some(token)
    }

    pub(super) fn is_valid(&self, token: &str, now: Instant) -> bool {
        self.0.get(token).is_some_and(|end| *end > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_for_its_time() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let token = tokens.make(2, now).unwrap();
        assert!(tokens.is_valid(&token, now + Duration::from_secs(1)));
        assert!(!tokens.is_valid(&token, now + Duration::from_secs(2)));
        assert!(!tokens.is_valid("", now));
    }

    #[test]
    fn a_guest_that_only_asks_for_tokens_gets_no_more_memory() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let first = tokens.make(1, now).unwrap();
        for _ in 0..MAX_TOKENS {
            tokens.make(60, now).unwrap();
        }
        assert_eq!(tokens.0.len(), MAX_TOKENS);
        assert!(!tokens.is_valid(&first, now));
    }
}
