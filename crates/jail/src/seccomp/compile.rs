//! From a profile to instructions: the architecture, then a binary search over the call's number, then the rules' conditions.
//!
//! A list of 400 allowed calls is tried in about nine comparisons, where a linear filter takes up to 400.

use std::collections::BTreeMap;

use casemate_host::seccomp::Instruction;
use casemate_plan::seccomp::{SeccompArg, SeccompProfile, SeccompRule};

use super::Filter;
use super::actions::{self, ERRNO, KILL_PROCESS};
use super::names::{AUDIT_I386, AUDIT_X86_64, Arch, X32_BIT};
use crate::Error;

const MAX_INSTRUCTIONS: usize = 4096;
const ENOSYS: u32 = 38;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const GREATER_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// A rule that applies to one call: conditions that must all hold, and what happens then.
#[derive(Debug, Clone, PartialEq)]
struct Case {
    conditions: Vec<Condition>,
    action: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    index: u32,
    op: Compare,
    value: u64,
    mask: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Compare {
    NotEqual,
    Less,
    LessEqual,
    Equal,
    GreaterEqual,
    Greater,
    MaskedEqual,
}

/// Compiles a profile.
///
/// # Errors
/// [`Error::Profile`]: an unknown action, operator or flag, an argument index above 5, or more than 4,096 instructions.
pub fn compile(profile: &SeccompProfile) -> Result<Filter, Error> {
    let default = actions::action(&profile.default_action, profile.default_errno_ret)?;
    let native = vec!["SCMP_ARCH_X86_64".to_owned()];
    let listed = profile
        .architectures
        .as_ref()
        .filter(|list| !list.is_empty())
        .unwrap_or(&native);
    let mut arches: Vec<Arch> = listed
        .iter()
        .filter_map(|name| Arch::from_oci(name))
        .collect();
    if !arches.contains(&Arch::X86_64) {
        arches.push(Arch::X86_64); // libseccomp's filters start with the native convention (runc adds to it)
    }
    let rules = profile.syscalls.as_deref().unwrap_or(&[]);
    let mut blocks = BTreeMap::new();
    for arch in [Arch::X86_64, Arch::X32, Arch::X86] {
        if arches.contains(&arch) {
            blocks.insert(arch as u8, table(arch, rules, default)?);
        }
    }
    let instructions = assemble(&blocks, default);
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::Profile(format!(
            "{} instructions, at most {MAX_INSTRUCTIONS}",
            instructions.len()
        )));
    }
    Ok(Filter {
        instructions,
        flags: actions::flags(profile.flags.as_deref().unwrap_or(&[]))?,
    })
}

/// One convention's calls that a rule says something about.
#[derive(Debug, Default)]
struct Table {
    cases: BTreeMap<u32, Vec<Case>>,
    /// The highest number that the profile names, by whatever rule: its author knew the calls up to here.
    newest: Option<u32>,
}

fn table(arch: Arch, rules: &[SeccompRule], default: u32) -> Result<Table, Error> {
    let mut table = Table::default();
    for rule in rules {
        let action = actions::action(&rule.action, rule.errno_ret)?;
        let cases = cases(rule, action)?;
        for number in rule.names.iter().filter_map(|name| arch.number(name)) {
            table.newest = table.newest.max(Some(number));
            if action == default {
                continue; // libseccomp refuses such a rule and runc skips it: it would say nothing
            }
            table
                .cases
                .entry(number)
                .or_default()
                .extend(cases.iter().cloned());
        }
    }
    Ok(table)
}

/// All conditions of a rule hold together; but where one argument has several, each entry is a rule of its own, as runc does for libseccomp.
fn cases(rule: &SeccompRule, action: u32) -> Result<Vec<Case>, Error> {
    let args = rule.args.as_deref().unwrap_or(&[]);
    let conditions = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let repeated = conditions.iter().enumerate().any(|(at, one)| {
        conditions[..at]
            .iter()
            .any(|other| other.index == one.index)
    });
    if repeated {
        return Ok(conditions
            .into_iter()
            .map(|condition| Case {
                conditions: vec![condition],
                action,
            })
            .collect());
    }
    Ok(vec![Case { conditions, action }])
}

