//! A sentry's program, and what the sentry itself is given.

use serde::{Deserialize, Serialize};

use super::{Capabilities, Hook};

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

impl Sentry {
    pub(super) fn descriptors(&self) -> Vec<i32> {
        let mut named = self.cgroup.descriptors();
        named.extend(self.agent);
        named.extend(self.random);
        named.extend(self.strace.as_ref().and_then(|strace| strace.log));
        named
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
