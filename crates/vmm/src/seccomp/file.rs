//! A user's filters: the JSON that Firecracker's filters are written in, before its compiler.
//!
//! <https://github.com/firecracker-microvm/firecracker/blob/main/docs/seccompiler.md>. A compiled file is not read: it would be instructions
//! from outside for another program's threads.
use std::collections::BTreeMap;

use casemate_plan::seccomp::{SeccompArg, SeccompProfile, SeccompRule};
use serde::Deserialize;

use super::rule::masked;

/// The profiles of the two kinds of threads.
pub(super) struct Profiles {
    pub(super) looping: SeccompProfile,
    pub(super) vcpu: SeccompProfile,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thread {
    default_action: Action,
    filter_action: Action,
    filter: Vec<Rule>,
    /// Calls that do not exist for this thread (ENOSYS). Ours: the C library asks for clone3 first.
    #[serde(default)]
    absent: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Allow,
    Errno(u16),
    KillThread,
    KillProcess,
    Log,
    Trace(u16),
    Trap,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    syscall: String,
    #[serde(default)]
    args: Vec<Arg>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    #[serde(rename = "untested")]
    _untested: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arg {
    index: u32,
    #[serde(rename = "type")]
    width: Width,
    op: Op,
    val: u64,
    #[serde(rename = "comment")]
    _comment: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Width {
    Dword,
    Qword,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Eq,
    Ne,
    Ge,
    Gt,
    Le,
    Lt,
    MaskedEq(u64),
}

pub(super) fn parse(text: &[u8]) -> Result<Profiles, String> {
    if text.first().is_some_and(|first| !first.is_ascii()) || text.contains(&0) {
        return Err(
            "a compiled filter; give the JSON that it was made from (docs/design/microvm.md)"
                .to_owned(),
        );
    }
    let mut threads: BTreeMap<String, Thread> =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut take = |name: &str| threads.remove(name);
    let (vmm, vcpu, api) = (take("vmm"), take("vcpu"), take("api"));
    if let Some(name) = threads.keys().next() {
        return Err(format!(
            "{name}: there are the threads vmm, vcpu and (in the same thread as vmm) api"
        ));
    }
    let mut looping = vmm.ok_or("vmm: missing")?;
    let vcpu = vcpu.ok_or("vcpu: missing")?;
    if let Some(api) = api {
        let actions = |thread: &Thread| (thread.default_action, thread.filter_action);
        if actions(&api) != actions(&looping) {
            return Err(
                "api, vmm: one thread here, so their actions have to be the same".to_owned(),
            );
        }
        looping.filter.extend(api.filter);
        looping.absent.extend(api.absent);
    }
    Ok(Profiles {
        looping: profile("vmm", &looping)?,
        vcpu: profile("vcpu", &vcpu)?,
    })
}

fn profile(name: &str, thread: &Thread) -> Result<SeccompProfile, String> {
    if thread.default_action == thread.filter_action {
        return Err(format!(
            "{name}: default_action and filter_action are the same"
        ));
    }
    let (default_action, default_errno_ret) = oci_action(thread.default_action);
    let rules = thread
        .filter
        .iter()
        .map(|rule| (rule, thread.filter_action));
    let enosys = Action::Errno(38);
    let absent = thread.absent.iter().map(|rule| (rule, enosys));
    let rules = rules
        .chain(absent)
        .map(|(rule, action)| oci_rule(rule, action));
    let syscalls = rules
        .collect::<Result<_, _>>()
        .map_err(|reason| format!("{name}: {reason}"))?;
    Ok(SeccompProfile {
        default_action,
        default_errno_ret,
        architectures: None,
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: Some(syscalls),
    })
}

fn oci_action(action: Action) -> (String, Option<u32>) {
    let (name, number) = match action {
        Action::Allow => ("ALLOW", None),
        Action::Errno(number) => ("ERRNO", Some(number.into())),
        Action::KillThread => ("KILL_THREAD", None),
        Action::KillProcess => ("KILL_PROCESS", None),
        Action::Log => ("LOG", None),
        Action::Trace(number) => ("TRACE", Some(number.into())),
        Action::Trap => ("TRAP", None),
    };
    (format!("SCMP_ACT_{name}"), number)
}

fn oci_rule(rule: &Rule, action: Action) -> Result<SeccompRule, String> {
    if !casemate_jail::seccomp::is_call(&rule.syscall) {
        return Err(format!(
            "{}: no system call of this machine's",
            rule.syscall
        ));
    }
    let (action, errno_ret) = oci_action(action);
    let args = rule.args.iter().map(|arg| oci_arg(&rule.syscall, arg));
    Ok(SeccompRule {
        names: vec![rule.syscall.clone()],
        action,
        errno_ret,
        args: Some(args.collect::<Result<_, _>>()?),
    })
}

/// `dword`: the low half only, which for an `int` is all that the kernel reads.
fn oci_arg(call: &str, arg: &Arg) -> Result<SeccompArg, String> {
    let low = u64::from(u32::MAX);
    let plain = |op: &str| SeccompArg {
        index: arg.index,
        value: arg.val,
        value_two: 0,
        op: format!("SCMP_CMP_{op}"),
    };
    Ok(match (arg.width, arg.op) {
        (Width::Dword, Op::Eq) => masked(arg.index, low, arg.val & low),
        (Width::Dword, Op::MaskedEq(mask)) => masked(arg.index, mask & low, arg.val & low),
        (Width::Dword, op) => {
            return Err(format!(
                "{call}: {op:?} of a dword; only eq and masked_eq look at half an argument, so compare the qword"
            ));
        }
        (Width::Qword, Op::MaskedEq(mask)) => masked(arg.index, mask, arg.val),
        (Width::Qword, Op::Eq) => plain("EQ"),
        (Width::Qword, Op::Ne) => plain("NE"),
        (Width::Qword, Op::Ge) => plain("GE"),
        (Width::Qword, Op::Gt) => plain("GT"),
        (Width::Qword, Op::Le) => plain("LE"),
        (Width::Qword, Op::Lt) => plain("LT"),
    })
}
