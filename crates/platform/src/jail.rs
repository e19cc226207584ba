//! The sentry's own seccomp filter: the published list of calls that it makes once it has booted. A program that took the sentry over gets no others.
//!
//! A call that is not on the list is answered with EPERM and named on standard error: a row that is missing shows at once, and a wall it is all the same.

use std::io;

use casemate_host::seccomp::{self, Instruction};

use crate::filter::{
    ALLOW, AND, AT_LEAST, EQUAL, LOAD, NR, RETURN, X32, argument, jump, statement,
};
use crate::filter::{ARCH, ARCH_X86_64};
use crate::notify;

/// A condition on the low half of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Always,
    /// None of these bits.
    Without {
        argument: u32,
        bits: u32,
    },
    /// One of these values.
    OneOf {
        argument: u32,
        values: &'static [u32],
    },
    /// `argument & mask == value`.
    Masked {
        argument: u32,
        mask: u32,
        value: u32,
    },
}

/// One call that the sentry may make.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    pub nr: i64,
    pub name: &'static str,
    pub when: When,
    pub why: &'static str,
}

const fn call(nr: i64, name: &'static str, why: &'static str) -> Allowed {
    Allowed {
        nr,
        name,
        when: When::Always,
        why,
    }
}

const fn checked(nr: i64, name: &'static str, when: When, why: &'static str) -> Allowed {
    Allowed {
        nr,
        name,
        when,
        why,
    }
}

const PROT_EXEC: u32 = libc::PROT_EXEC.cast_unsigned();

/// What pthread_create(3) asks for, whose clone3(2) is answered as if there were none: its flags are in memory, where no filter sees them.
const THREAD: u32 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID)
    .cast_unsigned();

