//! The operations of a plan: each one mechanism of the kernel. The table in docs/design/plan.md says what each does.

use serde::{Deserialize, Serialize};

use crate::seccomp::SeccompProfile;

/// `[container, host, size]`
pub type IdMapping = (u32, u32, u32);

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    User,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PivotMode {
    Pivot,
    Move,
    Chroot,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    pub kind: JoinKind,
    pub fd: i32,
    #[serde(default)]
    pub flags: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinKind {
    User,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
    Pidfd,
}

/// The cgroups of the process, as descriptors.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cgroup {
    /// v1's `tasks` files, open for writing.
    #[serde(default)]
    pub tasks: Vec<i32>,
    /// v2's directory.
    #[serde(default)]
    pub into: Option<i32>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IdMaps {
    pub uid: Vec<IdMapping>,
    pub gid: Vec<IdMapping>,
    pub setgroups: Setgroups,
    #[serde(default)]
    pub uid_helper: Option<String>,
    #[serde(default)]
    pub gid_helper: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Setgroups {
    Allow,
    Deny,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    pub destination: String,
    #[serde(default)]
    pub source: Option<String>,
    #[serde(default)]
    pub source_fd: Option<i32>,
    #[serde(default)]
    pub fstype: Option<String>,
    #[serde(default)]
    pub flags: u64,
    #[serde(default)]
    pub propagation: Vec<u64>,
    #[serde(default)]
    pub data: String,
    #[serde(default)]
    pub recursive_set: u64,
    #[serde(default)]
    pub recursive_clear: u64,
    #[serde(default)]
    pub idmap: Option<Idmap>,
    #[serde(default)]
    pub tmpcopyup: bool,
    #[serde(default)]
    pub create: Create,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Create {
    Dir,
    File,
    #[default]
    Auto,
    None,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Idmap {
    #[serde(default)]
    pub uid: Vec<IdMapping>,
    #[serde(default)]
    pub gid: Vec<IdMapping>,
    #[serde(default)]
    pub fd: Option<i32>,
    #[serde(default)]
    pub recursive: bool,
}

/// An overlay to be the root: nothing is written to `lower`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    pub lower: String,
    pub upper: String,
    pub work: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    pub path: String,
    #[serde(rename = "type")]
    pub kind: DeviceKind,
    #[serde(default)]
    pub major: u32,
    #[serde(default)]
    pub minor: u32,
    pub mode: u32,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    #[serde(default)]
    pub bind: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum DeviceKind {
    #[serde(rename = "c")]
    Char,
    #[serde(rename = "b")]
    Block,
    #[serde(rename = "p")]
    Fifo,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    pub path: String,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    #[serde(default)]
    pub timeout_s: Option<u64>,
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub kind: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    pub policy: u32,
    #[serde(default)]
    pub flags: u64,
    #[serde(default)]
    pub nice: i32,
    #[serde(default)]
    pub priority: u32,
    #[serde(default)]
    pub runtime: u64,
    #[serde(default)]
    pub deadline: u64,
    #[serde(default)]
    pub period: u64,
    #[serde(default)]
    pub util_min: u32,
    #[serde(default)]
    pub util_max: u32,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Landlock {
    #[serde(default)]
    pub scoped: bool,
    #[serde(default)]
    pub read_only: Vec<String>,
    #[serde(default)]
    pub read_write: Vec<String>,
    #[serde(default)]
    pub best_effort: bool,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    #[serde(default)]
    pub groups: Option<Vec<u32>>,
    #[serde(default)]
    pub umask: Option<u32>,
    #[serde(default)]
    pub capabilities: Option<Capabilities>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    #[serde(default)]
    pub bounding: Vec<String>,
    #[serde(default)]
    pub effective: Vec<String>,
    #[serde(default)]
    pub permitted: Vec<String>,
    #[serde(default)]
    pub inheritable: Vec<String>,
    #[serde(default)]
    pub ambient: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    pub args: Vec<String>,
    pub env: Vec<String>,
    #[serde(default)]
    pub path: Option<String>,
}

/// Descriptors of a cgroup's files, where it has them.
#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SentryCgroup {
    pub memory_limit: Option<i32>,
    pub memory_used: Option<i32>,
    pub cpu_quota: Option<i32>,
    pub cpu_period: Option<i32>,
    pub pids_limit: Option<i32>,
}

impl Op {
    /// The descriptors that it names.
    #[must_use]
    pub fn descriptors(&self) -> Vec<i32> {
        let mut named = Vec::new();
        match self {
            Self::Mount(mount) => {
                named.extend(mount.source_fd);
                named.extend(mount.idmap.as_ref().and_then(|idmap| idmap.fd));
            }
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
            Self::Machine(machine) => {
                named.extend(machine.agent);
                named.extend(machine.report);
                named.extend(&machine.inherit);
            }
            Self::MachineJoin(join) => named.extend([join.control, join.machine]),
            _ => {}
        }
        named
    }
}

impl Sentry {
    fn descriptors(&self) -> Vec<i32> {
        let mut named = self.cgroup.descriptors();
        named.extend(self.agent);
        named.extend(self.random);
        named.extend(self.strace.as_ref().and_then(|strace| strace.log));
        named
    }
}

impl SentryCgroup {
    #[must_use]
    pub fn descriptors(&self) -> Vec<i32> {
        let all = [
            self.memory_limit,
            self.memory_used,
            self.cpu_quota,
            self.cpu_period,
            self.pids_limit,
        ];
        all.into_iter().flatten().collect()
    }
}

/// A line for each call that the sentry handles.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SentryStrace {
    /// The file for it; standard error without.
    #[serde(default)]
    pub log: Option<i32>,
    #[serde(default)]
    pub json: bool,
    /// Only these calls, by name; all if empty.
    #[serde(default)]
    pub calls: Vec<String>,
    /// Bytes of a string that are shown.
    pub size: usize,
}

/// The program of a sentry, and who it is in there.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sentry {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    #[serde(default)]
    pub groups: Vec<u32>,
    #[serde(default)]
    pub umask: Option<u32>,
    #[serde(default)]
    pub capabilities: Capabilities,
    #[serde(default)]
    pub no_new_privs: bool,
    /// Name, soft, hard: the program's, never this process's.
    #[serde(default)]
    pub rlimits: Vec<(String, u64, u64)>,
    /// Whether files can be given the set-user-ID and set-group-ID bits.
    #[serde(default)]
    pub set_id_files: bool,
    #[serde(default)]
    pub strace: Option<SentryStrace>,
    #[serde(default)]
    pub oom_score_adj: i32,
    /// The program is the agent, which listens on this descriptor; `args` are only its name.
    #[serde(default)]
    pub agent: Option<i32>,
    /// Files of the container's cgroup, for the program to see its limits.
    #[serde(default)]
    pub cgroup: SentryCgroup,
    /// The host's urandom(4), which the sentry's jail gives random bytes from.
    #[serde(default)]
    pub random: Option<i32>,
    /// How many containers can be beside the first, at once.
    #[serde(default)]
    pub members: u16,
    /// What runs before the program: startContainer hooks.
    #[serde(default)]
    pub hooks: Vec<Hook>,
}

/// A virtual machine, and the plan of its first container. docs/design/microvm.md.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    #[serde(default)]
    pub helpers: Vec<Vec<String>>,
    #[serde(default)]
    pub files: Option<FilesFront>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub user: (u32, u32),
    /// Descriptors for the hypervisor, whose command names them.
    #[serde(default)]
    pub inherit: Vec<i32>,
    #[serde(default)]
    pub traces: bool,
    /// What the hypervisor, or its monitor once the guest runs, is told for each tap.
    #[serde(default)]
    pub card: Vec<String>,
    #[serde(default)]
    pub share: Option<String>,
    /// The disk that is the root of the first container, and the one that is written over it.
    #[serde(default)]
    pub root_image: Option<String>,
    #[serde(default)]
    pub root_disk: Option<String>,
    pub container: String,
    #[serde(with = "binary")]
    pub plan: Vec<u8>,
    #[serde(default)]
    pub terminal: bool,
    #[serde(default)]
    pub memory: u64,
    #[serde(default)]
    pub pids: u64,
    #[serde(default)]
    pub default_action: bool,
    pub boot_timeout_s: u32,
    #[serde(default)]
    pub link_window: u32,
    #[serde(default)]
    pub agent: Option<i32>,
    #[serde(default)]
    pub report: Option<i32>,
    #[serde(default)]
    pub restored: Option<Vec<String>>,
    #[serde(default)]
    pub orders: Vec<String>,
}

/// Where a hypervisor finds its server of files, if not at that one's own socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FilesFront {
    pub listen: String,
    pub server: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MachineJoin {
    pub control: i32,
    /// A pidfd of the machine's relay.
    pub machine: i32,
    /// The directory of this root that becomes the machine's `at`.
    pub share: String,
    pub at: String,
    pub container: String,
    #[serde(with = "binary")]
    pub plan: Vec<u8>,
    #[serde(default)]
    pub memory: u64,
    #[serde(default)]
    pub pids: u64,
    #[serde(default)]
    pub shared: u64,
}

/// MessagePack's binary, for `serde(with)`: serde's own form of a `Vec<u8>` is an array of integers.
pub mod binary {
    use serde::{Deserializer, Serializer, de};

    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// # Errors
    /// What is there is no binary.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Binary;

        impl de::Visitor<'_> for Binary {
            type Value = Vec<u8>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("binary")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }

        deserializer.deserialize_byte_buf(Binary)
    }
}
