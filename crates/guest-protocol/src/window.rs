//! Flow control: a stream's receiver says how many bytes it has room for, so that one that nobody reads stops itself and no other.

/// Bytes that a stream may have on its way.
pub const WINDOW: u32 = 256 << 10;

/// The sender's side: how much it may still send.
#[derive(Debug, Clone, Copy)]
pub struct Allowance(u32);

impl Default for Allowance {
    fn default() -> Self {
        Self(WINDOW)
    }
}

impl Allowance {
    #[must_use]
    pub fn left(self) -> usize {
        self.0 as usize
    }

    pub fn spend(&mut self, bytes: usize) {
        self.0 = self
            .0
            .saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The peer took `bytes`. A peer that gives more than the window gains nothing by it.
    pub fn give(&mut self, bytes: u32) {
        self.0 = self.0.saturating_add(bytes).min(WINDOW);
    }
}

/// The receiver's side: what has come and was not given back yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Receipt {
    outstanding: u32,
    taken: u32,
}

impl Receipt {
    /// Bytes have come; false: more than were allowed, which no honest peer sends.
    #[must_use]
    pub fn receive(&mut self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else {
            return false;
        };
        self.outstanding = self.outstanding.saturating_add(bytes);
        self.outstanding <= WINDOW
    }

    /// Bytes were taken by whom they are for. Returns how many to give back now: in lots, for a frame each would double the traffic.
    pub fn take(&mut self, bytes: usize) -> Option<u32> {
        self.taken = self
            .taken
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX))
            .min(self.outstanding);
        if self.taken < WINDOW / 4 {
            return None;
        }
        let lot = std::mem::take(&mut self.taken);
        self.outstanding -= lot;
        Some(lot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whoever spends only what it has never overruns the receiver, and never starves: all sent and taken comes back in lots.
        #[test]
        fn an_honest_sender_is_never_refused(sizes in prop::collection::vec(1usize..20_000, 1..200)) {
            let (mut allowance, mut receipt) = (Allowance::default(), Receipt::default());
            for size in sizes {
                let size = size.min(allowance.left());
                prop_assert!(size > 0);
                allowance.spend(size);
                prop_assert!(receipt.receive(size));
                if let Some(lot) = receipt.take(size) {
                    allowance.give(lot);
                }
            }
        }
    }

    #[test]
    fn too_much_is_noticed() {
        let mut receipt = Receipt::default();
        assert!(receipt.receive(WINDOW as usize));
        assert!(!receipt.receive(1));
    }
}
