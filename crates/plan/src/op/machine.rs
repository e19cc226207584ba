//! A virtual machine, and the containers in it. docs/design/microvm.md.

use serde::{Deserialize, Serialize};

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

impl Machine {
    pub(super) fn descriptors(&self) -> Vec<i32> {
        let mut named = self.inherit.clone();
        named.extend(self.agent);
        named.extend(self.report);
        named
    }
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
