//! How often each call was made and failed: counted always, which together with `activity` costs some 10 ns a call.
//! Time costs two looks at the clock, 100 ns more, and is measured once somebody has asked.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::is_over;
use crate::errno::Errno;
use crate::syscalls::SysResult;
use crate::syscalls::table::{self, Support};

/// Numbers of x86-64 calls end far below.
const MOST: usize = 512;

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    calls: u64,
    errors: u64,
    timed: u64,
    time_ns: u64,
}

#[derive(Debug)]
pub struct Counts {
    by_number: Box<[Count; MOST]>,
    /// ENOSYS, by number, whatever that is.
    refused: BTreeMap<i32, u64>,
    pub is_timed: bool,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            by_number: Box::new([Count::default(); MOST]),
            refused: BTreeMap::new(),
            is_timed: false,
        }
    }
}

/// Different numbers that a program can make up; further ones are counted as this one.
const MOST_REFUSED: usize = 1024;
const OTHER: i32 = -1;

impl Counts {
    pub fn begin(&self) -> Option<Instant> {
        self.is_timed.then(Instant::now)
    }

    /// A call that waits is counted when it is over; the time is what handling it took, not its waiting.
    pub fn end(&mut self, nr: i32, outcome: &SysResult, begun: Option<Instant>) {
        if let Err(Errno::ENOSYS) = outcome {
            self.refuse(nr);
        }
        let number = usize::try_from(nr).ok();
        let Some(count) = number.and_then(|number| self.by_number.get_mut(number)) else {
            return;
        };
        if let Some(begun) = begun {
            count.time_ns += begun.elapsed().as_nanos() as u64;
        }
        if is_over(outcome) {
            count.calls += 1;
            count.errors += u64::from(outcome.is_err());
            count.timed += u64::from(begun.is_some());
        }
    }

    fn refuse(&mut self, nr: i32) {
        let is_known =
            is_small(nr) || self.refused.contains_key(&nr) || self.refused.len() < MOST_REFUSED;
        *self
            .refused
            .entry(if is_known { nr } else { OTHER })
            .or_default() += 1;
    }

    /// A row for each call that was made. Measures time from now on.
    pub fn rows(&mut self) -> Vec<CallRow> {
        self.is_timed = true;
        let counted = self.by_number.iter().enumerate();
        let mut rows: Vec<CallRow> = counted
            .filter(|(_, count)| count.calls > 0)
            .map(|(number, count)| self.row(number as i32, *count))
            .collect();
        let strange = self.refused.iter().filter(|(nr, _)| !is_small(**nr));
        rows.extend(strange.map(|(nr, refused)| CallRow {
            number: *nr,
            name: if *nr == OTHER {
                "(other numbers)".to_owned()
            } else {
                table::name(*nr)
            },
            calls: *refused,
            errors: *refused,
            refused: *refused,
            ..CallRow::default()
        }));
        rows
    }

    fn row(&self, number: i32, count: Count) -> CallRow {
        let row = table::row(number);
        let missing = row.map(|row| (row.family, row.support));
        CallRow {
            number,
            name: table::name(number),
            calls: count.calls,
            errors: count.errors,
            refused: self.refused.get(&number).copied().unwrap_or(0),
            timed: count.timed,
            time_ns: count.time_ns,
            note: match missing {
                Some(("refused", Support::Partial(why))) => why.to_owned(),
                _ => String::new(),
            },
        }
    }
}

fn is_small(nr: i32) -> bool {
    usize::try_from(nr).is_ok_and(|number| number < MOST)
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CallRow {
    pub number: i32,
    pub name: String,
    pub calls: u64,
    pub errors: u64,
    /// Of them, those that do not exist here: ENOSYS.
    pub refused: u64,
    /// Of them, those whose time was measured, and how long handling these took.
    pub timed: u64,
    pub time_ns: u64,
    /// Why the call is always refused, if it is.
    pub note: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Outcome;

    #[test]
    fn a_call_that_waits_is_counted_once() {
        let mut counts = Counts::default();
        counts.end(0, &Ok(Outcome::Blocked), None);
        counts.end(0, &Ok(Outcome::Value(1)), None);
        let rows = counts.rows();
        assert_eq!((rows.len(), rows[0].calls, rows[0].errors), (1, 1, 0));
        assert_eq!(rows[0].name, "read");
    }

    #[test]
    fn calls_that_do_not_exist_are_named_and_bounded() {
        let mut counts = Counts::default();
        for nr in 0..3000 {
            counts.end(100_000 + nr, &Err(Errno::ENOSYS), None);
        }
        counts.end(435, &Err(Errno::ENOSYS), None);
        let rows = counts.rows();
        assert!(rows.len() <= MOST_REFUSED + 2);
        assert_eq!(rows.iter().map(|row| row.refused).sum::<u64>(), 3001);
        assert!(rows.iter().any(|row| row.name == "(other numbers)"));
    }
}
