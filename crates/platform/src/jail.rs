//! The sentry's own seccomp filter: the published list of calls that it makes once it has booted. A program that took the sentry over gets no others, and of
//! these only what the conditions on their arguments leave.
//!
//! A call that is not on the list, or not with such arguments, is answered with EPERM and named on standard error: a row that is missing shows at once, and a
//! wall it is all the same.

mod arguments;
mod compile;
mod condition;
mod list;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use casemate_host::seccomp;

pub use arguments::NO_APPEND;
pub use compile::program;
pub use condition::{Allowed, Condition};
pub use list::{ALLOWED, BORNE};

/// Before any thread is there: memory is to come from one place that needs none of the calls that are refused later.
pub fn prepare() {
    // SAFETY: sets a number of the allocator's. (musl's has one place.)
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
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
    unsafe { crate::transfer(libc::SYS_pwritev2, 2, &part, -1) };
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

    /// The published numbers.
    #[test]
    fn calls_are_as_many_as_published_and_all_that_have_arguments_are_checked() {
        assert!(ALLOWED.len() <= 60, "{}", ALLOWED.len());
        let unchecked = ALLOWED.iter().filter(|rule| rule.when.is_empty());
        let names: Vec<&str> = unchecked.map(|rule| rule.name).collect();
        assert_eq!(names, ["rt_sigreturn", "exit_group"]);
    }
}