fn condition(arg: &SeccompArg) -> Result<Condition, Error> {
    if arg.index > 5 {
        return Err(Error::Profile(format!(
            "argument index {}, at most 5",
            arg.index
        )));
    }
    let (op, value, mask) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (Compare::NotEqual, arg.value, u64::MAX),
        "SCMP_CMP_LT" => (Compare::Less, arg.value, u64::MAX),
        "SCMP_CMP_LE" => (Compare::LessEqual, arg.value, u64::MAX),
        "SCMP_CMP_EQ" => (Compare::Equal, arg.value, u64::MAX),
        "SCMP_CMP_GE" => (Compare::GreaterEqual, arg.value, u64::MAX),
        "SCMP_CMP_GT" => (Compare::Greater, arg.value, u64::MAX),
        // Only the bits of the mask are compared, on both sides (libseccomp _db_node_mask_fixup).
        "SCMP_CMP_MASKED_EQ" => (Compare::MaskedEqual, arg.value_two & arg.value, arg.value),
        other => return Err(Error::Profile(format!("unknown operator {other:?}"))),
    };
    Ok(Condition {
        index: arg.index,
        op,
        value,
        mask,
    })
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn jump_over(length: usize) -> Instruction {
    instruction(JUMP, 0, 0, u32::try_from(length).unwrap_or(u32::MAX))
}

/// The whole program. A convention that the profile does not list is killed: a filter by numbers means nothing for another table of numbers.
/// (libseccomp kills the thread; we kill the process, so that no half-dead one is left.) An unlisted x32 call, which is an x86-64 call with a bit set, gets ENOSYS, as kernels without x32 answer.
fn assemble(blocks: &BTreeMap<u8, Table>, default: u32) -> Vec<Instruction> {
    let wide = blocks
        .get(&(Arch::X86_64 as u8))
        .map_or_else(Vec::new, |table| block(table, default));
    let x32 = blocks.get(&(Arch::X32 as u8)).map_or_else(
        || vec![instruction(RETURN, 0, 0, ERRNO | ENOSYS)],
        |table| block(table, default),
    );
    let narrow = blocks.get(&(Arch::X86 as u8)).map_or_else(
        || vec![instruction(RETURN, 0, 0, KILL_PROCESS)],
        |table| block(table, default),
    );
    let mut program = vec![
        instruction(LOAD, 0, 0, OFFSET_ARCH),
        instruction(EQUAL, 1, 0, AUDIT_X86_64),
    ];
    program.push(jump_over(3 + wide.len() + x32.len()));
    program.push(instruction(LOAD, 0, 0, OFFSET_NUMBER));
    program.push(instruction(GREATER_EQUAL, 0, 1, X32_BIT));
    program.push(jump_over(wide.len()));
    program.extend(wide);
    program.extend(x32);
    program.push(instruction(EQUAL, 1, 0, AUDIT_I386));
    program.push(instruction(RETURN, 0, 0, KILL_PROCESS));
    program.push(instruction(LOAD, 0, 0, OFFSET_NUMBER));
    program.extend(narrow);
    program
}

/// One convention's calls; the number is in the accumulator.
fn block(table: &Table, default: u32) -> Vec<Instruction> {
    let mut program = Vec::new();
    // A call newer than the profile's author could know: ENOSYS, so that libraries fall back, where the default would be another errno (runc's patchbpf).
    let is_errno = default & 0xffff_0000 == ERRNO;
    if let Some(newest) = table.newest.filter(|_| is_errno) {
        program.push(instruction(GREATER, 0, 1, newest));
        program.push(instruction(RETURN, 0, 0, ERRNO | ENOSYS));
    }
    program.extend(search(&ranges(&table.cases, default)));
    program
}

/// The numbers' space cut into runs that are treated alike: `(first number, cases)`, ending with the default where no case stands.
fn ranges(table: &BTreeMap<u32, Vec<Case>>, default: u32) -> Vec<(u32, Vec<Case>)> {
    let fallback = Case {
        conditions: Vec::new(),
        action: default,
    };
    let mut ranges: Vec<(u32, Vec<Case>)> = vec![(0, vec![fallback.clone()])];
    let mut push = |first: u32, cases: Vec<Case>| {
        if let Some(last) = ranges.last_mut() {
            if last.1 == cases {
                return;
            }
            if last.0 == first {
                last.1 = cases;
                return;
            }
        }
        ranges.push((first, cases));
    };
    for (&number, cases) in table {
        let mut all = Vec::new();
        for case in cases {
            all.push(case.clone());
            if case.conditions.is_empty() {
                break; // nothing after it can be reached
            }
        }
        if all.last().is_none_or(|case| !case.conditions.is_empty()) {
            all.push(fallback.clone());
        }
        push(number, all);
        if !table.contains_key(&(number + 1)) {
            push(number + 1, vec![fallback.clone()]);
        }
    }
    ranges
}

