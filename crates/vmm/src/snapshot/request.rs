//! The bodies of /snapshot/create and /snapshot/load, as Firecracker's swagger has them. `drive_overrides`, a `guest_cid` and a `guest_mac` are ours.
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::api::Fault;
use crate::config::VmConfig;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum SnapshotType {
    #[default]
    Full,
    Diff,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    #[serde(default)]
    pub(crate) snapshot_type: SnapshotType,
    pub(crate) snapshot_path: PathBuf,
    pub(crate) mem_file_path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum BackendType {
    File,
    Uffd,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    pub(crate) backend_type: BackendType,
    pub(crate) backend_path: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    pub(crate) snapshot_path: PathBuf,
    mem_backend: Option<Backend>,
    /// Deprecated by Firecracker for `mem_backend`.
    mem_file_path: Option<PathBuf>,
    /// Deprecated by Firecracker for `track_dirty_pages`.
    #[serde(default)]
    enable_diff_snapshots: bool,
    #[serde(default)]
    track_dirty_pages: bool,
    #[serde(default)]
    pub(crate) resume_vm: bool,
    #[serde(default)]
    network_overrides: Vec<NetworkOverride>,
    #[serde(default)]
    drive_overrides: Vec<DriveOverride>,
    vsock_override: Option<VsockOverride>,
    #[serde(default)]
    pub(crate) clock_realtime: bool,
}

impl Load {
    pub(crate) fn backend(&self) -> Result<Backend, Fault> {
        match (&self.mem_backend, &self.mem_file_path) {
            (Some(backend), None) => Ok(backend.clone()),
            (None, Some(path)) => Ok(Backend {
                backend_type: BackendType::File,
                backend_path: path.clone(),
            }),
            (None, None) => Err(Fault::new(
                "missing field: either `mem_backend` or `mem_file_path` is required",
            )),
            (Some(_), Some(_)) => Err(Fault::new(
                "too many fields: either `mem_backend` or `mem_file_path` exclusively is required",
            )),
        }
    }

    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            networks: self.network_overrides.clone(),
            drives: self.drive_overrides.clone(),
            vsock: self.vsock_override.clone(),
        }
    }

    pub(crate) fn tracks(&self) -> bool {
        self.track_dirty_pages || self.enable_diff_snapshots
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkOverride {
    iface_id: String,
    host_dev_name: String,
    /// What the card says of itself from now on; its guest has read another.
    guest_mac: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DriveOverride {
    pub(crate) drive_id: String,
    path_on_host: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VsockOverride {
    uds_path: PathBuf,
    guest_cid: Option<u32>,
}

/// What a copy of a machine has in the place of the original's host resources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) networks: Vec<NetworkOverride>,
    pub(crate) drives: Vec<DriveOverride>,
    pub(crate) vsock: Option<VsockOverride>,
}

impl NetworkOverride {
    /// With `number` in the place of `{}`.
    pub(crate) fn numbered(&self, number: &str) -> NetworkOverride {
        NetworkOverride {
            iface_id: self.iface_id.clone(),
            host_dev_name: self.host_dev_name.replace("{}", number),
            guest_mac: self.guest_mac.as_ref().map(|mac| mac.replace("{}", number)),
        }
    }
}

impl DriveOverride {
    /// With `number` in the place of `{}`.
    pub(crate) fn numbered(&self, number: &str) -> DriveOverride {
        DriveOverride {
            drive_id: self.drive_id.clone(),
            path_on_host: numbered(&self.path_on_host, number),
        }
    }
}

impl VsockOverride {
    /// With `number` in the place of `{}`.
    pub(crate) fn numbered(&self, number: &str) -> VsockOverride {
        VsockOverride {
            uds_path: numbered(&self.uds_path, number),
            guest_cid: self.guest_cid,
        }
    }
}

/// A path with `number` in the place of `{}`; one that is no text stays.
pub(crate) fn numbered(path: &Path, number: &str) -> PathBuf {
    path.to_str().map_or_else(
        || path.to_owned(),
        |text| PathBuf::from(text.replace("{}", number)),
    )
}

impl Overrides {
    /// Changes the configuration of a copy. An override of something that is not there is a mistake of its author.
    pub(crate) fn apply(&self, config: &mut VmConfig) -> Result<(), Fault> {
        for change in &self.networks {
            let mut networks = config.network_interfaces.iter_mut();
            let network = networks
                .find(|network| network.iface_id == change.iface_id)
                .ok_or_else(|| Fault(format!("Unknown network interface: {}", change.iface_id)))?;
            network.host_dev_name.clone_from(&change.host_dev_name);
            if change.guest_mac.is_some() {
                network.guest_mac.clone_from(&change.guest_mac);
            }
        }
        for change in &self.drives {
            let mut drives = config.drives.iter_mut();
            let drive = drives
                .find(|drive| drive.drive_id == change.drive_id)
                .ok_or_else(|| Fault(format!("Unknown drive: {}", change.drive_id)))?;
            drive.path_on_host = Some(change.path_on_host.clone());
        }
        if let Some(change) = &self.vsock {
            let vsock = config
                .vsock
                .as_mut()
                .ok_or_else(|| Fault::new("Unknown vsock device: the snapshot has none"))?;
            vsock.uds_path.clone_from(&change.uds_path);
            vsock.guest_cid = change.guest_cid.unwrap_or(vsock.guest_cid);
        }
        Ok(())
    }
}
