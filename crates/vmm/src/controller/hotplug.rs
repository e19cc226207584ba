//! /hotplug/memory.
use serde_json::json;

use super::{Controller, Placed};
use crate::api::model::{MemoryHotplug, MemoryHotplugUpdate};
use crate::api::{Fault, Reply};
use crate::devices::lock;
use crate::virtio::memory::{Hotplug, Sizes};

const MIN_SLOT_MIB: u64 = 128;
const MIN_BLOCK_MIB: u64 = 2;
/// As much as a machine may have at all.
const MAX_TOTAL_MIB: u64 = 1 << 20;
const MIB: u64 = 1 << 20;

impl Controller {
    pub(crate) fn put_hotplug(&mut self, config: MemoryHotplug) -> Result<Reply, Fault> {
        check(&config).map_err(|reason| Fault::about("Memory hotplug config")(Fault(reason)))?;
        self.config.memory_hotplug = Some(config);
        Ok(Reply::Done)
    }

    pub(super) fn hotplug_device(&self) -> Option<Hotplug> {
        let config = self.config.memory_hotplug.as_ref()?;
        Some(Hotplug::new(Sizes {
            region: config.total_size_mib * MIB,
            slot: config.slot_size_mib * MIB,
            block: config.block_size_mib * MIB,
        }))
    }

    pub(crate) fn patch_hotplug(&mut self, update: &MemoryHotplugUpdate) -> Result<Reply, Fault> {
        self.request_memory(update.requested_size_mib)
            .map_err(Fault::about("Memory hotplug update"))
    }

    fn request_memory(&mut self, requested: u64) -> Result<Reply, Fault> {
        let config = self.config.memory_hotplug.as_ref().ok_or_else(missing)?;
        if requested > config.total_size_mib || !requested.is_multiple_of(config.block_size_mib) {
            return Err(Fault(format!(
                "Invalid requested size: at most {} MiB, in blocks of {} MiB.",
                config.total_size_mib, config.block_size_mib
            )));
        }
        let place = self.place(&Placed::Hotplug).ok_or_else(missing)?;
        let machine = self.machine.as_ref().ok_or_else(missing)?;
        let transport = machine.bus.virtio.get(place).ok_or_else(missing)?;
        lock(transport).reconfigure(|device| {
            if let Some(hotplug) = device.downcast_mut::<Hotplug>() {
                hotplug.request(requested * MIB);
            }
        });
        Ok(Reply::Done)
    }

    pub(crate) fn hotplug(&self) -> Result<Reply, Fault> {
        let config = self.config.memory_hotplug.as_ref().ok_or_else(missing)?;
        let place = self.place(&Placed::Hotplug).ok_or_else(missing)?;
        let sizes = super::with_device(self.machine.as_ref(), place, |hotplug: &mut Hotplug| {
            (hotplug.plugged() / MIB, hotplug.requested() / MIB)
        });
        let (plugged, requested) = sizes.ok_or_else(missing)?;
        Ok(Reply::Json(json!({
            "total_size_mib": config.total_size_mib,
            "slot_size_mib": config.slot_size_mib,
            "block_size_mib": config.block_size_mib,
            "plugged_size_mib": plugged,
            "requested_size_mib": requested,
        })))
    }
}

fn check(config: &MemoryHotplug) -> Result<(), String> {
    let MemoryHotplug {
        total_size_mib: total,
        slot_size_mib: slot,
        block_size_mib: block,
    } = *config;
    if block < MIN_BLOCK_MIB {
        return Err(format!(
            "Block size must not be lower than {MIN_BLOCK_MIB} MiB"
        ));
    }
    if !block.is_power_of_two() {
        return Err("Block size must be a power of 2".to_owned());
    }
    if slot < MIN_SLOT_MIB {
        return Err(format!(
            "Slot size must not be lower than {MIN_SLOT_MIB} MiB"
        ));
    }
    if !slot.is_multiple_of(block) {
        return Err(format!(
            "Slot size must be a multiple of block size ({block} MiB)"
        ));
    }
    if total < slot {
        return Err(format!(
            "Total size must not be lower than slot size ({slot} MiB)"
        ));
    }
    if !total.is_multiple_of(slot) {
        return Err(format!(
            "Total size must be a multiple of slot size ({slot} MiB)"
        ));
    }
    if total > MAX_TOTAL_MIB {
        return Err(format!(
            "Total size must not be higher than {MAX_TOTAL_MIB} MiB"
        ));
    }
    Ok(())
}

fn missing() -> Fault {
    Fault::new("Memory hotplug is not configured.")
}
