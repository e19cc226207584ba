//! Starting a sandbox: the zygote, the kernel, its threads, the first program.

mod parts;
mod process;
mod program;
mod spawn;
mod streams;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::control;
use crate::errno::Errno;
use crate::hooks::{Hook, Hooks};
use crate::kernel::machine::{Cgroup, SELF};
use crate::kernel::offload;
use crate::member;
use crate::threads::Threads;
use crate::trace::{Settings, Sink, Trace, Tracer, UnknownCall};
use crate::watcher;
use crate::worker::{self, SharedKernel};
use casemate_platform::jail;
use casemate_platform::loader;
use casemate_platform::notify::Listener;
use casemate_platform::zygote::{self, Starting, Zygote};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};

pub use parts::Parts;
use process::{
    grow_descriptor_table, limits, overrides_permissions, raise_descriptor_limit,
    reduce_capabilities,
};
pub use program::{Config, Executable, Program};
pub use streams::AGENT_SOCKET;

/// How long the end waits for whoever reads the terminal.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// Descriptors that this process was given for the sandbox.
#[derive(Debug, Default)]
pub struct Given {
    /// The control socket, listening.
    pub control: Option<OwnedFd>,
    /// What the first program inherits besides 0 to 2, by its number there.
    pub inherited: Vec<(i32, OwnedFd)>,
    /// The first program is the agent, which listens on this socket: this very executable in another role.
    pub agent: Option<OwnedFd>,
    /// What runs before the first program.
    pub hooks: Vec<Hook>,
    pub cgroup: Cgroup,
    /// The host's urandom(4).
    pub random: Option<OwnedFd>,
    /// For how many further containers at once there are threads: none is made later.
    pub members: usize,
    /// A line for each call, to this file or else standard error.
    pub strace: Option<(Settings, Option<OwnedFd>)>,
    /// Roots of file systems in memory that were made for the container.
    pub own_mounts: Vec<OwnedFd>,
}

/// Why a sandbox did not start.
#[derive(Debug)]
pub struct BootError {
    pub errno: i32,
    pub message: String,
}

impl BootError {
    pub(crate) fn new(what: &str, errno: Errno) -> Self {
        let reason = std::io::Error::from_raw_os_error(errno.0).to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default();
        Self {
            errno: errno.0,
            message: format!("{what}: {reason}"),
        }
    }
}

/// Starts what the programs will be forked from. See `casemate_platform::zygote::start`.
///
/// # Errors
/// The step that the host refused.
pub fn start_zygote(uid: u32, gid: u32) -> Result<Starting, BootError> {
    grow_descriptor_table();
    zygote::start(uid, gid).map_err(zygote_error)
}

/// Waits until it is there. See `casemate_platform::zygote::Starting::wait`.
///
/// # Errors
/// The step that the host refused.
pub fn await_zygote(starting: Starting) -> Result<Zygote, BootError> {
    starting.wait().map_err(zygote_error)
}

fn zygote_error((step, error): (&str, std::io::Error)) -> BootError {
    BootError::new(&format!("zygote: {step}"), error.into())
}

