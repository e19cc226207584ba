//! What the processes of a machine are left with. The server of files was started before, as the container's root with the capabilities that it needs;
//! nobody else here has one, or a way to one.

use std::io;

use casemate_jail::seccomp::compile;
use casemate_jail::{credentials, landlock};
use casemate_plan::op::{Credentials, Landlock};
use casemate_plan::seccomp::{SeccompArg, SeccompProfile, SeccompRule};

use rustix::process::{parent_process_death_signal, set_parent_process_death_signal};

use crate::Config;

const ALLOW: &str = "SCMP_ACT_ALLOW";
const REFUSE: &str = "SCMP_ACT_ERRNO";
/// CLONE_NEW* of clone(2).
const NAMESPACES: u64 = 0x7e02_0000;
const CLONE_THREAD: u64 = 0x1_0000;
const AF_UNIX: u64 = 1;
/// What types into a terminal as if its user did, or turns a console's memory over.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;
/// A hypervisor has the taps that it was given: it makes none, and leaves none behind (linux/if_tun.h: TUNSETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETGROUP).
const TAPS: [u64; 4] = [0x4004_54ca, 0x4004_54cb, 0x4004_54cc, 0x4004_54ce];
const EXECUTABLE: u64 = 4;
const TERMINALS: &str = "/dev/pts";
/// As `agents::terminal` opens one: O_RDWR | O_NOCTTY | O_CLOEXEC.
const TERMINAL_FLAGS: u64 = 0o2_000_402;
const O_LARGEFILE: u64 = 0o100_000;
const INT: u64 = 0xffff_ffff;

/// A hypervisor's, and what runs until it is started. Not ours to count exactly: each version of QEMU has other calls. What is not here does not exist: among
/// it mounts, namespaces, keys, modules, BPF, io_uring, userfaultfd, memory of other processes, sockets but Unix', and clone3, whose flags cannot be checked.
const MACHINE: &[&[&str]] = &[
    // Files: its own, and by descriptors.
    &[
        "access",
        "chdir",
        "chmod",
        "close",
        "close_range",
        "copy_file_range",
        "creat",
        "dup",
        "dup2",
        "dup3",
        "faccessat",
        "faccessat2",
        "fadvise64",
        "fallocate",
        "fchdir",
        "fchmod",
        "fchmodat",
        "fcntl",
        "fdatasync",
        "flock",
        "fstat",
        "fstatfs",
        "fsync",
        "ftruncate",
        "getcwd",
        "getdents",
        "getdents64",
        "link",
        "linkat",
        "lseek",
        "lstat",
        "mkdir",
        "mkdirat",
        "newfstatat",
        "open",
        "openat",
        "pipe",
        "pipe2",
        "pread64",
        "preadv",
        "preadv2",
        "pwrite64",
        "pwritev",
        "pwritev2",
        "read",
        "readlink",
        "readlinkat",
        "readv",
        "rename",
        "renameat",
        "renameat2",
        "rmdir",
        "sendfile",
        "stat",
        "statfs",
        "statx",
        "symlink",
        "symlinkat",
        "sync_file_range",
        "syncfs",
        "truncate",
        "umask",
        "unlink",
        "unlinkat",
        "utimensat",
        "write",
        "writev",
    ],
    // Memory: the guest's, and the code that emulation makes.
    &[
        "brk",
        "get_mempolicy",
        "madvise",
        "mbind",
        "membarrier",
        "memfd_create",
        "mincore",
        "mlock",
        "mmap",
        "mprotect",
        "mremap",
        "msync",
        "munlock",
        "munmap",
        "set_mempolicy",
    ],
    // Threads, processes and time.
    &[
        "alarm",
        "arch_prctl",
        "capget",
        "capset",
        "clock_getres",
        "clock_gettime",
        "clock_nanosleep",
        "execve",
        "exit",
        "exit_group",
        "fork",
        "futex",
        "futex_waitv",
        "get_robust_list",
        "getcpu",
        "getegid",
        "geteuid",
        "getgid",
        "getgroups",
        "getitimer",
        "getpgid",
        "getpgrp",
        "getpid",
        "getppid",
        "getpriority",
        "getrandom",
        "getresgid",
        "getresuid",
        "getrlimit",
        "getrusage",
        "getsid",
        "gettid",
        "gettimeofday",
        "getuid",
        "kill",
        "nanosleep",
        "pause",
        "prctl",
        "prlimit64",
        "restart_syscall",
        "rseq",
        "rt_sigaction",
        "rt_sigpending",
        "rt_sigprocmask",
        "rt_sigqueueinfo",
        "rt_sigreturn",
        "rt_sigsuspend",
        "rt_sigtimedwait",
        "rt_tgsigqueueinfo",
        "sched_getaffinity",
        "sched_getparam",
        "sched_get_priority_max",
        "sched_get_priority_min",
        "sched_getscheduler",
        "sched_setaffinity",
        "sched_yield",
        "seccomp",
        "set_robust_list",
        "set_tid_address",
        "setitimer",
        "setpgid",
        "setrlimit",
        "setsid",
        "sigaltstack",
        "sysinfo",
        "tgkill",
        "time",
        "timer_create",
        "timer_delete",
        "timer_getoverrun",
        "timer_gettime",
        "timer_settime",
        "timerfd_create",
        "timerfd_gettime",
        "timerfd_settime",
        "times",
        "tkill",
        "uname",
        "vfork",
        "wait4",
        "waitid",
    ],
    // Events, and sockets once they are there.
    &[
        "accept",
        "accept4",
        "bind",
        "connect",
        "epoll_create",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "epoll_pwait2",
        "epoll_wait",
        "eventfd",
        "eventfd2",
        "getpeername",
        "getsockname",
        "getsockopt",
        "listen",
        "poll",
        "ppoll",
        "pselect6",
        "recvfrom",
        "recvmmsg",
        "recvmsg",
        "select",
        "sendmmsg",
        "sendmsg",
        "sendto",
        "setsockopt",
        "shutdown",
        "signalfd",
        "signalfd4",
    ],
    // What makes a jail narrower.
    &[
        "landlock_add_rule",
        "landlock_create_ruleset",
        "landlock_restrict_self",
    ],
];

