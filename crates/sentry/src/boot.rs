//! Starting a sandbox: the zygote, the kernel, its threads, the first program.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::control;
use crate::errno::Errno;
use crate::hooks::{Held, Hook, Hooks};
use crate::kernel::credentials::Credentials;
use crate::kernel::machine::{Cgroup, Machine, SELF};
use crate::kernel::pod::Pod;
use crate::kernel::task::{Limits, Process, Shared, Task};
use crate::kernel::{Kernel, Spawn, SpawnTask, exec, offload};
use crate::member;
use crate::threads::Threads;
use crate::trace::{Settings, Sink, Trace, Tracer, UnknownCall};
use crate::vfs::attributes::Attributes;
use crate::vfs::context::FsContext;
use crate::vfs::description::Description;
use crate::vfs::device::Device;
use crate::vfs::fd_table::FdTable;
use crate::vfs::file::File;
use crate::vfs::place::Place;
use crate::vfs::socket::given::GivenSocket;
use crate::vfs::stream::HostStream;
use crate::vfs::tty::Terminals;
use crate::vfs::tty::host::open_streams;
use crate::vfs::walk::Walker;
use crate::watcher;
use crate::worker::{self, SharedKernel};
use casemate_platform::device;
use casemate_platform::jail;
use casemate_platform::loader;
use casemate_platform::loader::LOADER_FD;
use casemate_platform::notify::{Answer, Listener};
use casemate_platform::zygote::{self, Starting, Zygote};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;

/// Limits that the host keeps, for what it does for programs itself: memory, stacks, time.
const NATIVE_LIMITS: [u32; 5] = [
    libc::RLIMIT_CPU,
    libc::RLIMIT_DATA,
    libc::RLIMIT_STACK,
    libc::RLIMIT_MEMLOCK,
    libc::RLIMIT_AS,
];

/// The limits of this process, as it was started: asked for before the jail is closed.
static HOST_LIMITS: OnceLock<Limits> = OnceLock::new();

/// Descriptors that there is room for from the beginning.
const FIRST_DESCRIPTORS: i32 = 1024;

/// How long the end waits for whoever reads the terminal.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// A program that is started from outside: the sandbox's first, or one of `exec`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: Option<u32>,
    /// Capability sets as bits: effective, permitted, inheritable, bounding, ambient.
    pub capabilities: [u64; 5],
    pub no_new_privs: bool,
    /// Resource limits that differ from this process's own: number, soft, hard.
    pub limits: Vec<(u32, u64, u64)>,
    /// Whether files can be given the set-id bits: not where they belong to an owner of the host's.
    pub set_id_files: bool,
    /// What /proc/PID/oom_score_adj says at first.
    pub oom_score_adj: i32,
}

/// What is executed.
#[derive(Debug)]
pub enum Executable {
    /// What the first argument names, in PATH if it has no slash.
    Named,
    Path(String),
    /// A file that is held already.
    Held(Place),
}

#[derive(Debug)]
pub struct Program {
    pub config: Config,
    pub executable: Executable,
}

impl From<Config> for Program {
    fn from(config: Config) -> Self {
        Self {
            config,
            executable: Executable::Named,
        }
    }
}

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

/// Where the agent finds its socket.
pub const AGENT_SOCKET: i32 = 3;

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

/// What a container's kernel is made of.
#[derive(Debug)]
pub struct Parts {
    pub jobs: offload::Sender,
    pub listener: Arc<Listener>,
    pub zygote: i32,
    pub loader: Arc<OwnedFd>,
    pub host_proc: OwnedFd,
    pub who: String,
    pub root: Arc<OwnedFd>,
    /// As `Given`'s.
    pub own_mounts: Vec<OwnedFd>,
    pub cgroup: Cgroup,
    pub hostname: Vec<u8>,
    pub domainname: Vec<u8>,
    pub set_id_files: bool,
    pub trace: Trace,
    /// The first program is not to start yet.
    pub is_held: bool,
    pub watcher: watcher::Handle,
    pub pod: Arc<Pod>,
    /// The sentry's own user and group, and whether it passes the host's permission checks everywhere.
    pub host_ids: (u32, u32),
    pub overrides: bool,
}

