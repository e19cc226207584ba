//! What a rule of a thread's filter is.
use casemate_plan::seccomp::SeccompArg;
#[cfg(test)]
use casemate_plan::seccomp::{SeccompProfile, SeccompRule};

/// A condition on an argument: of the bits in `mask`, those of `value` are set and the others are not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) argument: u32,
    pub(super) mask: u64,
    pub(super) value: u64,
}

/// A call that a thread may make, if both conditions hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) call: &'static str,
    pub(super) checks: [Option<Check>; 2],
    pub(super) why: &'static str,
    /// Why no test of ours makes the call. Rules without this are hit by `tests/microvm/test_seccomp.py`.
    pub(super) unseen: Option<&'static str>,
}

/// The low half of an argument, which is all that the kernel reads of an `int`, is `value`.
pub(super) const fn is(argument: u32, value: u64) -> Check {
    Check {
        argument,
        mask: 0xffff_ffff,
        value,
    }
}

/// None of `bits` is set in an argument.
pub(super) const fn without(argument: u32, bits: u64) -> Check {
    Check {
        argument,
        mask: bits,
        value: 0,
    }
}

pub(super) const fn any(call: &'static str, why: &'static str) -> Rule {
    Rule {
        call,
        checks: [None, None],
        why,
        unseen: None,
    }
}

pub(super) const fn only(call: &'static str, check: Check, why: &'static str) -> Rule {
    Rule {
        checks: [Some(check), None],
        ..any(call, why)
    }
}

pub(super) const fn both(
    call: &'static str,
    first: Check,
    second: Check,
    why: &'static str,
) -> Rule {
    Rule {
        checks: [Some(first), Some(second)],
        ..any(call, why)
    }
}

/// A request of ioctl(2). The number holds the size and direction of what it points to.
pub(super) const fn request(number: u64, why: &'static str) -> Rule {
    only("ioctl", is(1, number), why)
}

impl Rule {
    pub(super) const fn unseen(self, reason: &'static str) -> Rule {
        Rule {
            unseen: Some(reason),
            ..self
        }
    }
}

/// The profile of a thread: what the rules say is allowed, the rest is a trap.
///
/// clone3(2) has its flags in memory, where they can change after a check: it does not exist, and the C library uses clone(2).
#[cfg(test)]
pub(super) fn profile<'a>(rules: impl Iterator<Item = &'a Rule>) -> SeccompProfile {
    let mut syscalls: Vec<SeccompRule> = rules.map(oci).collect();
    syscalls.push(SeccompRule {
        names: vec!["clone3".to_owned()],
        action: "SCMP_ACT_ERRNO".to_owned(),
        errno_ret: Some(libc::ENOSYS.unsigned_abs()),
        args: None,
    });
    SeccompProfile {
        default_action: "SCMP_ACT_TRAP".to_owned(),
        default_errno_ret: None,
        architectures: None,
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: Some(syscalls),
    }
}

#[cfg(test)]
fn oci(rule: &Rule) -> SeccompRule {
    let checks = rule.checks.iter().flatten();
    SeccompRule {
        names: vec![rule.call.to_owned()],
        action: "SCMP_ACT_ALLOW".to_owned(),
        errno_ret: None,
        args: Some(
            checks
                .map(|check| masked(check.argument, check.mask, check.value))
                .collect(),
        ),
    }
}

pub(super) fn masked(index: u32, mask: u64, value: u64) -> SeccompArg {
    SeccompArg {
        index,
        value: mask,
        value_two: value,
        op: "SCMP_CMP_MASKED_EQ".to_owned(),
    }
}
