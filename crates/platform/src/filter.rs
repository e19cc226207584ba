//! The programs' seccomp filter: the published list of calls that the host's kernel answers itself. Everything else notifies the sentry.

use casemate_host::seccomp::Instruction;

use crate::loader;

/// A condition on one argument: `argument & mask == value`, or its address below a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masked {
    pub argument: u32,
    pub mask: u32,
    pub value: u32,
}

/// One call that reaches the host's kernel without asking.
#[derive(Debug, Clone, Copy)]
pub struct Native {
    pub nr: i64,
    pub name: &'static str,
    /// Conditions on the low halves of arguments, all of which must hold; the high halves must be 0 where there is a condition.
    pub when: &'static [Masked],
    /// Only at the loader's own instructions. A program can jump there, so this is no wall: what it allows must be harmless for anybody.
    pub only_in_loader: bool,
    pub why: &'static str,
}

const fn native(nr: i64, name: &'static str, why: &'static str) -> Native {
    Native {
        nr,
        name,
        when: &[],
        only_in_loader: false,
        why,
    }
}

const ARCH_SET_FS: u32 = 0x1002;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_HUGETLB: u32 = 0x4_0000;

/// The list. All of it concerns the caller's own memory, thread or clock; none of it takes a path, a descriptor or another process.
pub const NATIVE: &[Native] = &[
    Native {
        // FUTEX_WAIT .. FUTEX_LOCK_PI2, private or shared memory that it has mapped, either clock.
        when: &[Masked {
            argument: 1,
            mask: !0x18F,
            value: 0,
        }],
        ..native(
            libc::SYS_futex,
            "futex",
            "threads synchronise at native speed; addresses are the caller's own",
        )
    },
    Native {
        when: &[Masked {
            argument: 3,
            mask: MAP_ANONYMOUS | MAP_HUGETLB,
            value: MAP_ANONYMOUS,
        }],
        ..native(
            libc::SYS_mmap,
            "mmap",
            "anonymous memory only: a file's mapping is the sentry's to decide",
        )
    },
    native(libc::SYS_munmap, "munmap", "its own address space"),
    native(libc::SYS_mprotect, "mprotect", "its own address space"),
    native(libc::SYS_mremap, "mremap", "its own address space"),
    native(libc::SYS_brk, "brk", "its own address space"),
    Native {
        // Below 16: not MADV_HWPOISON, nor what later kernels add.
        when: &[Masked {
            argument: 2,
            mask: !0xF,
            value: 0,
        }],
        ..native(libc::SYS_madvise, "madvise", "its own address space")
    },
    native(libc::SYS_sched_yield, "sched_yield", "no argument"),
    native(
        libc::SYS_getpid,
        "getpid",
        "no argument; the sandbox's pid namespace numbers as the sentry does",
    ),
    native(libc::SYS_gettid, "gettid", "no argument"),
    Native {
        when: &[Masked {
            argument: 0,
            mask: !0xF,
            value: 0,
        }],
        ..native(
            libc::SYS_clock_gettime,
            "clock_gettime",
            "fixed clocks: no descriptor's, no other process's",
        )
    },
    native(
        libc::SYS_set_robust_list,
        "set_robust_list",
        "its own list of locks, which the host walks when the thread ends",
    ),
    native(
        libc::SYS_set_tid_address,
        "set_tid_address",
        "a word of its own, cleared when the thread ends",
    ),
    native(libc::SYS_rseq, "rseq", "its own area"),
    Native {
        when: &[Masked {
            argument: 0,
            mask: !0,
            value: ARCH_SET_FS,
        }],
        ..native(libc::SYS_arch_prctl, "arch_prctl", "its own base register")
    },
    Native {
        only_in_loader: true,
        ..native(
            libc::SYS_rt_sigaction,
            "rt_sigaction",
            "the stub's own handlers; a program's dispositions are the sentry's",
        )
    },
];

pub(crate) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(crate) const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(crate) const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(crate) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(crate) const RETURN: u16 = 0x06;
pub(crate) const ALLOW: u32 = 0x7FFF_0000;
const NOTIFY: u32 = 0x7FC0_0000;
const ERRNO: u32 = 0x0005_0000;
pub(crate) const ARCH_X86_64: u32 = 0xC000_003E;
pub(crate) const X32: u32 = 0x4000_0000;
pub(crate) const NR: u32 = 0;
pub(crate) const ARCH: u32 = 4;
const IP: u32 = 8;

pub(crate) const fn statement(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

pub(crate) const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

pub(crate) const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// How a filter begins: what comes by the 32-bit or the x32 way into the kernel gets `other`. The call's number is loaded behind it.
pub(crate) fn entry(other: u32) -> Vec<Instruction> {
    vec![
        statement(LOAD, ARCH),
        jump(EQUAL, ARCH_X86_64, 1, 0),
        statement(RETURN, other),
        statement(LOAD, NR),
        jump(AT_LEAST, X32, 0, 1),
        statement(RETURN, other),
    ]
}

/// The filter: 32-bit and x32 calls do not exist, the list is native, the rest notifies.
#[must_use]
pub fn program() -> Vec<Instruction> {
    let mut code = entry(ERRNO | libc::ENOSYS.unsigned_abs());
    for rule in NATIVE {
        let body = conditions(rule);
        let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
        code.push(jump(
            EQUAL,
            u32::try_from(rule.nr).unwrap_or(u32::MAX),
            0,
            skip,
        ));
        code.extend(body);
    }
    code.push(statement(RETURN, NOTIFY));
    code
}

/// Ends in ALLOW or NOTIFY on every way: once the number fits, no other rule does.
fn conditions(rule: &Native) -> Vec<Instruction> {
    let mut code = Vec::new();
    if rule.only_in_loader {
        let (low, high) = halves(loader::BASE);
        code.extend([
            statement(LOAD, IP + 4),
            jump(EQUAL, high, 1, 0),
            statement(RETURN, NOTIFY),
            statement(LOAD, IP),
            statement(AND, !0xFFF),
            jump(EQUAL, low, 1, 0),
            statement(RETURN, NOTIFY),
            // What the stub calls there in the place of a traced program is that program's.
            statement(LOAD, IP),
            jump(EQUAL, halves(loader::traced_trap()).0, 0, 1),
            statement(RETURN, NOTIFY),
        ]);
    }
    for condition in rule.when {
        code.extend([
            statement(LOAD, argument(condition.argument)),
            statement(AND, condition.mask),
            jump(EQUAL, condition.value, 1, 0),
            statement(RETURN, NOTIFY),
        ]);
    }
    code.push(statement(RETURN, ALLOW));
    code
}

const fn halves(value: u64) -> (u32, u32) {
    ((value & 0xFFFF_FFFF) as u32, (value >> 32) as u32)
}