impl Parts {
    pub fn assemble(self) -> rustix::io::Result<Kernel> {
        let wanted = StatxFlags::BASIC_STATS;
        let raw = rustix::fs::statx(&*self.root, "", AtFlags::EMPTY_PATH, wanted)?;
        let member = self.pod.join(self.watcher.clone());
        let terminals = Terminals::new(member.number, &*self.root);
        let machine = Machine::look(&self.host_proc, &self.who, &*self.root, self.cgroup);
        // A further container of a pod has no spinning server of its own.
        let spinning_for = if self.who == SELF {
            machine.cpus.len()
        } else {
            1
        };
        let root = Place::Host(self.root);
        Ok(Kernel {
            jobs: self.jobs,
            listener: self.listener,
            zygote: self.zygote,
            zygote_call: None,
            spawning: None,
            spawning_pid: 0,
            spawns: VecDeque::new(),
            reporters: HashMap::new(),
            loader: self.loader,
            tasks: HashMap::default(),
            processes: BTreeMap::new(),
            tids: HashMap::default(),
            embryos: Vec::new(),
            dying: HashSet::new(),
            buried: VecDeque::new(),
            programs: None,
            deadlines: BTreeMap::new(),
            due: std::collections::BTreeSet::new(),
            timer_files: HashMap::new(),
            host_limits: limits(),
            fast: crate::fast::Fast::new(self.trace.is_on(), spinning_for),
            machine,
            host_proc: self.host_proc,
            who: self.who,
            terminals,
            files: crate::vfs::cache::Cache::new(&root, self.own_mounts),
            executed: crate::kernel::programs::Programs::default(),
            root,
            root_device: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
            host_uid: self.host_ids.0,
            host_gid: self.host_ids.1,
            host_overrides: self.overrides,
            hostname: self.hostname,
            domainname: self.domainname,
            booted: Instant::now(),
            result: None,
            member,
            message_queues: crate::vfs::mqueue::Names::default(),
            sysv: crate::syscalls::sysv::Objects::default(),
            opening: HashMap::new(),
            lock_waits: HashMap::new(),
            write_hints: HashMap::new(),
            set_id_files: self.set_id_files,
            next_inode: 1 << 32,
            watcher: self.watcher,
            trace: self.trace,
            held: if self.is_held { Held::Wanted } else { Held::No },
        })
    }
}

/// Descriptors of all programs are the sentry's, too.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Before anybody shares it, thread or zygote: then a table grows by waiting for an RCU grace period (Linux: expand_fdtable), 8 to 18 ms of the program whose
/// open is the 65th. It never shrinks. 8 KiB of the kernel's.
fn grow_descriptor_table() {
    // Where the limit is lower, it grows when it has to.
    let any = rustix::stdio::stderr();
    drop(rustix::io::fcntl_dupfd_cloexec(any, FIRST_DESCRIPTORS - 1));
}

/// Of the program's capabilities the sentry keeps those that it uses for it, on files and sockets; all others are only data from here on.
fn reduce_capabilities() {
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::MKNOD
        | CapabilitySet::SETFCAP
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::NET_RAW;
    if let Ok(mut sets) = rustix::thread::capabilities(None) {
        sets.permitted &= kept;
        sets.effective &= kept;
        sets.inheritable = CapabilitySet::empty();
        // Fewer are always granted.
        let _ = rustix::thread::set_capabilities(None, sets);
    }
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

fn overrides_permissions() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_OVERRIDE))
}

