//! The list as a seccomp filter.

use casemate_host::seccomp::Instruction;

use super::{ALLOWED, BORNE, Condition};
use crate::filter::{ALLOW, AND, AT_LEAST, EQUAL, LOAD, RETURN, argument, entry, jump, statement};

const ERRNO: u32 = 0x0005_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
/// BPF_JMP | BPF_JGT | BPF_K
const ABOVE: u16 = 0x25;

/// The filter: other ways into the kernel kill, the list is allowed, what libraries bear is refused, the rest traps.
#[must_use]
pub fn program() -> Vec<Instruction> {
    let mut code = entry(KILL_PROCESS);
    for rule in ALLOWED {
        push(&mut code, rule.nr, body(rule.when));
    }
    for (nr, errno) in BORNE {
        push(
            &mut code,
            *nr,
            vec![statement(RETURN, ERRNO | errno.unsigned_abs())],
        );
    }
    code.push(statement(RETURN, TRAP));
    code
}

/// The body runs for that number, and is jumped over for all others.
fn push(code: &mut Vec<Instruction>, nr: i64, body: Vec<Instruction>) {
    let nr = u32::try_from(nr).unwrap_or(u32::MAX);
    let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
    code.push(jump(EQUAL, nr, 0, skip));
    code.extend(body);
}

/// Ends in ALLOW or TRAP on every way.
fn body(when: &[Condition]) -> Vec<Instruction> {
    let mut code: Vec<Instruction> = when.iter().flat_map(|one| check(*one)).collect();
    code.push(statement(RETURN, ALLOW));
    code
}

/// Falls through where the condition holds, and traps where not.
fn check(condition: Condition) -> Vec<Instruction> {
    match condition {
        Condition::Without { argument: at, bits } => vec![
            statement(LOAD, argument(at)),
            statement(AND, bits),
            jump(EQUAL, 0, 1, 0),
            statement(RETURN, TRAP),
        ],
        Condition::OneOf {
            argument: at,
            mask,
            values,
        } => {
            let mut code = load(at, mask);
            code.extend(one_of_these(values));
            code
        }
        Condition::NoneOf {
            argument: at,
            mask,
            values,
        } => {
            let mut code = load(at, mask);
            for (place, value) in values.iter().enumerate() {
                // To the TRAP behind the values left and the way out.
                let left = u8::try_from(values.len() - place).unwrap_or(u8::MAX);
                code.push(jump(EQUAL, *value, left, 0));
            }
            // A jump that is always taken.
            code.push(jump(AT_LEAST, 0, 1, 0));
            code.push(statement(RETURN, TRAP));
            code
        }
        Condition::UpTo { argument: at, most } => vec![
            statement(LOAD, argument(at) + 4),
            jump(EQUAL, 0, 0, 2),
            statement(LOAD, argument(at)),
            jump(ABOVE, most, 0, 1),
            statement(RETURN, TRAP),
        ],
        Condition::Pair {
            first,
            second,
            pairs,
        } => pair_check(first, second, pairs),
    }
}

fn load(at: u32, mask: u32) -> Vec<Instruction> {
    let mut code = vec![statement(LOAD, argument(at))];
    if mask != u32::MAX {
        code.push(statement(AND, mask));
    }
    code
}

fn one_of_these(values: &[u32]) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (place, value) in values.iter().enumerate() {
        // Over the values left, and the TRAP behind them.
        let left = u8::try_from(values.len() - place).unwrap_or(u8::MAX);
        code.push(jump(EQUAL, *value, left, 0));
    }
    code.push(statement(RETURN, TRAP));
    code
}

