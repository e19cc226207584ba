//! The sentry's own seccomp filter: the published list of calls that it makes once it has booted. A program that took the sentry over gets no others, and of
//! these only what the conditions on their arguments leave.
//!
//! A call that is not on the list, or not with such arguments, is answered with EPERM and named on standard error: a row that is missing shows at once, and a
//! wall it is all the same.

mod list;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use casemate_host::seccomp::{self, Instruction};

use crate::filter::{
    ALLOW, AND, AT_LEAST, EQUAL, LOAD, NR, RETURN, X32, argument, jump, statement,
};
use crate::filter::{ARCH, ARCH_X86_64};

pub use list::{ALLOWED, BORNE, NO_APPEND};

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

const fn row(
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

const fn without(argument: u32, bits: u32) -> Condition {
    Condition::Without { argument, bits }
}

/// A descriptor: not AT_FDCWD, nor any other negative number with a meaning.
const fn descriptor(argument: u32) -> Condition {
    without(argument, 0x8000_0000)
}

const fn one_of(argument: u32, values: &'static [u32]) -> Condition {
    masked(argument, u32::MAX, values)
}

const fn masked(argument: u32, mask: u32, values: &'static [u32]) -> Condition {
    Condition::OneOf {
        argument,
        mask,
        values,
    }
}

const fn none_of(argument: u32, mask: u32, values: &'static [u32]) -> Condition {
    Condition::NoneOf {
        argument,
        mask,
        values,
    }
}

const fn up_to(argument: u32, most: u32) -> Condition {
    Condition::UpTo { argument, most }
}

const fn pair(first: u32, second: u32, pairs: &'static [(i32, &'static [i32])]) -> Condition {
    Condition::Pair {
        first,
        second,
        pairs,
    }
}

const ERRNO: u32 = 0x0005_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
/// BPF_JMP | BPF_JGT | BPF_K
const ABOVE: u16 = 0x25;

/// The filter: other ways into the kernel kill, the list is allowed, what libraries bear is refused, the rest traps.
#[must_use]
pub fn program() -> Vec<Instruction> {
    let mut code = vec![
        statement(LOAD, ARCH),
        jump(EQUAL, ARCH_X86_64, 1, 0),
        statement(RETURN, KILL_PROCESS),
        statement(LOAD, NR),
        jump(AT_LEAST, X32, 0, 1),
        statement(RETURN, KILL_PROCESS),
    ];
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

/// Before any thread is there: memory is to come from one place that needs none of the calls that are refused later.
pub fn prepare() {
    // SAFETY: sets a number of the allocator's.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

static IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether this process is in its jail.
#[must_use]
pub fn is_closed() -> bool {
    IS_CLOSED.load(Ordering::Acquire)
}

/// Closes the jail for all threads of this process: no new privileges by execution, and the filter.
///
/// # Errors
/// As prctl(2), sigaction(2), seccomp(2).
pub fn close() -> io::Result<()> {
    // SAFETY: no memory is passed.
    crate::check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    die_of_faults();
    name_refused_calls()?;
    seccomp::install(&program(), seccomp::FLAG_TSYNC | seccomp::FLAG_SPEC_ALLOW)?;
    IS_CLOSED.store(true, Ordering::Release);
    Ok(())
}

/// The library's handlers set the default again and return, to die of the same fault: which the jail refuses, so that they would run for ever.
fn die_of_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: SIG_DFL for a valid signal.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn name_refused_calls() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a legal one; the handler has the signature that SA_SIGINFO asks for, and only does what signal-safety(7) allows.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_refused as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        crate::check(libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()).into())
            .map(drop)
    }
}

/// Writes the call's number and has the call return EPERM.
extern "C" fn on_refused(
    _signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let mut message = *b"casemate-sentry: refused call 0000\n";
    // SAFETY: the kernel passes the interrupted thread's context, which is ours to change until the handler returns.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let rax = libc::REG_RAX as usize;
    let mut number = registers[rax];
    registers[rax] = -i64::from(libc::EPERM);
    for digit in message[30..34].iter_mut().rev() {
        *digit = b'0' + u8::try_from(number.rem_euclid(10)).unwrap_or(0);
        number /= 10;
    }
    let part = libc::iovec {
        iov_base: message.as_mut_ptr().cast(),
        iov_len: message.len(),
    };
    // SAFETY: the part describes the message, which lives on this stack and is only read.
    unsafe { libc::pwritev2(2, &raw const part, 1, -1, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_starts_joins_or_mounts_is_allowed() {
        const NEVER: &[i64] = &[
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_ptrace,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_mount,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_mprotect,
            libc::SYS_prctl,
            libc::SYS_rt_sigaction,
            libc::SYS_seccomp,
            libc::SYS_capset,
        ];
        let found: Vec<&str> = ALLOWED
            .iter()
            .filter(|rule| NEVER.contains(&rule.nr))
            .map(|rule| rule.name)
            .collect();
        assert_eq!(found, [] as [&str; 0]);
    }

    fn fork_again() -> i32 {
        // SAFETY: it is to fail; a child that is there all the same only ends.
        unsafe { libc::fork() }
    }

    /// In a forked child, since a jail is never opened again; wait(2)'s status of it.
    fn jailed(work: fn() -> i32) -> i32 {
        // SAFETY: the child only runs what is below, and ends by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            prepare();
            let code = if close().is_err() { 100 } else { work() };
            // SAFETY: ends this process.
            unsafe { libc::_exit(code) }
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child);
        status
    }

    #[test]
    fn a_jailed_process_starts_neither_processes_nor_threads() {
        assert_eq!(jailed(|| i32::from(fork_again() != -1)), 0);
        let thread = || i32::from(std::thread::Builder::new().spawn(|| ()).is_ok());
        assert_eq!(jailed(thread), 0);
    }

    #[test]
    fn a_jailed_process_dies_of_its_faults() {
        let fault = || {
            // SAFETY: it is to fail: nothing is mapped there.
            unsafe { std::ptr::null::<u8>().wrapping_add(8).read_volatile() }.into()
        };
        assert_eq!(jailed(fault) & 0x7F, libc::SIGSEGV);
        assert_ne!(jailed(|| std::process::abort()) & 0x7F, 0);
    }

    #[test]
    fn each_call_has_one_row() {
        let mut numbers: Vec<i64> = ALLOWED.iter().map(|rule| rule.nr).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ALLOWED.len());
    }

    #[test]
    fn bodies_are_short_enough_to_be_jumped_over() {
        let longest = ALLOWED.iter().map(|rule| body(rule.when).len()).max();
        assert!(longest.is_some_and(|len| len < 255));
    }

    /// The published numbers.
    #[test]
    fn calls_are_as_many_as_published_and_all_that_have_arguments_are_checked() {
        assert!(ALLOWED.len() <= 60, "{}", ALLOWED.len());
        let unchecked = ALLOWED.iter().filter(|rule| rule.when.is_empty());
        let names: Vec<&str> = unchecked.map(|rule| rule.name).collect();
        assert_eq!(names, ["rt_sigreturn", "exit_group"]);
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