impl Kernel {
    /// Has the zygote fork for a program: found, checked and opened before this returns.
    ///
    /// # Errors
    /// There is no such program or working directory (ENOENT, EACCES, ENOEXEC, ...).
    pub fn start_program(
        &mut self,
        Program { config, executable }: Program,
        root: &Place,
        files: FdTable,
        mut limits: Limits,
        report: Option<control::Reporter>,
    ) -> Result<(), BootError> {
        for (number, soft, hard) in config.limits {
            if let Some(limit) = limits.0.get_mut(number as usize) {
                *limit = (soft, hard);
            }
        }
        let mut credentials = Credentials::new(config.uid, config.gid, config.groups);
        let [effective, permitted, inheritable, bounding, ambient] = config.capabilities;
        (
            credentials.effective,
            credentials.permitted,
            credentials.inheritable,
        ) = (effective, permitted, inheritable);
        (credentials.bounding, credentials.ambient) = (bounding, ambient);
        credentials.no_new_privs = config.no_new_privs;
        let mut context = FsContext {
            root: root.clone(),
            cwd: root.clone(),
            umask: config.umask.unwrap_or(0o022),
        };
        let walker = Walker {
            kernel: self,
            tid: 0,
            credentials: &credentials,
            context: &context,
        };
        let cwd = walker
            .resolve(root, config.cwd.as_bytes(), true)
            .map_err(|errno| BootError::new(&format!("working directory {}", config.cwd), errno))?;
        context.cwd = cwd;
        let name = config.args.first().cloned().unwrap_or_default();
        let environment: Vec<Vec<u8>> = config.env.into_iter().map(String::into_bytes).collect();
        let arguments = config.args.into_iter().map(String::into_bytes).collect();
        let walker = Walker {
            kernel: self,
            tid: 0,
            credentials: &credentials,
            context: &context,
        };
        let image = match executable {
            Executable::Held(place) => {
                exec::prepare(&walker, place, name.as_bytes(), arguments, environment)
            }
            Executable::Path(path) => walker
                .resolve(&walker.context.cwd, path.as_bytes(), true)
                .and_then(|place| {
                    exec::prepare(&walker, place, path.as_bytes(), arguments, environment)
                }),
            Executable::Named => find_program(&walker, &name, arguments, environment),
        };
        let image = image.map_err(|errno| {
            let what = format!("exec: {name:?}");
            match errno {
                // As engines look for it.
                Errno::ENOENT if !name.contains('/') => BootError {
                    errno: errno.0,
                    message: format!("{what}: executable file not found in $PATH"),
                },
                errno => BootError::new(&what, errno),
            }
        })?;
        self.spawns.push_back(Spawn {
            image: Box::new(image),
            task: SpawnTask {
                credentials,
                files,
                fs: context,
                limits,
                report,
                oom_score_adj: config.oom_score_adj,
            },
        });
        self.spawn_next();
        Ok(())
    }

    /// Puts the agent's socket among its descriptors; returns its executable, which is this one.
    fn give_agent(&mut self, socket: OwnedFd, files: &mut FdTable) -> Result<Place, BootError> {
        let error = |errno| BootError::new("agent", errno);
        let socket = GivenSocket::open(self, socket).map_err(error)?;
        let description = Description::new(socket, libc::O_RDWR.cast_unsigned());
        files
            .replace(AGENT_SOCKET, description, false, u64::MAX)
            .map_err(error)?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let own = crate::host::openat(&self.host_proc, "self/exe", flags, Mode::empty());
        own.map(|fd| Place::Host(Arc::new(fd)))
            .map_err(|errno| error(errno.into()))
    }

    /// Descriptors 0 to 2 of this process become the program's, and those `inherited`.
    fn standard_streams(&mut self, inherited: Vec<(i32, OwnedFd)>) -> FdTable {
        let mut table = FdTable::default();
        for (number, fd) in inherited {
            let description = self.given_stream(fd);
            // The limit is the starter's own number of descriptors: this cannot fail.
            let _ = table.replace(number, description, false, u64::MAX);
        }
        if let Some(terminal) = self.own_terminal() {
            for number in 0..3 {
                let _ = table.replace(number, terminal.clone(), false, 3);
            }
            return table;
        }
        let streams = [
            (rustix::stdio::stdin().try_clone_to_owned(), 0),
            (rustix::stdio::stdout().try_clone_to_owned(), 1),
            (rustix::stdio::stderr().try_clone_to_owned(), 2),
        ];
        for (stream, number) in streams {
            if let Ok(fd) = stream {
                let description = self.given_stream(fd);
                // The table is empty and the numbers small: this cannot fail.
                let _ = table.replace(number, description, false, 3);
            }
        }
        table
    }

