//! The whole configuration of a machine: what `--config-file` holds and `GET /vm/config` answers.
use serde::{Deserialize, Serialize};

use crate::api::model::{
    Balloon, BootSource, Console, Drive, Entropy, Logger, MachineConfig, MemoryHotplug, Metrics,
    MmdsConfig, NetworkInterface, Pmem, Serial, Vsock,
};
use crate::machine::CpuTemplate;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct VmConfig {
    pub(crate) balloon: Option<Balloon>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) console: Option<Console>,
    pub(crate) drives: Vec<Drive>,
    pub(crate) boot_source: Option<BootSource>,
    pub(crate) cpu_config: Option<CpuTemplate>,
    pub(crate) entropy: Option<Entropy>,
    pub(crate) logger: Option<Logger>,
    pub(crate) machine_config: Option<MachineConfig>,
    pub(crate) memory_hotplug: Option<MemoryHotplug>,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) mmds_config: Option<MmdsConfig>,
    pub(crate) network_interfaces: Vec<NetworkInterface>,
    pub(crate) pmem: Vec<Pmem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) serial: Option<Serial>,
    pub(crate) vsock: Option<Vsock>,
}
