//! The compiled program against a naive reading of the profile, in an interpreter of classic BPF as the kernel checks and runs it.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::str::FromStr;

use casemate_host::seccomp::Instruction;
use casemate_jail::seccomp::compile;
use casemate_plan::seccomp::{SeccompArg, SeccompProfile, SeccompRule};
use proptest::prelude::*;

const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_I386: u32 = 0x4000_0003;
const AUDIT_AARCH64: u32 = 0xc000_00b7;
const X32_BIT: u32 = 0x4000_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const ENOSYS: u32 = 38;
const MAX_INSTRUCTIONS: usize = 4096;

/// seccomp(2) struct seccomp_data.
#[derive(Debug, Clone, Copy)]
struct Call {
    arch: u32,
    number: u32,
    args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&self.number.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.arch.to_ne_bytes());
        for (index, arg) in self.args.iter().enumerate() {
            bytes[16 + 8 * index..24 + 8 * index].copy_from_slice(&arg.to_ne_bytes());
        }
        let at = usize::try_from(offset).unwrap();
        u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
    }
}

/// What the kernel refuses to load: Linux net/core/filter.c bpf_check_classic(), kernel/seccomp.c seccomp_check_filter().
fn assert_loads(program: &[Instruction]) {
    assert!((1..=MAX_INSTRUCTIONS).contains(&program.len()));
    assert_eq!(program.last().unwrap().code, 0x06, "ends with a return");
    for (at, instruction) in program.iter().enumerate() {
        let last = program.len() - 1;
        match instruction.code {
            0x20 => assert!(
                instruction.k < 64 && instruction.k % 4 == 0,
                "{at}: loads a word"
            ),
            0x05 => assert!(
                at + 1 + usize::try_from(instruction.k).unwrap() <= last,
                "{at}: jumps inside"
            ),
            0x15 | 0x25 | 0x35 => {
                let furthest = usize::from(instruction.jt.max(instruction.jf));
                assert!(at + 1 + furthest <= last, "{at}: jumps inside");
            }
            0x54 | 0x06 => {}
            code => panic!("{at}: instruction {code:#x}"),
        }
    }
}

fn run(program: &[Instruction], call: &Call) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let holds = match code {
            0x20 => {
                accumulator = call.word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += usize::try_from(k).unwrap();
                continue;
            }
            0x06 => return k,
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            code => panic!("instruction {code:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}

/// What the profile says about the call, read as config-linux.md "Seccomp" and runc have it.
fn naive(profile: &SeccompProfile, call: &Call) -> u32 {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let listed = profile.architectures.clone().unwrap_or_default();
    let lists = |name: &str| listed.iter().any(|arch| arch == name);
    let numbers: fn(&str) -> Option<u32> = match call.arch {
        AUDIT_X86_64 if call.number < X32_BIT => x86_64,
        AUDIT_X86_64 if lists("SCMP_ARCH_X32") => x32,
        AUDIT_X86_64 => return ERRNO | ENOSYS,
        AUDIT_I386 if lists("SCMP_ARCH_X86") => x86,
        _ => return KILL_PROCESS,
    };
    let rules = profile.syscalls.clone().unwrap_or_default();
    let newest = rules
        .iter()
        .flat_map(|rule| &rule.names)
        .filter_map(|name| numbers(name))
        .max();
    if default & 0xffff_0000 == ERRNO && newest.is_some_and(|newest| call.number > newest) {
        return ERRNO | ENOSYS;
    }
    rules
        .iter()
        .filter(|rule| {
            rule.names
                .iter()
                .any(|name| numbers(name) == Some(call.number))
        })
        .map(|rule| (rule, action(&rule.action, rule.errno_ret)))
        .filter(|(_, action)| *action != default)
        .find(|(rule, _)| matches(rule, call))
        .map_or(default, |(_, action)| action)
}

fn matches(rule: &SeccompRule, call: &Call) -> bool {
    let args = rule.args.as_deref().unwrap_or(&[]);
    let mut indices: Vec<u32> = args.iter().map(|arg| arg.index).collect();
    indices.sort_unstable();
    indices.dedup();
    if indices.len() < args.len() {
        return args.iter().any(|arg| holds(arg, call)); // runc: entries for one argument are rules of their own
    }
    args.iter().all(|arg| holds(arg, call))
}

fn holds(arg: &SeccompArg, call: &Call) -> bool {
    let found = call.args[usize::try_from(arg.index).unwrap()];
    match arg.op.as_str() {
        "SCMP_CMP_NE" => found != arg.value,
        "SCMP_CMP_LT" => found < arg.value,
        "SCMP_CMP_LE" => found <= arg.value,
        "SCMP_CMP_EQ" => found == arg.value,
        "SCMP_CMP_GE" => found >= arg.value,
        "SCMP_CMP_GT" => found > arg.value,
        "SCMP_CMP_MASKED_EQ" => found & arg.value == arg.value_two & arg.value,
        op => panic!("{op}"),
    }
}

fn action(name: &str, errno: Option<u32>) -> u32 {
    match name {
        "SCMP_ACT_KILL" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno.unwrap_or(1),
        "SCMP_ACT_ERRNO" => ERRNO | errno.unwrap_or(1),
        "SCMP_ACT_TRAP" => 0x0003_0000,
        name => panic!("{name}"),
    }
}

fn x86_64(name: &str) -> Option<u32> {
    let call = syscalls::x86_64::Sysno::from_str(name).ok()?;
    u32::try_from(call.id()).ok()
}

fn x86(name: &str) -> Option<u32> {
    let call = syscalls::x86::Sysno::from_str(name).ok()?;
    u32::try_from(call.id()).ok()
}

fn x32(name: &str) -> Option<u32> {
    let number = match name {
        "ioctl" => 514,
        "ptrace" => 521,
        "pwritev2" => 547,
        _ => x86_64(name)?,
    };
    Some(number | X32_BIT)
}

// The first number, neighbours, some far apart, one that only x86 has, three with x32 numbers of their own, and one that nobody has.
const NAMES: [&str; 14] = [
    "read",
    "write",
    "open",
    "close",
    "restart_syscall",
    "ioctl",
    "ptrace",
    "pwritev2",
    "clone",
    "openat",
    "seccomp",
    "socketcall",
    "futex_waitv",
    "no_such_call",
];
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0xffff_ffff_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![4 => prop::sample::select(&EDGES[..]), 1 => any::<u64>()]
}

fn errno() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(prop::sample::select(vec![0_u32, 1, 38, 4095]))
}

