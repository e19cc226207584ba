//! /pmem/{id}.
use std::io;

use super::{Controller, Placed, check_id, with_device};
use crate::api::model::{Pmem, PmemUpdate};
use crate::api::{Fault, Reply};
use crate::virtio::{self, Device};

const TOPIC: &str = "Pmem device";

impl Controller {
    pub(crate) fn put_pmem(&mut self, id: &str, pmem: Pmem) -> Result<Reply, Fault> {
        check_id(id, &pmem.id)?;
        self.add_pmem(pmem).map_err(Fault::about(TOPIC))
    }

    fn add_pmem(&mut self, pmem: Pmem) -> Result<Reply, Fault> {
        let id = pmem.id.clone();
        let is_other_root = |other: &Pmem| other.root_device && other.id != id;
        if pmem.root_device && self.config.drives.iter().any(|drive| drive.is_root_device) {
            return Err(Fault::new(
                "Attempt to add pmem as a root device while the root device defined as a block device",
            ));
        }
        if pmem.root_device && self.config.pmem.iter().any(is_other_root) {
            return Err(Fault::new("A root pmem device already exist"));
        }
        let window = virtio::pmem::Pmem::open(&pmem.path_on_host, pmem.read_only);
        let window = window.map_err(|error| {
            Fault(format!(
                "Unable to create the virtio-pmem device: Error manipulating the backing file: {error} {}",
                pmem.path_on_host.display()
            ))
        })?;
        self.windows.insert(id.clone(), window);
        let all = &mut self.config.pmem;
        match all.iter_mut().find(|other| other.id == id) {
            Some(earlier) => *earlier = pmem,
            None => all.push(pmem),
        }
        // The root is the guest's pmem0.
        all.sort_by_key(|pmem| !pmem.root_device);
        Ok(Reply::Done)
    }

    pub(super) fn take_pmem(&mut self) -> io::Result<Vec<(Placed, Box<dyn Device>)>> {
        let mut devices: Vec<(Placed, Box<dyn Device>)> = Vec::new();
        for pmem in &self.config.pmem {
            if let Some(window) = self.windows.remove(&pmem.id) {
                let device = virtio::pmem::Pmem::new(window, pmem.rate_limiter.as_ref())?;
                devices.push((Placed::Pmem(pmem.id.clone()), Box::new(device)));
            }
        }
        Ok(devices)
    }

    pub(crate) fn patch_pmem(&mut self, id: &str, update: &PmemUpdate) -> Result<Reply, Fault> {
        check_id(id, &update.id)?;
        self.change_pmem(update).map_err(Fault::about(TOPIC))
    }

    fn change_pmem(&mut self, update: &PmemUpdate) -> Result<Reply, Fault> {
        let id = &update.id;
        let place = self.place(&Placed::Pmem(id.clone()));
        let pmem = self.config.pmem.iter_mut().find(|pmem| pmem.id == *id);
        let (Some(place), Some(pmem)) = (place, pmem) else {
            return Err(Fault(format!(
                "Unable to patch the pmem device: Device {id} not found. Please verify the request arguments."
            )));
        };
        if let Some(limits) = &update.rate_limiter {
            pmem.rate_limiter.get_or_insert_default().merge(limits);
            with_device(
                self.machine.as_ref(),
                place,
                |pmem: &mut virtio::pmem::Pmem| {
                    pmem.limit(limits);
                },
            );
        }
        Ok(Reply::Done)
    }
}
