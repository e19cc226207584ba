//! Architectures and the numbers their calls have.

use std::str::FromStr;

/// A calling convention that this machine has, and how seccomp tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X32,
    X86,
}

pub(super) const AUDIT_X86_64: u32 = 0xc000_003e;
pub(super) const AUDIT_I386: u32 = 0x4000_0003;
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// By its OCI name; None for another machine's.
    pub(super) fn from_oci(name: &str) -> Option<Self> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Self::X86_64),
            "SCMP_ARCH_X32" => Some(Self::X32),
            "SCMP_ARCH_X86" => Some(Self::X86),
            _ => None,
        }
    }

    /// The number of a call; None if this convention has none of that name.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        match self {
            Self::X86_64 => syscalls::x86_64::Sysno::from_str(name)
                .ok()
                .and_then(|call| u32::try_from(call.id()).ok()),
            Self::X32 => Self::X86_64.number(name).map(|number| number | X32_BIT),
            Self::X86 => syscalls::x86::Sysno::from_str(name)
                .ok()
                .and_then(|call| u32::try_from(call.id()).ok()),
        }
    }
}