fn pair_check(first: u32, second: u32, pairs: &[(i32, &[i32])]) -> Vec<Instruction> {
    let mut blocks: Vec<Vec<Instruction>> = Vec::new();
    for (value, others) in pairs {
        let others: Vec<u32> = others.iter().map(|other| other.cast_unsigned()).collect();
        let mut inner = vec![statement(LOAD, argument(second))];
        inner.extend(one_of_these(&others));
        let skip = u8::try_from(inner.len() + 1).unwrap_or(u8::MAX);
        let mut block = vec![jump(EQUAL, value.cast_unsigned(), 0, skip)];
        block.extend(inner);
        blocks.push(block);
    }
    // Behind each block that held: over what is left, and the TRAP.
    let mut code = vec![statement(LOAD, argument(first))];
    let mut left: usize = blocks.iter().map(|block| block.len() + 1).sum();
    for block in blocks {
        left -= block.len() + 1;
        code.extend(block);
        let over = u8::try_from(left + 1).unwrap_or(u8::MAX);
        code.push(jump(AT_LEAST, 0, over, 0));
    }
    code.push(statement(RETURN, TRAP));
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::ARCH_X86_64;

    #[test]
    fn bodies_are_short_enough_to_be_jumped_over() {
        let longest = ALLOWED.iter().map(|rule| body(rule.when).len()).max();
        assert!(longest.is_some_and(|len| len < 255));
    }

    fn low(value: i32) -> u64 {
        u64::from(value.cast_unsigned())
    }

    /// What the filter answers to a call: the host's kernel runs the same instructions.
    fn run(nr: i64, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(u32::try_from(nr).unwrap_or(u32::MAX).to_ne_bytes());
        data.extend(ARCH_X86_64.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        for value in arguments {
            data.extend(value.to_ne_bytes());
        }
        let code = program();
        let (mut at, mut word) = (0, 0_u32);
        loop {
            let step = code[at];
            let jumps = |taken: bool| usize::from(if taken { step.jt } else { step.jf }) + 1;
            match step.code {
                LOAD => {
                    let from = step.k as usize;
                    let bytes: [u8; 4] = data[from..from + 4].try_into().unwrap_or_default();
                    word = u32::from_ne_bytes(bytes);
                    at += 1;
                }
                AND => {
                    word &= step.k;
                    at += 1;
                }
                EQUAL => at += jumps(word == step.k),
                AT_LEAST => at += jumps(word >= step.k),
                ABOVE => at += jumps(word > step.k),
                RETURN => return step.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn conditions_are_what_the_filter_does() {
        let socket =
            |family: i32, kind: i32| run(libc::SYS_socket, [low(family), low(kind), 0, 0, 0, 0]);
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM | flags), ALLOW);
        assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM), TRAP);
        assert_eq!(socket(libc::AF_UNIX, libc::SOCK_STREAM | flags), TRAP);
        let option = |level: i32, name: i32, len: u64| {
            let arguments = [3, low(level), low(name), 0, len, 0];
            run(libc::SYS_setsockopt, arguments)
        };
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_REUSEADDR, 4), ALLOW);
        assert_eq!(option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 4), ALLOW);
        // The same number at another level: a filter's program.
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, 16), TRAP);
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_REUSEADDR, 513), TRAP);
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1 << 32), TRAP);
        assert_eq!(option(libc::SOL_UDP, 1, 4), TRAP);
        let kill = |pid: i32, signal: u64| run(libc::SYS_kill, [low(pid), signal, 0, 0, 0, 0]);
        assert_eq!(kill(7, 9), ALLOW);
        assert_eq!((kill(0, 9), kill(-1, 9), kill(7, 15)), (TRAP, TRAP, TRAP));
        let mmap = |prot: i32, flags: i32| {
            run(
                libc::SYS_mmap,
                [0, 4096, low(prot), low(flags), u64::MAX, 0],
            )
        };
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        assert_eq!(mmap(libc::PROT_READ | libc::PROT_WRITE, private), ALLOW);
        assert_eq!(mmap(libc::PROT_READ | libc::PROT_EXEC, private), TRAP);
        assert_eq!(mmap(libc::PROT_READ, private | libc::MAP_FIXED), TRAP);
        // A clock of a process's; one of a descriptor's.
        let clock = |number: i32| run(libc::SYS_clock_gettime, [low(number), 0, 0, 0, 0, 0]);
        assert_eq!(
            (clock(1), clock(!7 << 3 | 2), clock(!7 << 3 | 3)),
            (ALLOW, ALLOW, TRAP)
        );
        let at = |fd: i32| run(libc::SYS_mkdirat, [low(fd), 0, 0o755, 0, 0, 0]);
        assert_eq!((at(5), at(libc::AT_FDCWD)), (ALLOW, TRAP));
        assert_eq!(
            run(libc::SYS_mremap, [0; 6]),
            ERRNO | libc::ENOMEM.unsigned_abs()
        );
        assert_eq!(run(libc::SYS_execve, [0; 6]), TRAP);
    }
}