fn action_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_LOG",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_TRAP",
    ])
    .prop_map(String::from)
}

fn arg() -> impl Strategy<Value = SeccompArg> {
    let op = prop::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    (0_u32..6, value(), value(), op).prop_map(|(index, value, value_two, op)| SeccompArg {
        index,
        value,
        value_two,
        op: format!("SCMP_CMP_{op}"),
    })
}

fn rule() -> impl Strategy<Value = SeccompRule> {
    let names = prop::collection::vec(prop::sample::select(&NAMES[..]), 1..5);
    let args = prop::option::of(prop::collection::vec(arg(), 0..4));
    (names, action_name(), errno(), args).prop_map(|(names, action, errno_ret, args)| SeccompRule {
        names: names.into_iter().map(String::from).collect(),
        action,
        errno_ret,
        args,
    })
}

fn profile() -> impl Strategy<Value = SeccompProfile> {
    let arches = vec![
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_AARCH64",
    ];
    let arches = prop::option::of(prop::sample::subsequence(arches, 0..=4));
    let rules = prop::option::of(prop::collection::vec(rule(), 0..12));
    (action_name(), errno(), arches, rules).prop_map(
        |(default_action, default_errno_ret, arches, syscalls)| SeccompProfile {
            default_action,
            default_errno_ret,
            architectures: arches.map(|list| list.into_iter().map(String::from).collect()),
            flags: None,
            listener_path: None,
            listener_metadata: None,
            syscalls,
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    let arches = vec![
        AUDIT_X86_64,
        AUDIT_X86_64,
        AUDIT_X86_64,
        AUDIT_I386,
        AUDIT_AARCH64,
        0,
        u32::MAX,
    ];
    let named = prop::sample::select(&NAMES[..]).prop_flat_map(|name| {
        let known: Vec<u32> = [x86_64(name), x86(name), x32(name)]
            .into_iter()
            .flatten()
            .collect();
        let known = if known.is_empty() { vec![0] } else { known };
        (
            prop::sample::select(known),
            -1_i32..2,
            prop::sample::select(vec![0, X32_BIT]),
        )
            .prop_map(|(number, off, bit)| number.wrapping_add_signed(off) ^ bit)
    });
    let number = prop_oneof![6 => named, 1 => any::<u32>(), 1 => 0_u32..600];
    let args = prop::array::uniform6(value());
    (prop::sample::select(arches), number, args).prop_map(|(arch, number, args)| Call {
        arch,
        number,
        args,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn program_agrees_with_a_naive_reading(profile in profile(), calls in prop::collection::vec(call(), 40)) {
        let filter = compile(&profile).unwrap();
        assert_loads(filter.instructions());
        for call in &calls {
            prop_assert_eq!(run(filter.instructions(), call), naive(&profile, call), "{:x?}", call);
        }
    }

    /// Arguments beside the values that the conditions name, where an off-by-one of a comparison would be.
    #[test]
    fn conditions_agree_at_their_edges(arg in arg(), off in -1_i64..2, high in any::<bool>()) {
        let profile = only("clone", vec![arg.clone()]);
        let near = arg.value.wrapping_add_signed(if high { off << 32 } else { off });
        let mut args = [0; 6];
        args[usize::try_from(arg.index).unwrap()] = near;
        let call = Call { arch: AUDIT_X86_64, number: 56, args };
        prop_assert_eq!(run(compile(&profile).unwrap().instructions(), &call), naive(&profile, &call));
    }

    /// A name that is not the kernel's, an operator or action that is none: an error with its name or nothing, never a panic.
    #[test]
    fn arbitrary_words_never_panic(words in prop::array::uniform4("[A-Z_a-z]{0,12}"), index in any::<u32>()) {
        let [name, action, op, arch] = words;
        let mut profile = only(&name, vec![SeccompArg { index, value: 0, value_two: 0, op }]);
        profile.architectures = Some(vec![arch]);
        profile.flags = Some(vec![action.clone()]);
        profile.syscalls.as_mut().unwrap()[0].action = action;
        prop_assert!(compile(&profile).is_err());
    }
}

fn only(name: &str, args: Vec<SeccompArg>) -> SeccompProfile {
    SeccompProfile {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: None,
        architectures: None,
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: Some(vec![SeccompRule {
            names: vec![name.into()],
            action: "SCMP_ACT_ALLOW".into(),
            errno_ret: None,
            args: Some(args),
        }]),
    }
}

fn x86_64_call(number: u32, args: [u64; 6]) -> Call {
    Call {
        arch: AUDIT_X86_64,
        number,
        args,
    }
}

#[test]
fn bits_of_the_value_outside_the_mask_say_nothing() {
    let arg = SeccompArg {
        index: 0,
        value: 0x4,
        value_two: 0xff,
        op: "SCMP_CMP_MASKED_EQ".into(),
    };
    let filter = compile(&only("clone", vec![arg])).unwrap();
    let call = x86_64_call(56, [0x4, 0, 0, 0, 0, 0]);
    assert_eq!(run(filter.instructions(), &call), ALLOW);
}

/// The profile names futex_waitv (449), if only to give it the default: its author knew it, and what it says holds.
#[test]
fn call_that_a_rule_gives_the_default_is_known() {
    let mut profile = only("read", Vec::new());
    let mut rule = profile.syscalls.as_ref().unwrap()[0].clone();
    rule.names = vec!["futex_waitv".into()];
    rule.action = "SCMP_ACT_ERRNO".into();
    profile.syscalls.as_mut().unwrap().push(rule);
    let filter = compile(&profile).unwrap();
    let known = x86_64_call(449, [0; 6]);
    let newer = x86_64_call(450, [0; 6]);
    assert_eq!(run(filter.instructions(), &known), ERRNO | 1);
    assert_eq!(run(filter.instructions(), &newer), ERRNO | ENOSYS);
}

/// A list of what is refused must hold for x32's own numbers too: 521 is its ptrace, 101 is nothing there.
#[test]
fn x32_number_of_its_own_is_refused_by_name() {
    let mut profile = only("ptrace", Vec::new());
    profile.default_action = "SCMP_ACT_ALLOW".into();
    profile.architectures = Some(vec!["SCMP_ARCH_X32".into()]);
    profile.syscalls.as_mut().unwrap()[0].action = "SCMP_ACT_ERRNO".into();
    let filter = compile(&profile).unwrap();
    let call = x86_64_call(X32_BIT | 521, [0; 6]);
    assert_eq!(run(filter.instructions(), &call), ERRNO | 1);
}

#[test]
fn more_instructions_than_the_kernel_takes_are_an_error() {
    let mut profile = only("clone", Vec::new());
    let arg = |value| SeccompArg {
        index: 0,
        value,
        value_two: 0,
        op: "SCMP_CMP_EQ".into(),
    };
    profile.syscalls.as_mut().unwrap()[0].args = Some((0..1000).map(arg).collect());
    let error = compile(&profile).unwrap_err().to_string();
    assert!(error.ends_with("instructions, at most 4096"), "{error}");
}

/// The profile of a hardened sandbox, from the vector that the lowering is held to.
#[test]
fn hardened_profile_agrees_for_every_number() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/plan/hardened_do.json"
    );
    let vector: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let profile: SeccompProfile =
        serde_json::from_value(vector["config"]["linux"]["seccomp"].clone()).unwrap();
    let filter = compile(&profile).unwrap();
    assert_loads(filter.instructions());
    for number in (0..700).chain(X32_BIT..X32_BIT + 700) {
        for value in EDGES.into_iter().chain([16, 0x5412, 0x1000_0000]) {
            for arch in [AUDIT_X86_64, AUDIT_I386] {
                let args = [value, value, value & 1, 0, 0, 0];
                let call = Call { arch, number, args };
                assert_eq!(
                    run(filter.instructions(), &call),
                    naive(&profile, &call),
                    "{call:x?}"
                );
            }
        }
    }
}