/// User Mode Linux runs its programs as processes that it traces. It can trace nothing else: all that it sees is its own machine, whose other processes have
/// another user or cannot be dumped.
const TRACER: &[&str] = &["modify_ldt", "personality", "ptrace"];

/// The relay's, once the machine runs: streams, sockets and threads that are there, and terminals' settings. It executes and signals nothing, and opens
/// terminals only.
const RELAY: &[&str] = &[
    "accept4",
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "close_range",
    "eventfd2",
    "exit",
    "exit_group",
    "fcntl",
    "futex",
    "getpid",
    "getrandom",
    "getsockopt",
    "gettid",
    "ioctl",
    "lseek",
    "madvise",
    "mremap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "prlimit64",
    "pwrite64",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "shutdown",
    "sigaltstack",
    "tgkill",
    "wait4",
    "waitid",
    "write",
    "writev",
];

/// No call that starts, signals, maps or connects anything, and none that takes a path beside openat2's: of openat, the names are numbers of descriptors.
const FILE_SERVER: &[&str] = &[
    "brk",
    "close",
    "exit",
    "exit_group",
    "fallocate",
    "fchmodat",
    "fchownat",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futex",
    "getdents64",
    "getrandom",
    "linkat",
    "lseek",
    "madvise",
    "mkdirat",
    "mknodat",
    "mremap",
    "munmap",
    "newfstatat",
    "openat",
    "openat2",
    "pread64",
    "pwrite64",
    "read",
    "readlinkat",
    "renameat2",
    "restart_syscall",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "symlinkat",
    "unlinkat",
    "utimensat",
    "write",
];

/// Leaves this process the machine's own user, no capability and no way to one, and the machine's calls: for what is executed from now on, too.
pub(crate) fn enter(config: &Config) -> io::Result<()> {
    let (uid, gid) = config.user;
    // The kernel forgets it with every change of ids (commit_creds): a killed `do` would leave its machine behind.
    let parents_end = parent_process_death_signal()?;
    credentials::apply(&Credentials {
        uid,
        gid,
        groups: Some(Vec::new()),
        umask: None,
        capabilities: None,
    })
    .map_err(io::Error::other)?;
    set_parent_process_death_signal(parents_end)?;
    install(&machine_profile(config.traces))
}

