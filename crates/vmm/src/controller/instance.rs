//! /, /version, /vm, /vm/config and /actions: the machine as a whole.
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::{Controller, Placed};
use crate::api::model::{Action, ActionType, VmState, VmUpdate};
use crate::api::{Fault, Reply};
use crate::devices::{SerialOutput, lock};
use crate::machine::{Extent, Machine, Plan, Preparation, boot};
use crate::seccomp::Filters;
use crate::virtio::Device;
use crate::virtio::balloon::{Abilities, Balloon};
use crate::virtio::entropy::Entropy;

/// The version of Firecracker's API whose bodies and rules are served.
pub(crate) const API_VERSION: &str = "1.16.0";

impl Controller {
    pub(crate) fn describe(&self) -> Result<Reply, Fault> {
        let state = match (self.has_started(), self.is_paused) {
            (false, _) => "Not started",
            (true, false) => "Running",
            (true, true) => "Paused",
        };
        Ok(Reply::Json(json!({
            "id": self.id,
            "state": state,
            "vmm_version": env!("CARGO_PKG_VERSION"),
            "app_name": "casemate",
        })))
    }

    pub(crate) fn version(&self) -> Result<Reply, Fault> {
        Ok(Reply::Json(json!({ "firecracker_version": API_VERSION })))
    }

    pub(crate) fn full_config(&self) -> Result<Reply, Fault> {
        let mut config = self.config.clone();
        config.machine_config.get_or_insert_default();
        Reply::json(&config)
    }

    pub(crate) fn act(&mut self, action: Action) -> Result<Reply, Fault> {
        match (action.action_type, &self.machine) {
            (ActionType::InstanceStart, None) => self.start(),
            (ActionType::InstanceStart, Some(_)) => Err(Fault::new(
                "The requested operation is not supported after starting the microVM.",
            )),
            (ActionType::FlushMetrics, Some(_)) => self.flush_metrics(),
            (ActionType::SendCtrlAltDel, Some(machine)) => {
                // A keyboard that is off or full loses keys, as a real one does.
                let _ = lock(&machine.bus.keyboard).press_ctrl_alt_del();
                Ok(Reply::Done)
            }
            _ => Err(Fault::new(
                "The requested operation is not supported before starting the microVM.",
            )),
        }
    }

    pub(crate) fn change_state(&mut self, update: VmUpdate) -> Result<Reply, Fault> {
        let Some(machine) = &self.machine else {
            return Err(Fault::new("The microVM is not running."));
        };
        let began = Instant::now();
        let what = match update.state {
            VmState::Paused => {
                machine.pause();
                // Transfers that go on by themselves end before the answer: who reads "Paused" may copy the disk.
                let transports = machine.bus.virtio.iter();
                transports.for_each(|transport| lock(transport).settle());
                "pause_vm"
            }
            VmState::Resumed => {
                machine.resume();
                "resume_vm"
            }
        };
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latencies_us.insert(what, took);
        self.is_paused = update.state == VmState::Paused;
        Ok(Reply::Done)
    }

    pub(crate) fn resume(&mut self) {
        if let Some(machine) = &self.machine {
            machine.resume();
            self.is_paused = false;
        }
    }

    /// InstanceStart. After a failure the configuration is as before and the request may be repeated, with the disks opened anew.
    pub(super) fn start(&mut self) -> Result<Reply, Fault> {
        self.boot().map_err(Fault::about("Start microvm"))
    }

    fn boot(&mut self) -> Result<Reply, Fault> {
        if self.boot_files.is_none() {
            return Err(Fault::new(
                "Cannot start microvm without kernel configuration.",
            ));
        }
        let started = self.build();
        match started {
            Ok(machine) => self.machine = Some(machine),
            Err(fault) => {
                self.reopen();
                return Err(fault);
            }
        }
        self.begin_statistics();
        self.paging.tracks = self.machine_config().track_dirty_pages;
        self.info("the machine runs");
        Ok(Reply::Done)
    }

    pub(super) fn begin_statistics(&mut self) {
        let interval = self
            .config
            .balloon
            .as_ref()
            .map_or(0, |balloon| balloon.stats_polling_interval_s);
        self.next_statistics = (interval > 0).then(Instant::now);
    }