/// The list; those with conditions that are made most come first, since the host caches the answers of all others.
pub const ALLOWED: &[Allowed] = &[
    checked(
        libc::SYS_ioctl,
        "ioctl",
        When::OneOf {
            argument: 1,
            values: IOCTLS,
        },
        "notifications; terminals, and what a stream holds; how a process ended",
    ),
    checked(
        libc::SYS_fcntl,
        "fcntl",
        When::OneOf {
            argument: 1,
            values: FCNTLS,
        },
        "copies of descriptors, status flags, locks, seals",
    ),
    checked(
        libc::SYS_mmap,
        "mmap",
        When::Without {
            argument: 2,
            bits: PROT_EXEC,
        },
        "memory; never code",
    ),
    checked(
        libc::SYS_mprotect,
        "mprotect",
        When::Without {
            argument: 2,
            bits: PROT_EXEC,
        },
        "memory; never code",
    ),
    call(
        libc::SYS_process_vm_readv,
        "process_vm_readv",
        "arguments of calls",
    ),
    call(
        libc::SYS_process_vm_writev,
        "process_vm_writev",
        "results of calls",
    ),
    call(libc::SYS_futex, "futex", "locks between its threads"),
    call(libc::SYS_munmap, "munmap", "memory"),
    call(libc::SYS_mremap, "mremap", "memory"),
    call(libc::SYS_brk, "brk", "memory"),
    call(libc::SYS_madvise, "madvise", "memory"),
    call(
        libc::SYS_clock_gettime,
        "clock_gettime",
        "deadlines; clocks of processes",
    ),
    checked(
        libc::SYS_timerfd_create,
        "timerfd_create",
        When::OneOf {
            argument: 0,
            values: &[
                libc::CLOCK_REALTIME.cast_unsigned(),
                libc::CLOCK_MONOTONIC.cast_unsigned(),
                libc::CLOCK_BOOTTIME.cast_unsigned(),
            ],
        },
        "programs' timers",
    ),
    call(
        libc::SYS_timerfd_gettime,
        "timerfd_gettime",
        "programs' timers",
    ),
    checked(
        libc::SYS_memfd_create,
        "memfd_create",
        When::Without {
            argument: 1,
            bits: libc::MFD_HUGETLB,
        },
        "programs' memory files",
    ),
    call(
        libc::SYS_inotify_init1,
        "inotify_init1",
        "programs' watches",
    ),
    call(
        libc::SYS_inotify_add_watch,
        "inotify_add_watch",
        "programs' watches",
    ),
    call(
        libc::SYS_inotify_rm_watch,
        "inotify_rm_watch",
        "programs' watches",
    ),
    call(
        libc::SYS_timerfd_settime,
        "timerfd_settime",
        "the next deadline",
    ),
    call(
        libc::SYS_getrandom,
        "getrandom",
        "load addresses, getrandom(2)",
    ),
    // Threads of its own, all under this same filter.
    checked(
        libc::SYS_clone,
        "clone",
        When::OneOf {
            argument: 0,
            values: &[THREAD],
        },
        "a further thread, never a process",
    ),
    call(
        libc::SYS_rt_sigprocmask,
        "rt_sigprocmask",
        "the end of a thread",
    ),
    call(libc::SYS_sigaltstack, "sigaltstack", "the end of a thread"),
    call(
        libc::SYS_rt_sigreturn,
        "rt_sigreturn",
        "the handler that names a refused call",
    ),
    call(libc::SYS_sched_yield, "sched_yield", "locks"),
    call(
        libc::SYS_set_robust_list,
        "set_robust_list",
        "a thread that starts",
    ),
    call(libc::SYS_rseq, "rseq", "a thread that starts"),
    call(
        libc::SYS_sched_getaffinity,
        "sched_getaffinity",
        "sched_getaffinity(2)",
    ),
    checked(
        libc::SYS_prctl,
        "prctl",
        When::OneOf {
            argument: 0,
            values: &[libc::PR_SET_NAME.cast_unsigned()],
        },
        "a thread that starts",
    ),
    call(libc::SYS_getpid, "getpid", "abort"),
    call(libc::SYS_gettid, "gettid", "abort"),
    call(
        libc::SYS_restart_syscall,
        "restart_syscall",
        "after the freezer",
    ),
    call(libc::SYS_exit, "exit", ""),
    call(libc::SYS_exit_group, "exit_group", ""),
    // Programs' processes.
    call(libc::SYS_tgkill, "tgkill", "kicks"),
    call(libc::SYS_kill, "kill", "the end of a process"),
    call(
        libc::SYS_pidfd_open,
        "pidfd_open",
        "to see the end of a process",
    ),
    call(
        libc::SYS_prlimit64,
        "prlimit64",
        "native limits of programs",
    ),
    call(
        libc::SYS_sched_setaffinity,
        "sched_setaffinity",
        "sched_setaffinity(2) of programs",
    ),
    checked(
        libc::SYS_setpriority,
        "setpriority",
        When::OneOf {
            argument: 0,
            values: &[libc::PRIO_PROCESS],
        },
        "setpriority(2) of programs",
    ),
    // Readiness.
    call(libc::SYS_epoll_ctl, "epoll_ctl", "the watcher"),
    call(libc::SYS_epoll_wait, "epoll_wait", "the watcher"),
    call(libc::SYS_epoll_pwait, "epoll_pwait", "the watcher"),
    call(libc::SYS_poll, "poll", "streams, the control socket"),
    call(libc::SYS_ppoll, "ppoll", "streams, the control socket"),
    // The control socket, and sockets that a program was given.
    call(libc::SYS_accept4, "accept4", "the control socket"),
    call(libc::SYS_recvmsg, "recvmsg", "the control socket"),
    call(libc::SYS_sendmsg, "sendmsg", "the control socket"),
    call(libc::SYS_sendto, "sendto", "the control socket"),
    call(libc::SYS_recvfrom, "recvfrom", "given sockets"),
    // The programs' internet sockets. Local ones are the sentry's own: no family that could reach a process of the host.
    checked(
        libc::SYS_socket,
        "socket",
        When::OneOf {
            argument: 0,
            values: &[
                libc::AF_INET.cast_unsigned(),
                libc::AF_INET6.cast_unsigned(),
                libc::AF_NETLINK.cast_unsigned(),
            ],
        },
        "programs' sockets, in the container's network namespace",
    ),
    call(libc::SYS_bind, "bind", "programs' sockets"),
    call(libc::SYS_connect, "connect", "programs' sockets"),
    call(libc::SYS_listen, "listen", "programs' sockets"),
    call(libc::SYS_shutdown, "shutdown", "programs' sockets"),
    call(libc::SYS_getsockname, "getsockname", "programs' sockets"),
    call(libc::SYS_getpeername, "getpeername", "programs' sockets"),
    checked(
        libc::SYS_setsockopt,
        "setsockopt",
        When::OneOf {
            argument: 1,
            values: LEVELS,
        },
        "programs' sockets",
    ),
    checked(
        libc::SYS_getsockopt,
        "getsockopt",
        When::OneOf {
            argument: 1,
            values: LEVELS,
        },
        "programs' sockets",
    ),
    // Open files.
    call(libc::SYS_read, "read", "files"),
    call(libc::SYS_write, "write", "files"),
    call(libc::SYS_writev, "writev", "messages"),
    call(libc::SYS_pread64, "pread64", "files"),
    call(libc::SYS_pwrite64, "pwrite64", "files"),
    call(
        libc::SYS_preadv2,
        "preadv2",
        "what is possible without waiting",
    ),
    call(
        libc::SYS_pwritev2,
        "pwritev2",
        "what is possible without waiting",
    ),
    call(libc::SYS_lseek, "lseek", "directories, sparse files"),
    call(libc::SYS_close, "close", "files"),
    call(libc::SYS_fstat, "fstat", "files"),
    call(libc::SYS_newfstatat, "newfstatat", "files"),
    call(libc::SYS_statx, "statx", "files"),
    call(libc::SYS_fstatfs, "fstatfs", "statfs(2)"),
    call(libc::SYS_getdents64, "getdents64", "directories"),
    call(libc::SYS_ftruncate, "ftruncate", "files"),
    call(libc::SYS_fallocate, "fallocate", "files"),
    call(libc::SYS_fsync, "fsync", "files"),
    call(libc::SYS_fdatasync, "fdatasync", "files"),
    call(libc::SYS_syncfs, "syncfs", "the tree"),
    // Names: below the container's root, which is its own.
    call(libc::SYS_openat, "openat", "/proc of its pid namespace"),
    call(libc::SYS_openat2, "openat2", "the tree"),
    call(libc::SYS_readlinkat, "readlinkat", "the tree"),
    call(libc::SYS_mkdirat, "mkdirat", "the tree"),
    call(libc::SYS_unlinkat, "unlinkat", "the tree"),
    call(libc::SYS_renameat2, "renameat2", "the tree"),
    call(libc::SYS_renameat, "renameat", "the tree"),
    call(libc::SYS_linkat, "linkat", "the tree"),
    call(libc::SYS_symlinkat, "symlinkat", "the tree"),
    call(libc::SYS_mknodat, "mknodat", "the tree"),
    call(libc::SYS_fchmod, "fchmod", "the tree"),
    call(libc::SYS_fchmodat, "fchmodat", "the tree"),
    call(libc::SYS_fchown, "fchown", "the tree"),
    call(libc::SYS_fchownat, "fchownat", "the tree"),
    call(libc::SYS_utimensat, "utimensat", "the tree"),
    call(libc::SYS_faccessat2, "faccessat2", "the tree"),
    call(
        libc::SYS_fgetxattr,
        "fgetxattr",
        "attributes; capabilities of programs",
    ),
    call(
        libc::SYS_fsetxattr,
        "fsetxattr",
        "attributes that belong to users",
    ),
    call(libc::SYS_flistxattr, "flistxattr", "attributes"),
    call(
        libc::SYS_fremovexattr,
        "fremovexattr",
        "attributes that belong to users",
    ),
];

