//! The operations of a plan: each one mechanism of the kernel. The table in docs/design/plan.md says what each does.

mod files;
mod machine;
mod process;
mod sentry;

use serde::{Deserialize, Serialize};

use crate::seccomp::SeccompProfile;

pub use files::{Create, Device, DeviceKind, Idmap, Mount, Overlay, PivotMode};
pub use machine::{FilesFront, Machine, MachineJoin, binary};
pub use process::{
    Capabilities, Cgroup, Credentials, Exec, Hook, IdMapping, IdMaps, Join, JoinKind, Landlock,
    Namespace, Scheduler, Setgroups,
};
pub use sentry::{Sentry, SentryCgroup, SentryStrace};

#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    Unshare {
        kinds: Vec<Namespace>,
    },
    TimeOffsets {
        #[serde(default)]
        monotonic: Option<(i64, u32)>,
        #[serde(default)]
        boottime: Option<(i64, u32)>,
    },
    BecomeRoot {},
    Dumpable {
        value: bool,
    },
    ParentDeathSignal {
        signal: i32,
    },
    Barrier {
        name: String,
    },
    Propagation {
        flags: u64,
    },
    Root {
        path: String,
        #[serde(default)]
        overlay: Option<Overlay>,
        #[serde(default)]
        shared: bool,
    },
    Mount(Box<Mount>),
    Symlink {
        target: String,
        path: String,
        #[serde(default)]
        replace: bool,
    },
    Device(Device),
    JoinedRoot {},
    ConsoleDevice {},
    Pty {
        columns: u16,
        rows: u16,
    },
    LoopbackUp {},
    Hook(Hook),
    PivotRoot {
        mode: PivotMode,
    },
    RootPropagation {
        flags: u64,
    },
    ReadonlyRoot {},
    MaskPath {
        path: String,
    },
    ReadonlyPath {
        path: String,
    },
    Sysctl {
        key: String,
        value: String,
    },
    Hostname {
        value: String,
    },
    Domainname {
        value: String,
    },
    Setsid {},
    Keyring {
        name: String,
    },
    Rlimit {
        #[serde(rename = "type")]
        kind: String,
        soft: u64,
        hard: u64,
    },
    Scheduler(Scheduler),
    IoPriority {
        class: i32,
        priority: i32,
    },
    CpuAffinity {
        cpus: Vec<u32>,
    },
    MemoryPolicy {
        mode: i32,
        #[serde(default)]
        flags: i32,
        #[serde(default)]
        nodes: Vec<u32>,
    },
    Personality {
        persona: u64,
    },
    Apparmor {
        label: String,
    },
    Selinux {
        label: String,
    },
    NoNewPrivs {},
    Landlock(Landlock),
    Credentials(Credentials),
    Chdir {
        path: String,
        #[serde(default)]
        create: bool,
    },
    AwaitStart {},
    Seccomp {
        profile: Option<SeccompProfile>,
        #[serde(default)]
        listener: bool,
        #[serde(default)]
        log: bool,
    },
    Exec(Exec),
    CheckExec(Exec),
    Agent {},
    Zygote {
        uid: u32,
        gid: u32,
        #[serde(default)]
        rlimits: Vec<(String, u64, u64)>,
    },
    Sentry(Box<Sentry>),
    SentryJoin {
        control: i32,
        program: Box<Sentry>,
    },
    SentryExec {
        control: i32,
        #[serde(default)]
        terminal: Option<(u16, u16)>,
        program: Box<Sentry>,
    },
    Nest {
        path: String,
        at: String,
    },
    Machine(Box<Machine>),
    MachineJoin(Box<MachineJoin>),
    MachineExec {
        control: i32,
        #[serde(default)]
        terminal: Option<(u16, u16)>,
        #[serde(with = "binary")]
        plan: Vec<u8>,
    },
    Taps {
        #[serde(default)]
        header: bool,
    },
    MachineNetwork {
        control: i32,
        taps: Vec<String>,
    },
    NetworkRelease {},
}

impl Op {
    /// The descriptors that it names.
    #[must_use]
    pub fn descriptors(&self) -> Vec<i32> {
        let mut named = Vec::new();
        match self {
            Self::Mount(mount) => named.extend(mount.descriptors()),
            Self::Sentry(sentry) => named.extend(sentry.descriptors()),
            Self::SentryJoin { control, program } => {
                named.push(*control);
                named.extend(program.descriptors());
            }
            Self::SentryExec { control, .. }
            | Self::MachineExec { control, .. }
            | Self::MachineNetwork { control, .. } => {
                named.push(*control);
            }
            Self::Machine(machine) => named.extend(machine.descriptors()),
            Self::MachineJoin(join) => named.extend([join.control, join.machine]),
            _ => {}
        }
        named
    }
}
