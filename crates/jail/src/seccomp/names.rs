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
            Self::X32 => x32_number(name).map(|number| number | X32_BIT),
            Self::X86 => syscalls::x86::Sysno::from_str(name)
                .ok()
                .and_then(|call| u32::try_from(call.id()).ok()),
        }
    }
}

/// Calls whose pointers or structures differ have numbers of their own from 512 on. Linux: arch/x86/entry/syscalls/syscall_64.tbl, abi x32.
const X32_FIRST: u32 = 512;
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

fn x32_number(name: &str) -> Option<u32> {
    match X32_OWN.iter().position(|own| *own == name) {
        Some(index) => u32::try_from(index).ok().map(|index| X32_FIRST + index),
        None => Arch::X86_64.number(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x32_has_numbers_of_its_own() {
        assert_eq!(Arch::X32.number("ptrace"), Some(X32_BIT | 521));
        assert_eq!(Arch::X32.number("pwritev2"), Some(X32_BIT | 547));
        assert_eq!(Arch::X32.number("openat"), Some(X32_BIT | 257));
    }

    #[test]
    fn names_that_one_convention_lacks_have_no_number_there() {
        assert_eq!(Arch::X86_64.number("socketcall"), None);
        assert_eq!(Arch::X86.number("socketcall"), Some(102));
        assert_eq!(Arch::X32.number("no_such_call"), None);
        assert_eq!(Arch::from_oci("SCMP_ARCH_AARCH64"), None);
    }
}
