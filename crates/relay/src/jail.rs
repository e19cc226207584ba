//! What the processes of a machine are left with. The server of files was started before, as the container's root with the capabilities that it needs;
//! nobody else here has one, or a way to one.

mod calls;

use std::io;

use casemate_jail::seccomp::compile;
use casemate_jail::{credentials, landlock};
use casemate_plan::op::{Credentials, Landlock};
use casemate_plan::seccomp::{SeccompArg, SeccompProfile, SeccompRule};

use rustix::process::{parent_process_death_signal, set_parent_process_death_signal};

use crate::Config;

use calls::{FILE_SERVER, MACHINE, RELAY, TRACER};

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
