//! Which blocks are plugged.
use std::ops::Range;

#[derive(Debug)]
pub(super) struct Blocks {
    plugged: Vec<bool>,
    nr_plugged: u64,
}

impl Blocks {
    pub(super) fn new(count: u64) -> Blocks {
        Blocks {
            plugged: vec![false; usize::try_from(count).unwrap_or(0)],
            nr_plugged: 0,
        }
    }

    pub(super) fn nr_plugged(&self) -> u64 {
        self.nr_plugged
    }

    /// Whether every block of `range` exists and is plugged, or is not.
    pub(super) fn all_are(&self, range: Range<u64>, plugged: bool) -> bool {
        let part = self.plugged.get(indices(range));
        part.is_some_and(|part| part.iter().all(|block| *block == plugged))
    }

    pub(super) fn set(&mut self, range: Range<u64>, plugged: bool) {
        for block in self.plugged.get_mut(indices(range)).unwrap_or_default() {
            match (*block, plugged) {
                (false, true) => self.nr_plugged += 1,
                (true, false) => self.nr_plugged -= 1,
                _ => {}
            }
            *block = plugged;
        }
    }

    /// Plugged blocks as (start, end).
    pub(super) fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (index, _) in (0..).zip(&self.plugged).filter(|(_, block)| **block) {
            match runs.last_mut() {
                Some((_, end)) if *end == index => *end += 1,
                _ => runs.push((index, index + 1)),
            }
        }
        runs
    }
}

fn indices(range: Range<u64>) -> Range<usize> {
    let index = |number| usize::try_from(number).unwrap_or(usize::MAX);
    index(range.start)..index(range.end)
}

#[cfg(test)]
mod tests {
    use super::Blocks;

    #[test]
    fn blocks_are_counted_and_come_back_as_runs() {
        let mut blocks = Blocks::new(10);
        blocks.set(1..4, true);
        blocks.set(3..5, true);
        blocks.set(8..9, true);
        assert_eq!(
            (blocks.nr_plugged(), blocks.runs()),
            (5, vec![(1, 5), (8, 9)])
        );
        blocks.set(0..10, false);
        assert!(blocks.all_are(0..10, false));
        assert!(!blocks.all_are(9..11, false));
    }
}