    fn build(&mut self) -> Result<Machine, Fault> {
        let command_line = self.boot_args();
        let devices = self
            .take_devices()
            .map_err(|error| Fault(error.to_string()))?;
        let (placed, devices) = devices.into_iter().unzip();
        let config = self.machine_config();
        let preparation = match self.preparation.take() {
            Some(preparation) => preparation,
            None => Preparation::begin(Filters::default(), None)?,
        };
        let output = self.output()?;
        let template = self.template();
        let files = self.boot_files.as_ref();
        let files = files
            .ok_or_else(|| Fault::new("Cannot start microvm without kernel configuration."))?;
        let source = boot::Source {
            kernel: &files.kernel,
            initrd: files.initrd.as_ref(),
            command_line: &command_line,
        };
        let plan = Plan {
            nr_cpus: config.vcpu_count,
            has_smt: config.smt,
            template,
            devices,
            boot_timer: self.boot_timer.take(),
            output,
            log: Arc::clone(&self.log),
            filters: self.options.filters.clone(),
        };
        let machine = Machine::start(preparation, plan, self.extent(), &source)?;
        self.placed = placed;
        Ok(machine)
    }

    /// Every device, in the order of the bus: disks first, so that the root is vda.
    pub(super) fn take_devices(&mut self) -> io::Result<Vec<(Placed, Box<dyn Device>)>> {
        let mut devices = self.take_drives()?;
        devices.extend(self.take_pmem()?);
        devices.extend(self.take_networks()?);
        if let Some(vsock) = self.vsock.take() {
            devices.push((Placed::Vsock, Box::new(vsock)));
        }
        if let Some(config) = &self.config.entropy {
            let entropy = Entropy::new(config.rate_limiter.as_ref())?;
            devices.push((Placed::Entropy, Box::new(entropy)));
        }
        if let Some(config) = &self.config.balloon {
            let abilities = Abilities {
                deflates_on_oom: config.deflate_on_oom,
                has_statistics: config.stats_polling_interval_s > 0,
                has_hinting: config.free_page_hinting,
                has_reporting: config.free_page_reporting,
            };
            let balloon = Balloon::new(config.amount_mib, abilities);
            devices.push((Placed::Balloon, Box::new(balloon)));
        }
        if let Some(hotplug) = self.hotplug_device() {
            devices.push((Placed::Hotplug, Box::new(hotplug)));
        }
        if let Some(console) = self.console.take() {
            devices.push((Placed::Console, Box::new(console)));
        }
        Ok(devices)
    }

    /// The line that the serial port writes to, which the loop knows too.
    pub(super) fn output(&mut self) -> Result<Box<dyn Write + Send>, Fault> {
        if self.serial_output.is_none() && !self.options.has_console {
            return Ok(Box::new(std::io::sink()));
        }
        let standard =
            || SerialOutput::standard().map_err(|error| Fault(format!("standard output: {error}")));
        let output = match self.serial_output.take() {
            Some(output) => output,
            None => standard()?,
        };
        self.serial_output = Some(output.clone());
        Ok(Box::new(output))
    }

    /// The serial port's line, of a machine that has started.
    pub(crate) fn serial_output(&self) -> Option<&SerialOutput> {
        self.serial_output.as_ref().filter(|_| self.has_started())
    }

    pub(super) fn extent(&self) -> Extent {
        let hotplug = self.config.memory_hotplug.as_ref();
        Extent {
            ram: self.machine_config().mem_size_mib << 20,
            hotplug: hotplug.map_or(0, |hotplug| hotplug.total_size_mib << 20),
        }
    }

    /// Opens again what a failed start took. What cannot be opened any more is left out of the configuration.
    fn reopen(&mut self) {
        self.boot_timer = None;
        for drive in std::mem::take(&mut self.config.drives) {
            let _ = self.put_drive(&drive.drive_id.clone(), drive);
        }
        for pmem in std::mem::take(&mut self.config.pmem) {
            let _ = self.put_pmem(&pmem.id.clone(), pmem);
        }
        self.links.clear();
        for network in std::mem::take(&mut self.config.network_interfaces) {
            let _ = self.put_network(&network.iface_id.clone(), network);
        }
        if let Some(vsock) = self.config.vsock.take() {
            let _ = self.put_vsock(vsock);
        }
        if let Some(console) = self.config.console.take() {
            let _ = self.put_console(console);
        }
        if let Some(serial) = self.config.serial.take() {
            let _ = self.put_serial(serial);
        }
    }
}