fn search(ranges: &[(u32, Vec<Case>)]) -> Vec<Instruction> {
    match ranges {
        [] => Vec::new(),
        [(_, cases)] => cases.iter().flat_map(case_code).collect(),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let low = search(low);
            let mut program = vec![
                instruction(GREATER_EQUAL, 0, 1, high.first().map_or(0, |range| range.0)),
                jump_over(low.len()),
            ];
            program.extend(low);
            program.extend(search(high));
            program
        }
    }
}

/// Falls through to what follows when a condition does not hold.
fn case_code(case: &Case) -> Vec<Instruction> {
    let mut program = vec![instruction(RETURN, 0, 0, case.action)];
    for condition in case.conditions.iter().rev() {
        let mut with = condition_code(condition, program.len());
        with.append(&mut program);
        program = with;
    }
    program
}

/// Code that goes on behind itself if the condition holds, and skips `rest` more instructions if it does not. Both halves of the 64-bit argument are
/// compared: a filter that looks at one half is walked around by setting the other.
fn condition_code(condition: &Condition, rest: usize) -> Vec<Instruction> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of a 64-bit value"
    )]
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (high, low) = halves(condition.value);
    let (mask_high, mask_low) = halves(condition.mask);
    let offset = OFFSET_ARGS + 8 * condition.index;
    let load_high = instruction(LOAD, 0, 0, offset + 4);
    let load_low = instruction(LOAD, 0, 0, offset);
    // `fail` stands last and jumps over the rest; `1` beyond it is success.
    let fail = jump_over(rest);
    match condition.op {
        Compare::Equal => vec![
            load_high,
            instruction(EQUAL, 0, 2, high),
            load_low,
            instruction(EQUAL, 1, 0, low),
            fail,
        ],
        Compare::NotEqual => vec![
            load_high,
            instruction(EQUAL, 0, 3, high),
            load_low,
            instruction(EQUAL, 0, 1, low),
            fail,
        ],
        Compare::Greater => ordered(
            load_high,
            load_low,
            (high, low),
            instruction(GREATER, 1, 0, low),
            fail,
            true,
        ),
        Compare::GreaterEqual => ordered(
            load_high,
            load_low,
            (high, low),
            instruction(GREATER_EQUAL, 1, 0, low),
            fail,
            true,
        ),
        Compare::Less => ordered(
            load_high,
            load_low,
            (high, low),
            instruction(GREATER_EQUAL, 0, 1, low),
            fail,
            false,
        ),
        Compare::LessEqual => ordered(
            load_high,
            load_low,
            (high, low),
            instruction(GREATER, 0, 1, low),
            fail,
            false,
        ),
        // An `int`: the other half is never looked at.
        Compare::MaskedEqual if mask_high == 0 => vec![
            load_low,
            instruction(AND, 0, 0, mask_low),
            instruction(EQUAL, 1, 0, low),
            fail,
        ],
        Compare::MaskedEqual => vec![
            load_high,
            instruction(AND, 0, 0, mask_high),
            instruction(EQUAL, 0, 3, high),
            load_low,
            instruction(AND, 0, 0, mask_low),
            instruction(EQUAL, 1, 0, low),
            fail,
        ],
    }
}

/// An ordering: decided by the high half unless it is equal. `greater`: a greater high half holds, else it fails.
fn ordered(
    load_high: Instruction,
    load_low: Instruction,
    value: (u32, u32),
    compare_low: Instruction,
    fail: Instruction,
    greater: bool,
) -> Vec<Instruction> {
    let (when_greater, when_less) = if greater { (4, 3) } else { (3, 4) };
    vec![
        load_high,
        instruction(GREATER, when_greater, 0, value.0),
        instruction(EQUAL, 0, when_less - 1, value.0),
        load_low,
        compare_low,
        fail,
    ]
}
