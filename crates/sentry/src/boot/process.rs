//! This process: the limits that it was started with, the room that it needs, the capabilities that it keeps.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;

use crate::kernel::task::Limits;

/// The limits of this process, as it was started: asked for before the jail is closed.
static HOST_LIMITS: OnceLock<Limits> = OnceLock::new();

/// Descriptors that there is room for from the beginning.
const FIRST_DESCRIPTORS: i32 = 1024;

/// The limits that this process was started with, which the plan set.
pub(super) fn limits() -> Limits {
    HOST_LIMITS.get_or_init(ask_limits).clone()
}

fn ask_limits() -> Limits {
    let mut limits = Limits([(u64::MAX, u64::MAX); 16]);
    let all: [(Resource, usize); 16] = [
        (Resource::Cpu, libc::RLIMIT_CPU as _),
        (Resource::Fsize, libc::RLIMIT_FSIZE as _),
        (Resource::Data, libc::RLIMIT_DATA as _),
        (Resource::Stack, libc::RLIMIT_STACK as _),
        (Resource::Core, libc::RLIMIT_CORE as _),
        (Resource::Rss, libc::RLIMIT_RSS as _),
        (Resource::Nproc, libc::RLIMIT_NPROC as _),
        (Resource::Nofile, libc::RLIMIT_NOFILE as _),
        (Resource::Memlock, libc::RLIMIT_MEMLOCK as _),
        (Resource::As, libc::RLIMIT_AS as _),
        (Resource::Locks, libc::RLIMIT_LOCKS as _),
        (Resource::Sigpending, libc::RLIMIT_SIGPENDING as _),
        (Resource::Msgqueue, libc::RLIMIT_MSGQUEUE as _),
        (Resource::Nice, libc::RLIMIT_NICE as _),
        (Resource::Rtprio, libc::RLIMIT_RTPRIO as _),
        (Resource::Rttime, libc::RLIMIT_RTTIME as _),
    ];
    for (resource, number) in all {
        let limit = rustix::process::getrlimit(resource);
        limits.0[number] = (
            limit.current.unwrap_or(u64::MAX),
            limit.maximum.unwrap_or(u64::MAX),
        );
    }
    limits
}

/// Descriptors of all programs are the sentry's, too.
pub(super) fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Before anybody shares it, thread or zygote: then a table grows by waiting for an RCU grace period (Linux: expand_fdtable), 8 to 18 ms of the program whose
/// open is the 65th. It never shrinks. 8 KiB of the kernel's.
pub(super) fn grow_descriptor_table() {
    // Where the limit is lower, it grows when it has to.
    let any = rustix::stdio::stderr();
    drop(rustix::io::fcntl_dupfd_cloexec(any, FIRST_DESCRIPTORS - 1));
}

/// Of the program's capabilities the sentry keeps those that it uses for it, on files and sockets; all others are only data from here on.
pub(super) fn reduce_capabilities() {
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::MKNOD
        | CapabilitySet::SETFCAP
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::NET_RAW;
    if let Ok(mut sets) = rustix::thread::capabilities(None) {
        sets.permitted &= kept;
        sets.effective &= kept;
        sets.inheritable = CapabilitySet::empty();
        // Fewer are always granted.
        let _ = rustix::thread::set_capabilities(None, sets);
    }
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

pub(super) fn overrides_permissions() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_OVERRIDE))
}