    /// The sandbox's own terminal, where it has one: `init` made it all three streams.
    fn own_terminal(&mut self) -> Option<Arc<Description>> {
        let stdin = rustix::stdio::stdin().try_clone_to_owned().ok()?;
        let tty = self.add_console(&stdin)?;
        open_streams(&tty).ok()
    }

    /// A descriptor of the host that becomes a program's.
    #[must_use]
    pub fn given_stream(&self, fd: OwnedFd) -> Arc<Description> {
        let fd = own_null(&fd).unwrap_or(fd);
        let flags =
            rustix::fs::fcntl_getfl(&fd).map_or(libc::O_RDWR.cast_unsigned(), |flags| flags.bits());
        let attributes = rustix::fs::statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
            .map(|raw| Attributes::from_host(&raw));
        let by_path = fd.try_clone().map(|copy| Place::Host(Arc::new(copy)));
        if let (Ok(attributes), Ok(place)) = (attributes, by_path)
            && let Some(device) = Device::of(attributes, place)
        {
            return Description::new(Arc::new(device), flags);
        }
        let stream = Arc::new(HostStream::new(fd));
        let weak: std::sync::Weak<HostStream> = Arc::downgrade(&stream);
        if let Some(host) = stream.host() {
            let _ = self.watcher.watch_file(host, weak);
        }
        Description::new(stream, flags)
    }

    /// Has the zygote fork for the next program that waits to be started, if it is free.
    pub fn spawn_next(&mut self) {
        if self.spawning.is_some() || self.spawns.is_empty() {
            return;
        }
        let Some(call) = self.zygote_call.take() else {
            return;
        };
        if self
            .listener
            .give_fd(call.id, self.loader.as_fd(), LOADER_FD, false)
            .is_err()
        {
            return;
        }
        self.spawning = self.spawns.pop_front();
        self.spawning_pid = 0;
        self.answer(&call, Answer::Value(0));
    }

    /// The zygote waits for work again, after it forked: `child` is what fork(2) returned. A child that dies before its first call is not waited for.
    pub fn zygote_forked(&mut self, child: i32) {
        if self.spawning.is_none() {
            return;
        }
        if child < 0 {
            return self.fail_spawn(-child);
        }
        self.spawning_pid = child;
        match casemate_platform::process::pidfd(child) {
            Ok(pidfd) => self.watcher.watch_process(&Arc::new(pidfd), child),
            Err(_) => self.fail_spawn(libc::ECHILD),
        }
    }

    /// What was to be started never will be. A sandbox without its first program is over.
    pub fn fail_spawn(&mut self, errno: i32) {
        let Some(spawn) = self.spawning.take() else {
            return;
        };
        match spawn.task.report {
            Some(reporter) => reporter.tell(control::Report::Failed(errno)),
            None => {
                self.result.get_or_insert(libc::SIGKILL);
                self.watcher.finish();
            }
        }
        self.spawn_next();
    }

    /// The zygote's new child makes its first call: it becomes the process that was to be started.
    pub fn bind_spawned(&mut self, tid: i32) -> bool {
        if self.spawning.is_none() {
            return false;
        }
        let Some((inner, parent)) = crate::kernel::bind::inner_pid_and_parent(tid) else {
            return false;
        };
        if parent != self.zygote {
            return false;
        }
        let Some(Spawn { image, task }) = self.spawning.take() else {
            return false;
        };
        self.know_programs(tid);
        let mut process = Process::new(inner, tid, task.limits.clone(), task.credentials.uid);
        process.settings.oom_score_adj = task.oom_score_adj;
        for number in NATIVE_LIMITS {
            let (soft, hard) = task.limits.0[number as usize];
            // Never above what the zygote has: `init` raised that.
            let _ = casemate_platform::process::set_limit(tid, number, soft, hard);
        }
        let credentials = Arc::new(task.credentials);
        let settings = crate::kernel::settings::Settings::started(self.machine.nice);
        self.tids.insert(inner, tid);
        self.tasks.insert(
            tid,
            Task {
                name: image.command_name(),
                image: Some(image),
                settings,
                ..Task::new(
                    (tid, inner, inner),
                    credentials,
                    Shared::new(task.files),
                    Shared::new(task.fs),
                )
            },
        );
        self.add_process(process);
        if let Some(reporter) = task.report {
            reporter.tell(control::Report::Started(inner));
            self.reporters.insert(inner, reporter);
        }
        self.give_started_terminal(inner, tid);
        self.spawn_next();
        true
    }
}

