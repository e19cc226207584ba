//! /snapshot/create and /snapshot/load.
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::{Controller, Placed};
use crate::Memory;
use crate::api::{Fault, Reply};
use crate::config::VmConfig;
use crate::devices::lock;
use crate::machine::{CpuTemplate, Machine, MachineState, Plan, Preparation, Prepared};
use crate::seccomp::Filters;
use crate::snapshot::memory::Paging;
use crate::snapshot::request::{Backend, BackendType, Create, Load, SnapshotType};
use crate::snapshot::{Saved, file, handler, memory};

impl Controller {
    pub(crate) fn create_snapshot(&mut self, order: &Create) -> Result<Reply, Fault> {
        let failed = |reason: &dyn std::fmt::Display| {
            Fault::about("Create snapshot")(Fault(reason.to_string()))
        };
        let machine = self
            .machine
            .as_ref()
            .filter(|_| self.is_paused)
            .ok_or_else(|| {
                failed(&"Cannot save the microVM state: Operation not allowed: save/restore unavailable while running")
            })?;
        if order.snapshot_path == order.mem_file_path {
            return Err(failed(&"the two files have the same path"));
        }
        let saved = Saved {
            monitor: format!("casemate {}", env!("CARGO_PKG_VERSION")),
            config: serde_json::to_string(&self.config).map_err(|error| failed(&error))?,
            machine: machine.save().map_err(|error| failed(&error))?,
        };
        let started = Instant::now();
        memory::write(
            &saved,
            machine.memory(),
            &mut self.paging,
            order.snapshot_type == SnapshotType::Full,
            &order.snapshot_path,
            &order.mem_file_path,
        )
        .map_err(|error| failed(&error))?;
        self.info(&format!("snapshot in {} us", started.elapsed().as_micros()));
        Ok(Reply::Done)
    }

    /// After a failure the monitor is as before the request.
    pub(crate) fn load_snapshot(&mut self, order: &Load) -> Result<Reply, Fault> {
        if self.is_configured() {
            return Err(load_failed(
                &"Loading a microVM snapshot not allowed after configuring boot-specific resources.",
            ));
        }
        let result = self.load(order);
        if result.is_err() {
            self.unload();
        }
        result
    }

    pub(crate) fn load(&mut self, order: &Load) -> Result<Reply, Fault> {
        let backend = order.backend()?;
        self.restore(order, &backend)
            .map_err(|reason| load_failed(&format!("Failed to restore from snapshot: {reason}")))
    }

    fn restore(&mut self, order: &Load, backend: &Backend) -> Result<Reply, Fault> {
        let state_failed = |reason: &dyn std::fmt::Display| {
            let path = order.snapshot_path.display();
            Fault(format!(
                "Failed to get snapshot state from file: {path}: {reason}"
            ))
        };
        let mut saved = file::read(&order.snapshot_path).map_err(|error| state_failed(&error))?;
        let mut config: VmConfig = serde_json::from_str(&saved.config)
            .map_err(|error| state_failed(&format_args!("its configuration: {error}")))?;
        if order.clock_realtime {
            saved.machine.chips.follow_time();
        }
        order.overrides().apply(&mut config)?;
        if let Some(machine) = &mut config.machine_config {
            machine.track_dirty_pages = order.tracks();
        }
        self.configure(config)?;
        let path = &backend.backend_path;
        let mut paging = Paging::default();
        paging.tracks = order.tracks();
        let memory = self.load_memory(backend.backend_type, path, &mut paging);
        let memory = memory.map_err(|error| {
            Fault(format!(
                "Failed to load guest memory: {}: {error}",
                path.display()
            ))
        })?;
        let preparation = match self.preparation.take() {
            Some(preparation) => preparation,
            None => Preparation::begin(Filters::default(), None)?,
        };
        self.go_on(preparation.finish()?, memory, &saved.machine)
            .map_err(|reason| Fault(format!("Failed to build microVM from snapshot: {reason}")))?;
        self.paging = paging;
        self.tell_of_other_disks(order);
        if order.resume_vm {
            self.resume();
        }
        self.info("the machine goes on from a snapshot");
        Ok(Reply::Done)
    }

    /// The guest of a copy knows the sizes of the original's disks.
    fn tell_of_other_disks(&self, order: &Load) {
        let Some(machine) = &self.machine else {
            return;
        };
        for drive in order.overrides().drives {
            let place = self.place(&Placed::Drive(drive.drive_id));
            if let Some(transport) = place.and_then(|place| machine.bus.virtio.get(place)) {
                lock(transport).reconfigure(|_| ());
            }
        }
    }

    fn load_memory(
        &self,
        kind: BackendType,
        path: &Path,
        paging: &mut Paging,
    ) -> std::io::Result<Arc<Memory>> {
        let extent = self.extent();
        match kind {
            BackendType::File => memory::map_file(path, extent),
            BackendType::Uffd => {
                let memory = memory::map_empty(extent)?;
                paging.handler = Some(handler::hand_over(&memory, path)?);
                Ok(memory)
            }
        }
    }

    /// Makes the configured devices and a paused machine that goes on from `state`.
    pub(crate) fn go_on(
        &mut self,
        prepared: Prepared,
        memory: Arc<Memory>,
        state: &MachineState,
    ) -> Result<(), Fault> {
        let devices = self
            .take_devices()
            .map_err(|error| Fault(error.to_string()))?;
        let (placed, devices) = devices.into_iter().unzip();
        let config = self.machine_config();
        let plan = Plan {
            nr_cpus: config.vcpu_count,
            has_smt: config.smt,
            devices,
            boot_timer: None,
            template: CpuTemplate::default(),
            output: self.output()?,
            log: Arc::clone(&self.log),
            filters: self.options.filters.clone(),
        };
        let machine = Machine::restore(prepared, plan, memory, state);
        self.machine = Some(machine?);
        self.placed = placed;
        self.is_paused = true;
        self.begin_statistics();
        Ok(())
    }

    fn is_configured(&self) -> bool {
        let config = VmConfig {
            logger: None,
            metrics: None,
            ..self.config.clone()
        };
        config != VmConfig::default()
    }

    /// Forgets the machine of a snapshot that could not be loaded, with the host resources that it took.
    fn unload(&mut self) {
        let earlier = std::mem::take(&mut self.config);
        self.config.logger = earlier.logger;
        self.config.metrics = earlier.metrics;
        self.machine = None;
        self.disks.clear();
        self.links.clear();
        self.vsock = None;
        self.serial_output = None;
        self.placed.clear();
        self.is_paused = false;
        self.next_statistics = None;
        self.paging = Paging::default();
    }
}

fn load_failed(reason: &dyn std::fmt::Display) -> Fault {
    Fault::about("Load snapshot")(Fault(reason.to_string()))
}
