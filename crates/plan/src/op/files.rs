//! What a container sees as files: mounts, devices, its root.

use serde::{Deserialize, Serialize};

use super::IdMapping;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PivotMode {
    Pivot,
    Move,
    Chroot,
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

impl Mount {
    pub(super) fn descriptors(&self) -> Vec<i32> {
        let idmap = self.idmap.as_ref().and_then(|idmap| idmap.fd);
        self.source_fd.into_iter().chain(idmap).collect()
    }
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
