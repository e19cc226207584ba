//! The plan: what Python lowered a bundle to, and what `init` executes. See docs/design/plan.md.
#![forbid(unsafe_code)]

pub mod frames;
pub mod op;
pub mod seccomp;

use std::io::Cursor;

use serde::{Deserialize, Serialize};

pub use op::{Cgroup, IdMaps, Join, JoinKind, Namespace, Op};

/// The version both sides speak.
pub const VERSION: u32 = 1;
/// Larger plans are refused before they are read.
pub const MAX_BYTES: u64 = 16 << 20;
/// A plan's own nesting is 8. The decoder recurses, and this bounds its stack.
const MAX_DEPTH: usize = 32;

/// One process's way from a clone to its program.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub version: u32,
    #[serde(default)]
    pub join: Vec<Join>,
    #[serde(default)]
    pub new: Vec<Namespace>,
    #[serde(default)]
    pub id_maps: Option<IdMaps>,
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    #[serde(default)]
    pub listen: Option<i32>,
    #[serde(default)]
    pub cgroup: Option<Cgroup>,
    #[serde(default)]
    pub keep_fds: Vec<i32>,
    pub ops: Vec<Op>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("plan: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    #[error("plan: version {found}, this engine speaks {VERSION}")]
    Version { found: u32 },
    #[error("plan of {found} bytes, at most {MAX_BYTES}")]
    TooLarge { found: u64 },
    #[error("plan: {count} bytes after its end")]
    Trailing { count: u64 },
}

impl Plan {
    /// The descriptors that the plan names: all others of the starter are none of the container's business.
    #[must_use]
    pub fn descriptors(&self) -> Vec<i32> {
        let mut named: Vec<i32> = self.join.iter().map(|join| join.fd).collect();
        named.extend(self.listen);
        named.extend(&self.keep_fds);
        if let Some(cgroup) = &self.cgroup {
            named.extend(&cgroup.tasks);
            named.extend(cgroup.into);
        }
        named.extend(self.ops.iter().flat_map(Op::descriptors));
        named
    }

    /// Decodes a plan and checks its version.
    ///
    /// # Errors
    /// [`Error::Decode`] for malformed bytes, an unknown field or operation; [`Error::Version`]; [`Error::TooLarge`]; [`Error::Trailing`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let length = bytes.len() as u64;
        if length > MAX_BYTES {
            return Err(Error::TooLarge { found: length });
        }
        let mut decoder = rmp_serde::Deserializer::new(Cursor::new(bytes));
        decoder.set_max_depth(MAX_DEPTH);
        let plan = Self::deserialize(&mut decoder)?;
        if plan.version != VERSION {
            return Err(Error::Version {
                found: plan.version,
            });
        }
        match length - decoder.position() {
            0 => Ok(plan),
            count => Err(Error::Trailing { count }),
        }
    }
}