/// Requests of ioctl(2): the listener's, terminals', a stream's, pidfds'.
const IOCTLS: &[u32] = &[
    notify::RECV as u32,
    notify::SEND as u32,
    notify::ADD_FD as u32,
    crate::process::PIDFD_GET_INFO as u32,
    crate::process::NS_GET_PID_IN_PIDNS as u32,
    crate::process::NS_GET_TGID_IN_PIDNS as u32,
    libc::FIONREAD as u32,
    libc::FIONBIO as u32,
    libc::TCGETS as u32,
    libc::TCSETS as u32,
    libc::TCSETSW as u32,
    libc::TCSETSF as u32,
    0x802C_542A, // TCGETS2
    0x402C_542B, // TCSETS2
    0x402C_542C, // TCSETSW2
    0x402C_542D, // TCSETSF2
    libc::TCFLSH as u32,
    libc::TCSBRK as u32,
    libc::TCXONC as u32,
    libc::TIOCGWINSZ as u32,
    libc::TIOCSWINSZ as u32,
    libc::TIOCGPGRP as u32,
    libc::TIOCGSID as u32,
    libc::TIOCOUTQ as u32,
    0x8004_5430, // TIOCGPTN
    0x4004_5431, // TIOCSPTLCK
    0x5441,      // TIOCGPTPEER
    0x8004_5438, // TIOCGPKT
    0x8004_5439, // TIOCGPTLCK
    0x5420,      // TIOCPKT
    0x4004_9409, // FICLONE
    0x8008_6601, // FS_IOC_GETFLAGS
    // What `socket::REQUESTS` has besides: SIOCATMARK, and what an interface is, by its name.
    0x8905,
    0x8910,
    0x8912,
    0x8913,
    0x8915,
    0x8917,
    0x8919,
    0x891B,
    0x891D,
    0x8921,
    0x8927,
    0x8933,
    0x8942,
];

