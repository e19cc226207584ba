//! /drives/{drive_id}.
use std::io;

use super::{Controller, Placed, check_id, with_device};
use crate::api::model::{CacheType, Drive, DriveUpdate, IoEngine};
use crate::api::{Fault, Reply};
use crate::devices::lock;
use crate::virtio::Device;
use crate::virtio::block::{Block, Disk, Engine};

const TOPIC: &str = "Drive config";

impl Controller {
    pub(crate) fn put_drive(&mut self, id: &str, drive: Drive) -> Result<Reply, Fault> {
        check_id(id, &drive.drive_id)?;
        self.add_drive(drive).map_err(Fault::about(TOPIC))
    }

    fn add_drive(&mut self, drive: Drive) -> Result<Reply, Fault> {
        let id = drive.drive_id.clone();
        if drive.socket.is_some() {
            return Err(Fault::missing("A vhost-user drive"));
        }
        Block::probe(engine(&drive)).map_err(|error| {
            Fault(format!(
                "The io_engine Async needs io_uring, which this host refuses: {error}"
            ))
        })?;
        let (Some(path), Some(is_read_only)) = (&drive.path_on_host, drive.is_read_only) else {
            return Err(Fault::new(
                "Unable to create the virtio block device: Virtio backend error: path_on_host and is_read_only are required.",
            ));
        };
        let is_other = |other: &Drive| other.drive_id != id;
        let is_other_root = |other: &Drive| other.is_root_device && is_other(other);
        if drive.is_root_device && self.config.pmem.iter().any(|pmem| pmem.root_device) {
            return Err(Fault::new(
                "Attempt to add block as a root device while the root device defined as a pmem device",
            ));
        }
        if drive.is_root_device && self.config.drives.iter().any(is_other_root) {
            return Err(Fault::new("A root block device already exists!"));
        }
        let disk = Disk::open(path, is_read_only)
            .map_err(|error| Fault(format!("Unable to create the virtio block device: {error}")))?;
        self.disks.insert(id.clone(), disk);
        let drives = &mut self.config.drives;
        match drives.iter_mut().find(|other| other.drive_id == id) {
            Some(earlier) => *earlier = drive,
            None => drives.push(drive),
        }
        // The root drive is the first device on the bus. Stable: the others stay in the order they came in.
        drives.sort_by_key(|drive| !drive.is_root_device);
        Ok(Reply::Done)
    }

    /// The disks become devices.
    pub(super) fn take_drives(&mut self) -> io::Result<Vec<(Placed, Box<dyn Device>)>> {
        let mut devices: Vec<(Placed, Box<dyn Device>)> = Vec::new();
        for drive in &self.config.drives {
            if let Some(disk) = self.disks.remove(&drive.drive_id) {
                let has_flush = drive.cache_type == CacheType::Writeback;
                let limits = drive.rate_limiter.as_ref();
                let block = Block::new(disk, has_flush, engine(drive), limits)?;
                devices.push((Placed::Drive(drive.drive_id.clone()), Box::new(block)));
            }
        }
        Ok(devices)
    }

    /// Puts another file behind a running drive: how a guest gets new media.
    pub(crate) fn patch_drive(&mut self, id: &str, update: &DriveUpdate) -> Result<Reply, Fault> {
        check_id(id, &update.drive_id)?;
        self.change_drive(update).map_err(|reason| {
            let reason = format!(
                "Unable to patch the block device: {reason} Please verify the request arguments."
            );
            Fault::about(TOPIC)(Fault(reason))
        })
    }

    fn change_drive(&mut self, update: &DriveUpdate) -> Result<Reply, Fault> {
        let id = &update.drive_id;
        let place = self
            .placed
            .iter()
            .position(|placed| *placed == Placed::Drive(id.clone()));
        let drive = self
            .config
            .drives
            .iter_mut()
            .find(|drive| drive.drive_id == *id);
        let (Some(place), Some(drive)) = (place, drive) else {
            return Err(Fault(format!("Device {id} not found.")));
        };
        if update.path_on_host.is_none() && update.rate_limiter.is_none() {
            // It would ask a vhost-user backend for the disk's new size.
            return Err(Fault::new("Running method expected different backend."));
        }
        if let Some(limits) = &update.rate_limiter {
            drive.rate_limiter.get_or_insert_default().merge(limits);
            with_device(self.machine.as_ref(), place, |block: &mut Block| {
                block.limit(limits);
            });
        }
        let Some(path) = &update.path_on_host else {
            return Ok(Reply::Done);
        };
        let disk = Disk::open(path, drive.is_read_only.unwrap_or(false))
            .map_err(|error| Fault(error.to_string()))?;
        drive.path_on_host = Some(path.clone());
        if let Some(transport) = self
            .machine
            .as_ref()
            .and_then(|machine| machine.bus.virtio.get(place))
        {
            lock(transport).reconfigure(|device| {
                if let Some(block) = device.downcast_mut::<Block>() {
                    block.replace(disk);
                }
            });
        }
        Ok(Reply::Done)
    }
}

fn engine(drive: &Drive) -> Engine {
    match drive.io_engine {
        IoEngine::Sync => Engine::Sync,
        IoEngine::Async => Engine::Async,
    }
}
