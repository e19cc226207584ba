//! From raw registers to what handlers take.

use crate::memory::Address;

/// A type that a register can be taken as. The low half where the ABI's type is 32 bits wide.
pub trait FromRegister: Sized {
    fn from_register(register: u64) -> Self;
    /// As strace would show it.
    fn show(register: u64) -> String;
}

macro_rules! integers {
    ($($type:ty)*) => { $(
        impl FromRegister for $type {
            fn from_register(register: u64) -> Self {
                register as Self
            }
            fn show(register: u64) -> String {
                (register as Self).to_string()
            }
        }
    )* };
}
integers!(i32 u32 i64 u64 usize);

impl FromRegister for Address {
    fn from_register(register: u64) -> Self {
        Self(register)
    }

    fn show(register: u64) -> String {
        if register == 0 {
            "NULL".to_owned()
        } else {
            format!("{register:#x}")
        }
    }
}

/// Flags, shown in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u32);

impl FromRegister for Flags {
    fn from_register(register: u64) -> Self {
        Self(register as u32)
    }

    fn show(register: u64) -> String {
        format!("{:#x}", register as u32)
    }
}

impl Flags {
    #[must_use]
    pub fn has(self, flag: i32) -> bool {
        self.0 & flag.cast_unsigned() != 0
    }

    /// `EINVAL` for a bit that is not among `known`.
    pub fn only(self, known: i32) -> crate::errno::Result<Self> {
        if self.0 & !known.cast_unsigned() == 0 {
            Ok(self)
        } else {
            Err(crate::errno::Errno::EINVAL)
        }
    }
}