/// Runs the sandbox whose root is this process's root, until its first program has ended; returns wait(2)'s status of that.
/// The caller has one thread.
///
/// `started` is called when the program is found and about to run.
///
/// # Errors
/// What the host refused, or that there is no such program (ENOENT, EACCES, ENOEXEC).
pub fn run(
    config: Config,
    given: Given,
    zygote: Starting,
    started: impl FnOnce() + Send + 'static,
) -> Result<i32, BootError> {
    jail::prepare();
    crate::host::prepare_thread();
    if let Some(random) = given.random {
        crate::host::hold_random(random);
    }
    std::panic::set_hook(Box::new(|panic| crate::host::complain(&panic.to_string())));
    // Before this process's own are changed: what the program is to have.
    let defaults = limits();
    raise_descriptor_limit();
    // It was executed by descriptor, which the host's ps would call it.
    let _ = rustix::thread::set_name(c"casemate-sentry");
    // RLIMIT_FSIZE is checked for each program; the host's, which the sentry's own writes meet, must not end all of them.
    casemate_platform::process::ignore_file_size_signal();
    casemate_platform::process::reap_children_unseen();
    casemate_platform::stacks::install().map_err(|error| BootError::new("stacks", error.into()))?;
    // Programs' own masks are applied by the sentry; its own would come on top.
    let umask = rustix::process::umask(Mode::empty()).bits();
    let config = Config {
        umask: config.umask.or(Some(umask)),
        ..config
    };
    let host =
        |what: &'static str| move |error: rustix::io::Errno| BootError::new(what, error.into());
    let loader = loader::executable().map_err(|error| BootError::new("loader", error.into()))?;
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let host_proc = rustix::fs::open("/proc", directory, Mode::empty()).map_err(host("/proc"))?;
    let root = Arc::new(rustix::fs::open("/", directory, Mode::empty()).map_err(host("/"))?);
    let watcher = watcher::Handle::new().map_err(host("epoll"))?;
    // Before any thread: all inherit the mask.
    let signals = casemate_platform::signals::take(&crate::kernel::outside::passed())
        .map_err(|error| BootError::new("signalfd", error.into()))?;
    let listener = Arc::new(Listener::pending());
    let (jobs, offloaded) = std::sync::mpsc::sync_channel(offload::MOST);
    let names = rustix::system::uname();
    let parts = Parts {
        jobs,
        listener: listener.clone(),
        zygote: zygote.pid(),
        loader: Arc::new(loader),
        host_proc,
        who: SELF.to_owned(),
        root,
        own_mounts: given.own_mounts,
        cgroup: given.cgroup,
        hostname: names.nodename().to_bytes().to_vec(),
        domainname: names.domainname().to_bytes().to_vec(),
        set_id_files: config.set_id_files,
        trace: tracing(given.strace)?,
        is_held: !given.hooks.is_empty(),
        watcher: watcher.clone(),
        pod: Arc::default(),
        host_ids: (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
        overrides: overrides_permissions(),
    };
    let kernel = parts.assemble().map_err(host("/"))?;
    let root = kernel.root.clone();
    let kernel: SharedKernel = Arc::new(Mutex::new(kernel));
    reduce_capabilities();
    // Held until the jail is closed: no thread handles a call before.
    let mut locked = worker::lock(&kernel);
    let mut files = locked.standard_streams(given.inherited);
    let executable = match given.agent {
        None => Executable::Named,
        Some(socket) => Executable::Held(locked.give_agent(socket, &mut files)?),
    };
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let hooks = Hooks {
        wake: Arc::new(eventfd(0, flags).map_err(host("eventfd"))?),
        hooks: given.hooks,
        config: config.clone(),
        limits: defaults.clone(),
    };
    let program = Program { config, executable };
    locked.start_program(program, &root, files, defaults.clone(), None)?;
    let threads = Threads::default();
    if let Some(socket) = given.control {
        let server = control::Server::new(kernel.clone(), root, socket, defaults, &threads)
            .map_err(host("control socket"))?;
        threads.add("control", move || server.run())?;
    }
    let served = kernel.clone();
    threads.add("server", move || crate::fast::server::serve(&served))?;
    listener.bind(await_zygote(zygote)?.listener);
    let answering = listener.clone();
    threads.add("offload", move || offload::serve(&offloaded, &answering))?;
    // One: calls hold one lock anyway, and a second thread that waits for notifications makes each cost 3.3 us in place of 1.9, since both are woken.
    let served = kernel.clone();
    threads.add("worker", move || worker::serve(&served, &listener))?;
    let failure = Arc::new(Mutex::new(None));
    let mut started = Some(started);
    if !hooks.hooks.is_empty() {
        let (kernel, failure) = (kernel.clone(), failure.clone());
        let started = started.take();
        threads.add("hooks", move || match hooks.run(&kernel) {
            Ok(()) => drop(started.map(|started| started())),
            Err(error) => {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                worker::lock(&kernel).watcher.finish();
            }
        })?;
    }
    // A limit of processes that leaves no room for them is met when a container is to join.
    let _ = (0..given.members * member::THREADS).all(|_| threads.add_waiting("member"));
    threads.settle();
    jail::close().map_err(|error| BootError::new("jail", error.into()))?;
    drop(locked);
    watcher.watch_signals(signals);
    if let Some(started) = started {
        started();
    }
    watcher.run(&kernel);
    if let Some(error) = failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
    {
        return Err(error);
    }
    let open = worker::lock(&kernel).terminals.with_output();
    for tty in open {
        tty.close_host(LAST_OUTPUT);
    }
    let result = worker::lock(&kernel).result;
    Ok(result.unwrap_or(libc::SIGKILL))
}

/// The tracer that was asked for.
pub(crate) fn tracing(asked: Option<(Settings, Option<OwnedFd>)>) -> Result<Trace, BootError> {
    let Some((settings, file)) = asked else {
        return Ok(Trace::default());
    };
    let tracer = Tracer::new(&settings, Sink::new(file));
    let tracer = tracer.map_err(|UnknownCall(name)| BootError {
        errno: libc::EINVAL,
        message: format!("strace: there is no call {name:?}"),
    })?;
    Ok(Trace::new(Some(tracer)))
}