/// The container's /dev/null for a stream that is the host's: by the stream a program could change the mode and owner of that inode, which is everybody's.
fn own_null(given: &OwnedFd) -> Option<OwnedFd> {
    if !device::is_null(given) {
        return None;
    }
    let wanted = rustix::fs::fcntl_getfl(given).ok()? & OFlags::ACCMODE;
    let flags = wanted | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(CWD, "/dev/null", flags, Mode::empty(), resolve)
        .ok()
        .filter(|own| device::is_null(own))
}

/// The limits that this process was started with, which the plan set.
fn limits() -> Limits {
    HOST_LIMITS.get_or_init(ask_limits).clone()
}

fn ask_limits() -> Limits {
    let mut limits = Limits([(u64::MAX, u64::MAX); 16]);
    let all = [
        (Resource::Cpu, libc::RLIMIT_CPU),
        (Resource::Fsize, libc::RLIMIT_FSIZE),
        (Resource::Data, libc::RLIMIT_DATA),
        (Resource::Stack, libc::RLIMIT_STACK),
        (Resource::Core, libc::RLIMIT_CORE),
        (Resource::Rss, libc::RLIMIT_RSS),
        (Resource::Nproc, libc::RLIMIT_NPROC),
        (Resource::Nofile, libc::RLIMIT_NOFILE),
        (Resource::Memlock, libc::RLIMIT_MEMLOCK),
        (Resource::As, libc::RLIMIT_AS),
        (Resource::Locks, libc::RLIMIT_LOCKS),
        (Resource::Sigpending, libc::RLIMIT_SIGPENDING),
        (Resource::Msgqueue, libc::RLIMIT_MSGQUEUE),
        (Resource::Nice, libc::RLIMIT_NICE),
        (Resource::Rtprio, libc::RLIMIT_RTPRIO),
        (Resource::Rttime, libc::RLIMIT_RTTIME),
    ];
    for (resource, number) in all {
        let limit = rustix::process::getrlimit(resource);
        limits.0[number as usize] = (
            limit.current.unwrap_or(u64::MAX),
            limit.maximum.unwrap_or(u64::MAX),
        );
    }
    limits
}

/// Looks a name without a slash up in the environment's PATH, as the shell does.
fn find_program(
    walker: &Walker<'_>,
    name: &str,
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> crate::errno::Result<exec::Image> {
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.to_owned()]
    } else {
        let path = environment
            .iter()
            .find_map(|entry| entry.strip_prefix(b"PATH="));
        let path = path.map_or_else(
            || "/usr/local/bin:/usr/bin:/bin".to_owned(),
            |path| String::from_utf8_lossy(path).into_owned(),
        );
        path.split(':')
            .filter(|directory| !directory.is_empty())
            .map(|directory| format!("{directory}/{name}"))
            .collect()
    };
    let mut failure = Errno::ENOENT;
    for candidate in candidates {
        let place = match walker.resolve(&walker.context.cwd, candidate.as_bytes(), true) {
            Ok(place) => place,
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            Err(errno) => {
                failure = errno;
                continue;
            }
        };
        match exec::prepare(
            walker,
            place,
            candidate.as_bytes(),
            arguments.clone(),
            environment.clone(),
        ) {
            Ok(image) => return Ok(image),
            Err(errno) => failure = errno,
        }
    }
    Err(failure)
}