/// Levels of sockets' options; which options, `vfs::socket::host_options` says.
const LEVELS: &[u32] = &[
    libc::SOL_SOCKET.cast_unsigned(),
    libc::IPPROTO_IP.cast_unsigned(),
    libc::IPPROTO_TCP.cast_unsigned(),
    libc::IPPROTO_IPV6.cast_unsigned(),
    libc::IPPROTO_UDPLITE.cast_unsigned(),
    libc::SOL_NETLINK.cast_unsigned(),
];

const FCNTLS: &[u32] = &[
    libc::F_DUPFD_CLOEXEC.cast_unsigned(),
    libc::F_GETFD.cast_unsigned(),
    libc::F_SETFD.cast_unsigned(),
    libc::F_GETFL.cast_unsigned(),
    libc::F_SETFL.cast_unsigned(),
    libc::F_GETLK.cast_unsigned(),
    libc::F_SETLK.cast_unsigned(),
    libc::F_OFD_GETLK.cast_unsigned(),
    libc::F_OFD_SETLK.cast_unsigned(),
    libc::F_ADD_SEALS.cast_unsigned(),
    libc::F_GET_SEALS.cast_unsigned(),
    libc::F_GETPIPE_SZ.cast_unsigned(),
    libc::F_SETPIPE_SZ.cast_unsigned(),
];

const ERRNO: u32 = 0x0005_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

/// The filter: other ways into the kernel kill, the list is allowed, the rest traps.
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
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    code.push(jump(EQUAL, clone3, 0, 1));
    code.push(statement(RETURN, ERRNO | libc::ENOSYS.unsigned_abs()));
    for rule in ALLOWED {
        let body = body(rule.when);
        let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
        let nr = u32::try_from(rule.nr).unwrap_or(u32::MAX);
        code.push(jump(EQUAL, nr, 0, skip));
        code.extend(body);
    }
    code.push(statement(RETURN, TRAP));
    code
}

/// Ends in ALLOW or TRAP on every way.
fn body(when: When) -> Vec<Instruction> {
    match when {
        When::Always => vec![statement(RETURN, ALLOW)],
        When::Without { argument, bits } => masked(argument, bits, 0),
        When::Masked {
            argument,
            mask,
            value,
        } => masked(argument, mask, value),
        When::OneOf {
            argument: index,
            values,
        } => {
            let mut code = vec![statement(LOAD, argument(index))];
            for (place, value) in values.iter().enumerate() {
                // Over the values left, and the TRAP behind them.
                let left = u8::try_from(values.len() - place).unwrap_or(u8::MAX);
                code.push(jump(EQUAL, *value, left, 0));
            }
            code.push(statement(RETURN, TRAP));
            code.push(statement(RETURN, ALLOW));
            code
        }
    }
}

fn masked(index: u32, mask: u32, value: u32) -> Vec<Instruction> {
    vec![
        statement(LOAD, argument(index)),
        statement(AND, mask),
        jump(EQUAL, value, 1, 0),
        statement(RETURN, TRAP),
        statement(RETURN, ALLOW),
    ]
}

/// Closes the jail for all threads of this process: no new privileges by execution, and the filter.
///
/// # Errors
/// As prctl(2), sigaction(2), seccomp(2).
pub fn close() -> io::Result<()> {
    // SAFETY: no memory is passed.
    crate::check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    name_refused_calls()?;
    seccomp::install(&program(), seccomp::FLAG_TSYNC | seccomp::FLAG_SPEC_ALLOW).map(drop)
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
    // SAFETY: writes the message, which lives on this stack.
    unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_starts_joins_or_mounts_is_allowed() {
        const NEVER: &[i64] = &[
            libc::SYS_execve,
            libc::SYS_execveat,
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

    /// In a forked child, since a jail is never opened again. Its exit code tells what failed.
    #[test]
    fn a_jailed_process_starts_threads_and_no_processes() {
        // SAFETY: the child only runs what is below, and ends by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = if close().is_err() {
                1
            } else if std::thread::spawn(|| 7).join().ok() != Some(7) {
                2
            } else if fork_again() != -1 {
                3
            } else {
                0
            };
            // SAFETY: ends this process.
            unsafe { libc::_exit(code) }
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((waited, status), (child, 0));
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
}
