//! The machine's configuration and life, as the API sees them. One file per noun.
mod balloon;
mod boot_source;
mod drives;
mod fork;
mod hotplug;
mod instance;
mod logger;
mod machine_config;
mod metrics;
mod mmds;
mod network;
mod pmem;
mod small_devices;
mod snapshot;

pub(crate) use instance::API_VERSION;
pub(crate) use metrics::{Requests, Shared, StartTimes};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::api::Fault;
use crate::cli::Options;
use crate::config::VmConfig;
use crate::devices::mmds::Store;
use crate::devices::{BootTimer, SerialOutput, lock};
use crate::log::{Level, Log};
use crate::machine::{Machine, Preparation};
use crate::raw::Window;
use crate::snapshot::memory::Paging;
use crate::virtio::Device;
use crate::virtio::block::Disk;
use crate::virtio::console::Console;
use crate::virtio::net::Link;
use crate::virtio::vsock::Vsock;

/// What a device of the running machine is, by its place on the bus.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    Drive(String),
    Network(String),
    Entropy,
    Vsock,
    Balloon,
    Console,
    Pmem(String),
    Hotplug,
}

#[derive(Debug)]
struct BootFiles {
    kernel: File,
    initrd: Option<File>,
}

pub(crate) struct Controller {
    id: String,
    /// For children.
    options: Options,
    config: VmConfig,
    boot_files: Option<BootFiles>,
    /// Opened when they are configured, so that a wrong path is answered there.
    disks: BTreeMap<String, Disk>,
    links: BTreeMap<String, Box<dyn Link>>,
    /// Given as descriptors, for cards that have no name of a tap.
    taps: BTreeMap<String, Box<dyn Link>>,
    vsock: Option<Vsock>,
    console: Option<Console>,
    windows: BTreeMap<String, Arc<Window>>,
    serial_output: Option<SerialOutput>,
    metrics: Option<File>,
    mmds: Arc<Mutex<Store>>,
    boot_timer: Option<BootTimer>,
    preparation: Option<Preparation>,
    machine: Option<Machine>,
    placed: Vec<Placed>,
    is_paused: bool,
    paging: Paging,
    next_statistics: Option<Instant>,
    pub(crate) log: Arc<Log>,
    pub(crate) requests: Requests,
    start_times: StartTimes,
    next_flush: Option<Instant>,
    /// How long the last of each took, for the metrics.
    pub(crate) latencies_us: BTreeMap<&'static str, u64>,
}

impl Controller {
    pub(crate) fn new(
        options: &Options,
        preparation: Option<Preparation>,
        log: Arc<Log>,
    ) -> Controller {
        Controller {
            id: options.id.clone(),
            options: options.clone(),
            config: VmConfig::default(),
            boot_files: None,
            disks: BTreeMap::new(),
            links: BTreeMap::new(),
            taps: BTreeMap::new(),
            vsock: None,
            console: None,
            windows: BTreeMap::new(),
            serial_output: None,
            metrics: None,
            mmds: Arc::new(Mutex::new(Store::new(options.max_mmds))),
            boot_timer: options.has_boot_timer.then(BootTimer::start),
            preparation,
            machine: None,
            placed: Vec::new(),
            is_paused: false,
            paging: Paging::default(),
            next_statistics: None,
            log,
            requests: Requests::default(),
            start_times: options.start_times,
            next_flush: None,
            latencies_us: BTreeMap::new(),
        }
    }

    /// The console's stream, which was there before the monitor.
    pub(crate) fn adopt_console(&mut self, stream: UnixStream) -> std::io::Result<()> {
        self.console = Some(Console::adopt(stream)?);
        Ok(())
    }

    pub(crate) fn has_started(&self) -> bool {
        self.machine.is_some()
    }

    pub(crate) fn running(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// Configures a machine by a whole file's content and starts it, by the same checks as single requests.
    pub(crate) fn start_from(&mut self, mut config: VmConfig) -> Result<(), Fault> {
        config
            .logger
            .take()
            .map(|logger| self.put_logger(logger))
            .transpose()?;
        config
            .metrics
            .take()
            .map(|metrics| self.put_metrics(metrics))
            .transpose()?;
        config
            .boot_source
            .take()
            .map(|source| self.put_boot_source(source))
            .transpose()?;
        self.configure(config)?;
        self.start()?;
        Ok(())
    }

    /// Everything of a machine but what it boots and where its monitor writes to, by the same checks as single requests.
    pub(crate) fn configure(&mut self, config: VmConfig) -> Result<(), Fault> {
        config
            .machine_config
            .map(|machine| self.put_machine(machine))
            .transpose()?;
        for drive in config.drives {
            self.put_drive(&drive.drive_id.clone(), drive)?;
        }
        for network in config.network_interfaces {
            self.put_network(&network.iface_id.clone(), network)?;
        }
        config
            .mmds_config
            .map(|mmds| self.put_mmds_config(mmds))
            .transpose()?;
        for pmem in config.pmem {
            self.put_pmem(&pmem.id.clone(), pmem)?;
        }
        config
            .memory_hotplug
            .map(|hotplug| self.put_hotplug(hotplug))
            .transpose()?;
        config
            .cpu_config
            .map(|template| self.put_cpu_config(template))
            .transpose()?;
        config
            .vsock
            .map(|vsock| self.put_vsock(vsock))
            .transpose()?;
        config
            .entropy
            .map(|entropy| self.put_entropy(entropy))
            .transpose()?;
        config
            .balloon
            .map(|balloon| self.put_balloon(balloon))
            .transpose()?;
        config
            .serial
            .map(|serial| self.put_serial(serial))
            .transpose()?;
        config
            .console
            .map(|console| self.put_console(console))
            .transpose()?;
        Ok(())
    }

    /// When [`Controller::tick`] wants to be called.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        let next = [self.next_statistics, self.next_flush];
        let next = next.into_iter().flatten().min();
        next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Where on the bus a device is.
    fn place(&self, wanted: &Placed) -> Option<usize> {
        self.placed.iter().position(|placed| placed == wanted)
    }

    /// What is due, such as new statistics.
    pub(crate) fn tick(&mut self) {
        self.ask_when_due();
        self.flush_when_due();
    }

    pub(crate) fn tell_deprecated(&mut self, message: &str) {
        self.requests.count_deprecated();
        self.log.write(Level::Warn, message);
    }

    #[track_caller]
    fn info(&self, message: &str) {
        self.log.write(Level::Info, message);
    }
}

/// The two ids of a request must be the same and well formed.
fn check_id(path: &str, body: &str) -> Result<(), Fault> {
    if path != body {
        return Err(Fault(format!(
            "The id from the path [{path}] does not match the id from the body [{body}]!"
        )));
    }
    if crate::api::model::valid_id(path) {
        Ok(())
    } else {
        Err(Fault::new(
            "API Resource IDs can only contain alphanumeric characters and underscores.",
        ))
    }
}

/// Changes the device at `place`, if it is one of this kind.
fn with_device<D: Device, T>(
    machine: Option<&Machine>,
    place: usize,
    change: impl FnOnce(&mut D) -> T,
) -> Option<T> {
    let mut transport = lock(machine?.bus.virtio.get(place)?);
    transport.device().downcast_mut().map(change)
}
