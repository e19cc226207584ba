//! The bodies of requests, as Firecracker's swagger has them. Unknown fields are refused: a misspelt limit must not be ignored.
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use crate::devices::limiter::{Limits as RateLimiter, Refill as TokenBucket};
pub(crate) use crate::devices::mmds::Version as MmdsVersion;

/// The rule for drive, interface and other ids.
pub(crate) fn valid_id(id: &str) -> bool {
    !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineConfig {
    pub(crate) vcpu_count: u8,
    pub(crate) mem_size_mib: u64,
    #[serde(default)]
    pub(crate) smt: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_template: Option<String>,
    #[serde(default)]
    pub(crate) track_dirty_pages: bool,
    #[serde(default)]
    pub(crate) huge_pages: HugePages,
}

impl Default for MachineConfig {
    fn default() -> MachineConfig {
        MachineConfig {
            vcpu_count: 1,
            mem_size_mib: 128,
            smt: false,
            cpu_template: None,
            track_dirty_pages: false,
            huge_pages: HugePages::None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HugePages {
    #[default]
    None,
    Transparent,
    #[serde(rename = "2M")]
    Hugetlbfs2M,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineUpdate {
    pub(crate) vcpu_count: Option<u8>,
    pub(crate) mem_size_mib: Option<u64>,
    pub(crate) smt: Option<bool>,
    pub(crate) cpu_template: Option<String>,
    pub(crate) track_dirty_pages: Option<bool>,
    pub(crate) huge_pages: Option<HugePages>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BootSource {
    pub(crate) kernel_image_path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) initrd_path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) boot_args: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CacheType {
    #[default]
    Unsafe,
    Writeback,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IoEngine {
    #[default]
    Sync,
    Async,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drive {
    pub(crate) drive_id: String,
    pub(crate) is_root_device: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partuuid: Option<String>,
    #[serde(default)]
    pub(crate) cache_type: CacheType,
    #[serde(default)]
    pub(crate) is_read_only: Option<bool>,
    pub(crate) path_on_host: Option<PathBuf>,
    pub(crate) rate_limiter: Option<RateLimiter>,
    #[serde(default)]
    pub(crate) io_engine: IoEngine,
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DriveUpdate {
    pub(crate) drive_id: String,
    pub(crate) path_on_host: Option<PathBuf>,
    pub(crate) rate_limiter: Option<RateLimiter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkInterface {
    pub(crate) iface_id: String,
    pub(crate) host_dev_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) guest_mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rx_rate_limiter: Option<RateLimiter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tx_rate_limiter: Option<RateLimiter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkUpdate {
    pub(crate) iface_id: String,
    pub(crate) rx_rate_limiter: Option<RateLimiter>,
    pub(crate) tx_rate_limiter: Option<RateLimiter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pmem {
    pub(crate) id: String,
    pub(crate) path_on_host: PathBuf,
    #[serde(default)]
    pub(crate) root_device: bool,
    #[serde(default)]
    pub(crate) read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limiter: Option<RateLimiter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PmemUpdate {
    pub(crate) id: String,
    pub(crate) rate_limiter: Option<RateLimiter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryHotplug {
    pub(crate) total_size_mib: u64,
    #[serde(default = "slot_mib")]
    pub(crate) slot_size_mib: u64,
    #[serde(default = "block_mib")]
    pub(crate) block_size_mib: u64,
}

fn slot_mib() -> u64 {
    128
}

fn block_mib() -> u64 {
    2
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryHotplugUpdate {
    pub(crate) requested_size_mib: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vsock {
    pub(crate) guest_cid: u32,
    pub(crate) uds_path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vsock_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entropy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limiter: Option<RateLimiter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Balloon {
    pub(crate) amount_mib: u32,
    pub(crate) deflate_on_oom: bool,
    #[serde(default)]
    pub(crate) stats_polling_interval_s: u16,
    #[serde(default)]
    pub(crate) free_page_hinting: bool,
    #[serde(default)]
    pub(crate) free_page_reporting: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalloonUpdate {
    pub(crate) amount_mib: u32,
}

/// May be left out altogether.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HintingStart {
    #[serde(default = "yes")]
    pub(crate) acknowledge_on_stop: bool,
}

fn yes() -> bool {
    true
}

/// Ours: a console on a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Console {
    pub(crate) uds_path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalloonStatisticsUpdate {
    pub(crate) stats_polling_interval_s: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Logger {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) show_level: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) show_log_origin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) module: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    pub(crate) metrics_path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Serial {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) serial_out_path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limiter: Option<TokenBucket>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MmdsConfig {
    #[serde(default)]
    pub(crate) version: MmdsVersion,
    pub(crate) network_interfaces: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ipv4_address: Option<std::net::Ipv4Addr>,
    #[serde(default)]
    pub(crate) imds_compat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Action {
    pub(crate) action_type: ActionType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum ActionType {
    InstanceStart,
    FlushMetrics,
    SendCtrlAltDel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VmUpdate {
    pub(crate) state: VmState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum VmState {
    Paused,
    Resumed,
}