/// Leaves this process what the relay needs while the machine runs. Of files, that is the terminals which stand for those of the guest.
pub(crate) fn close() -> io::Result<()> {
    landlock::close_engine().map_err(io::Error::other)?;
    let terminals = Landlock {
        read_only: Vec::new(),
        read_write: vec![TERMINALS.to_owned()],
        scoped: false,
        best_effort: true,
    };
    landlock::apply(&terminals).map_err(io::Error::other)?;
    install(&relay_profile())
}

/// Leaves the server of files over the link what it does to files, by descriptors, and its stream.
pub(crate) fn close_file_server() -> io::Result<()> {
    install(&file_server_profile())
}

fn install(profile: &SeccompProfile) -> io::Result<()> {
    compile(profile)
        .and_then(|filter| filter.install(false, false))
        .map(drop)
        .map_err(io::Error::other)
}

fn machine_profile(traces: bool) -> SeccompProfile {
    let mut rules: Vec<SeccompRule> = MACHINE.iter().map(|names| rule(names, &[])).collect();
    if traces {
        rules.push(rule(TRACER, &[]));
    }
    rules.push(rule(&["clone"], &[masked(0, NAMESPACES, 0)]));
    rules.push(rule(&["socket", "socketpair"], &[masked(0, INT, AF_UNIX)]));
    for request in [TIOCSTI, TIOCLINUX].into_iter().chain(TAPS) {
        let refused = rule(&["ioctl"], &[masked(1, INT, request)]);
        rules.push(SeccompRule {
            action: REFUSE.to_owned(),
            ..refused
        });
    }
    rules.push(rule(&["ioctl"], &[]));
    profile(rules)
}

fn file_server_profile() -> SeccompProfile {
    let memory = rule(&["mmap", "mprotect"], &[masked(2, EXECUTABLE, 0)]);
    profile(vec![rule(FILE_SERVER, &[]), memory])
}

fn relay_profile() -> SeccompProfile {
    let threads = rule(&["clone"], &[masked(0, CLONE_THREAD, CLONE_THREAD)]);
    let memory = rule(&["mmap", "mprotect"], &[masked(2, EXECUTABLE, 0)]);
    let terminal = rule(&["open"], &[masked(1, INT & !O_LARGEFILE, TERMINAL_FLAGS)]);
    profile(vec![rule(RELAY, &[]), threads, memory, terminal])
}

fn profile(rules: Vec<SeccompRule>) -> SeccompProfile {
    SeccompProfile {
        default_action: REFUSE.to_owned(),
        default_errno_ret: Some(libc::ENOSYS.unsigned_abs()),
        architectures: None,
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: Some(rules),
    }
}

fn rule(names: &[&str], args: &[SeccompArg]) -> SeccompRule {
    SeccompRule {
        names: names.iter().map(ToString::to_string).collect(),
        action: ALLOW.to_owned(),
        errno_ret: None,
        args: Some(args.to_vec()),
    }
}

/// Of the bits in `mask`, those of `value` are set and the others are not.
fn masked(index: u32, mask: u64, value: u64) -> SeccompArg {
    SeccompArg {
        index,
        value: mask,
        value_two: value,
        op: "SCMP_CMP_MASKED_EQ".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_jail::seccomp::is_call;

    #[test]
    fn every_name_is_a_call() {
        let all = MACHINE
            .iter()
            .copied()
            .flatten()
            .chain(TRACER)
            .chain(RELAY)
            .chain(FILE_SERVER);
        assert_eq!(all.filter(|name| !is_call(name)).count(), 0);
    }

    #[test]
    fn what_leads_out_is_in_neither() {
        let never = [
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "setns",
            "unshare",
            "clone3",
            "bpf",
            "keyctl",
            "add_key",
            "perf_event_open",
            "init_module",
            "finit_module",
            "kexec_load",
            "io_uring_setup",
            "userfaultfd",
            "process_vm_readv",
            "process_vm_writev",
            "pidfd_getfd",
            "open_by_handle_at",
            "setuid",
            "setresuid",
            "mknod",
            "mknodat",
            "chown",
            "fchownat",
            "ioperm",
            "iopl",
        ];
        let mut all = MACHINE.iter().copied().flatten().chain(RELAY);
        assert!(all.all(|name| !never.contains(name)));
    }

    #[test]
    fn the_profiles_compile() {
        for profile in [
            machine_profile(false),
            machine_profile(true),
            relay_profile(),
            file_server_profile(),
        ] {
            compile(&profile).expect("the rules are right");
        }
    }
}
