//! What a row of the list says of a call: its conditions, and the words that the list is written with.

/// A condition on one argument. What is compared is its low half, which is all that the kernel looks at in numbers of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// None of these bits.
    Without { argument: u32, bits: u32 },
    /// Under the mask, one of these values.
    OneOf {
        argument: u32,
        mask: u32,
        values: &'static [u32],
    },
    /// Under the mask, none of these values.
    NoneOf {
        argument: u32,
        mask: u32,
        values: &'static [u32],
    },
    /// All 64 bits of it.
    UpTo { argument: u32, most: u32 },
    /// Two arguments that go together: a value of the first, and those of the second with it.
    Pair {
        first: u32,
        second: u32,
        pairs: &'static [(i32, &'static [i32])],
    },
}

/// One call that the sentry may make, if all conditions hold.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    pub nr: i64,
    pub name: &'static str,
    pub when: &'static [Condition],
    pub why: &'static str,
}

pub(super) const fn row(
    nr: i64,
    name: &'static str,
    when: &'static [Condition],
    why: &'static str,
) -> Allowed {
    Allowed {
        nr,
        name,
        when,
        why,
    }
}

pub(super) const fn without(argument: u32, bits: u32) -> Condition {
    Condition::Without { argument, bits }
}

/// A descriptor: not AT_FDCWD, nor any other negative number with a meaning.
pub(super) const fn descriptor(argument: u32) -> Condition {
    without(argument, 0x8000_0000)
}

pub(super) const fn one_of(argument: u32, values: &'static [u32]) -> Condition {
    masked(argument, u32::MAX, values)
}

pub(super) const fn masked(argument: u32, mask: u32, values: &'static [u32]) -> Condition {
    Condition::OneOf {
        argument,
        mask,
        values,
    }
}

pub(super) const fn none_of(argument: u32, mask: u32, values: &'static [u32]) -> Condition {
    Condition::NoneOf {
        argument,
        mask,
        values,
    }
}

pub(super) const fn up_to(argument: u32, most: u32) -> Condition {
    Condition::UpTo { argument, most }
}

pub(super) const fn pair(
    first: u32,
    second: u32,
    pairs: &'static [(i32, &'static [i32])],
) -> Condition {
    Condition::Pair {
        first,
        second,
        pairs,
    }
}
