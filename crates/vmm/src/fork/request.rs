//! The body of PUT /casemate/fork.
use std::path::PathBuf;

use serde::Deserialize;

use crate::api::Fault;
use crate::api::model::valid_id;
use crate::config::VmConfig;
use crate::snapshot::request::{
    DriveOverride, NetworkOverride, Overrides, VsockOverride, numbered,
};

/// Each child is a process and a machine; the call is answered when all of them run.
const MAX_CHILDREN: usize = 512;

/// Either so many children by one pattern, or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fork {
    count: Option<usize>,
    child: Option<Child>,
    children: Option<Vec<Child>>,
}

fn yes() -> bool {
    true
}

/// One child. In a pattern `{}` stands for its number, from 0 on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Child {
    pub(crate) api_sock: PathBuf,
    pub(crate) id: Option<String>,
    #[serde(default = "yes")]
    pub(crate) resume_vm: bool,
    /// Where its serial port writes to; without it, nowhere: the monitor's standard streams stay the parent's.
    pub(crate) serial_out_path: Option<PathBuf>,
    #[serde(default)]
    network_overrides: Vec<NetworkOverride>,
    #[serde(default)]
    drive_overrides: Vec<DriveOverride>,
    vsock_override: Option<VsockOverride>,
}

impl Fork {
    /// All children that the request wants.
    pub(crate) fn children(&self) -> Result<Vec<Child>, Fault> {
        let children = match (self.count, &self.child, &self.children) {
            (Some(count), Some(child), None) if count <= MAX_CHILDREN => {
                (0..count).map(|number| child.numbered(number)).collect()
            }
            (None, None, Some(children)) => children.clone(),
            (Some(_), Some(_), None) => Vec::new(),
            _ => {
                return Err(Fault::new(
                    "Either `count` and `child`, or `children` are required.",
                ));
            }
        };
        if !(1..=MAX_CHILDREN).contains(&children.len()) {
            return Err(Fault(format!(
                "A machine is forked into 1 to {MAX_CHILDREN} children at once."
            )));
        }
        for (index, child) in children.iter().enumerate() {
            let earlier = children.iter().take(index);
            if earlier
                .into_iter()
                .any(|other| other.api_sock == child.api_sock)
            {
                return Err(Fault(format!(
                    "Two children have the socket {}.",
                    child.api_sock.display()
                )));
            }
            let id = child.id.as_deref().unwrap_or("child");
            if id.len() > 64 || !valid_id(&id.replace('-', "_")) {
                return Err(Fault(format!("The id {id:?} is not valid.")));
            }
        }
        Ok(children)
    }
}

impl Child {
    fn numbered(&self, number: usize) -> Child {
        let number = number.to_string();
        let path = |path: &PathBuf| numbered(path, &number);
        Child {
            api_sock: path(&self.api_sock),
            id: self.id.as_ref().map(|id| id.replace("{}", &number)),
            resume_vm: self.resume_vm,
            serial_out_path: self.serial_out_path.as_ref().map(path),
            network_overrides: self
                .network_overrides
                .iter()
                .map(|change| change.numbered(&number))
                .collect(),
            drive_overrides: self
                .drive_overrides
                .iter()
                .map(|change| change.numbered(&number))
                .collect(),
            vsock_override: self
                .vsock_override
                .as_ref()
                .map(|change| change.numbered(&number)),
        }
    }

    /// The child's own configuration. Two machines on one writable disk, one tap or one socket would destroy each other's data: each child
    /// names its own.
    pub(crate) fn configure(&self, parent: &VmConfig) -> Result<VmConfig, Fault> {
        let mut config = VmConfig {
            boot_source: None,
            logger: None,
            metrics: None,
            ..parent.clone()
        };
        let overrides = Overrides {
            networks: self.network_overrides.clone(),
            drives: self.drive_overrides.clone(),
            vsock: self.vsock_override.clone(),
        };
        overrides.apply(&mut config)?;
        for (drive, before) in config.drives.iter().zip(&parent.drives) {
            if drive.is_read_only != Some(true) && drive.path_on_host == before.path_on_host {
                return Err(Fault(format!(
                    "The drive {} is writable: each child needs one of its own (drive_overrides).",
                    drive.drive_id
                )));
            }
        }
        let networks = config.network_interfaces.iter();
        for (network, before) in networks.zip(&parent.network_interfaces) {
            let is_same = network.host_dev_name == before.host_dev_name;
            // Without a name it is the tap that the parent was given, which is no child's.
            if is_same && !network.host_dev_name.is_empty() {
                return Err(Fault(format!(
                    "Each child needs an interface of its own for {} (network_overrides).",
                    network.iface_id
                )));
            }
        }
        if let Some(pmem) = config.pmem.iter().find(|pmem| !pmem.read_only) {
            return Err(Fault(format!(
                "The pmem device {} is writable: a machine with it cannot be forked.",
                pmem.id
            )));
        }
        if config.console.is_some() {
            return Err(Fault::new(
                "A machine with a console socket cannot be forked: its children would have the same one.",
            ));
        }
        if config.vsock.is_some() && self.vsock_override.is_none() {
            return Err(Fault::new(
                "Each child needs a socket of its own for its vsock device (vsock_override).",
            ));
        }
        if let Some(serial) = &mut config.serial {
            serial.serial_out_path.clone_from(&self.serial_out_path);
        } else if self.serial_out_path.is_some() {
            config.serial = Some(crate::api::model::Serial {
                serial_out_path: self.serial_out_path.clone(),
                rate_limiter: None,
            });
        }
        Ok(config)
    }
}
