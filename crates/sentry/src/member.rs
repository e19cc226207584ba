//! A further container in a running sandbox (`kernel::pod`). A process of ours, `sentry_join`, has made its mounts and its zygote, as for a sandbox's
//! first, and hands over what the jail lets nobody make here: the tree's root, the zygote's listener, empty epoll and event descriptors. It stays, for the
//! container's process on the host: it passes signals on, ends with the container, and the zygote with it. If it is killed the container is.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use casemate_platform::notify::Listener;
use casemate_platform::signals::Came;
use serde::{Deserialize, Serialize};

use crate::boot::{BootError, Config, Parts, tracing};
use crate::control::{Report, Reporter, Server};
use crate::errno::Errno;
use crate::hooks::{Hook, Hooks};
use crate::kernel::machine::Cgroup;
use crate::kernel::signals::SIGKILL;
use crate::kernel::task::Limits;
use crate::kernel::{Kernel, offload};
use crate::threads::{Taken, Threads};
use crate::trace::Settings;
use crate::vfs::fd_table::FdTable;
use crate::watcher::Handle;
use crate::worker::{self, SharedKernel};

/// What a container needs: for its control socket, for long calls, for calls, its watcher; one more while it has hooks to run.
pub const THREADS: usize = 4;
/// As for the sandbox's own end.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// Linux: SI_KERNEL, what a signal of the host's terminal has.
const SI_KERNEL: i32 = 0x80;
const SIGHUP: i32 = 1;
const SIGWINCH: i32 = 28;

/// What a joining container says of itself; `parts` tells what each descriptor is that comes along.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joining {
    pub program: Box<Config>,
    pub hooks: Vec<Hook>,
    pub strace: Option<Settings>,
    /// Its zygote, and the process that asks, in the sentry's pid namespace.
    pub zygote: i32,
    pub process: i32,
    pub hostname: String,
    pub domainname: String,
    /// Its standard input is the terminal that all three streams are to be.
    pub has_terminal: bool,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Root,
    /// The zygote's.
    Listener,
    /// The container's control socket, listening.
    Control,
    ControlWake,
    HookWake,
    /// The file for its trace.
    Strace,
    Epoll,
    Ring,
    /// The watcher's clock.
    Clock,
    MemoryLimit,
    MemoryUsed,
    CpuQuota,
    CpuPeriod,
    PidsLimit,
    /// What the program has at this number.
    Stream(i32),
}

/// The descriptors, by what they are.
struct Given(Vec<(Part, OwnedFd)>);

impl Given {
    fn optional(&mut self, part: Part) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(other, _)| *other == part)?;
        Some(self.0.swap_remove(at).1)
    }

    fn take(&mut self, part: Part) -> Result<OwnedFd, BootError> {
        let missing = || BootError {
            errno: libc::EINVAL,
            message: format!("no descriptor for {part:?}"),
        };
        self.optional(part).ok_or_else(missing)
    }

    fn cgroup(&mut self) -> Cgroup {
        Cgroup {
            memory_limit: self.optional(Part::MemoryLimit),
            memory_used: self.optional(Part::MemoryUsed),
            cpu_quota: self.optional(Part::CpuQuota),
            cpu_period: self.optional(Part::CpuPeriod),
            pids_limit: self.optional(Part::PidsLimit),
        }
    }

    fn streams(self, kernel: &mut Kernel, has_terminal: bool) -> FdTable {
        let mut table = FdTable::default();
        for (part, fd) in self.0 {
            let Part::Stream(number) = part else { continue };
            let description = match (number, has_terminal) {
                (0, true) => kernel.console_of(fd),
                (1 | 2, true) => continue,
                _ => Some(kernel.given_stream(fd)),
            };
            let Some(description) = description else {
                continue;
            };
            let last = if number == 0 && has_terminal {
                2
            } else {
                number
            };
            for number in number..=last {
                // The joiner's own limit of descriptors holds: this cannot fail.
                let _ = table.replace(number, description.clone(), false, u64::MAX);
            }
        }
        table
    }
}

/// A container that runs beside the first.
#[derive(Debug, Clone)]
pub struct Member {
    kernel: SharedKernel,
}

impl Member {
    /// Starts it. `reporter` hears when its program runs and how it ends.
    ///
    /// # Errors
    /// What is missing, or that there is no such program.
    pub fn start(
        first: &SharedKernel,
        joining: Joining,
        descriptors: Vec<OwnedFd>,
        limits: &Limits,
        reporter: Reporter,
        threads: &Threads,
    ) -> Result<Self, BootError> {
        let has_hooks = !joining.hooks.is_empty();
        let threads = threads.take(THREADS + usize::from(has_hooks))?;
        let error = |what: &'static str| {
            move |error: rustix::io::Errno| BootError::new(what, Errno::from(error))
        };
        let mut given = Given(joining.parts.into_iter().zip(descriptors).collect());
        let listener = Arc::new(Listener::received(given.take(Part::Listener)?));
        let epoll = given.take(Part::Epoll)?;
        let watcher = Handle::of(epoll, given.take(Part::Ring)?, given.take(Part::Clock)?);
        let watcher = watcher.map_err(error("epoll"))?;
        let (jobs, offloaded) = std::sync::mpsc::sync_channel(offload::MOST);
        let strace = joining.strace;
        let trace = tracing(strace.map(|settings| (settings, given.optional(Part::Strace))))?;
        let parts = {
            let first = worker::lock(first);
            Parts {
                jobs,
                listener: listener.clone(),
                zygote: joining.zygote,
                loader: first.loader.clone(),
                host_proc: first.host_proc.try_clone().map_err(|error| {
                    BootError::new("/proc", Errno(error.raw_os_error().unwrap_or(libc::EIO)))
                })?,
                who: joining.process.to_string(),
                root: Arc::new(given.take(Part::Root)?),
                // They are not handed over: its files in memory are asked for each time.
                own_mounts: Vec::new(),
                cgroup: given.cgroup(),
                hostname: joining.hostname.into_bytes(),
                domainname: joining.domainname.into_bytes(),
                set_id_files: joining.program.set_id_files,
                trace,
                is_held: !joining.hooks.is_empty(),
                watcher: watcher.clone(),
                pod: first.member.pod.clone(),
                host_ids: (first.host_uid, first.host_gid),
                overrides: first.host_overrides,
            }
        };
        let mut kernel = parts.assemble().map_err(error("root"))?;
        let root = kernel.root.clone();
        let (control, control_wake) = (given.take(Part::Control)?, given.take(Part::ControlWake)?);
        let hooks = Hooks {
            wake: Arc::new(given.take(Part::HookWake)?),
            hooks: joining.hooks,
            config: (*joining.program).clone(),
            limits: limits.clone(),
        };
        let files = given.streams(&mut kernel, joining.has_terminal);
        let program = (*joining.program).into();
        kernel.start_program(program, &root, files, limits.clone(), None)?;
        let kernel: SharedKernel = Arc::new(Mutex::new(kernel));
        let server = Server::of(kernel.clone(), root, control, limits.clone(), control_wake);
        let server = server.map_err(error("control socket"))?;
        let member = Self { kernel };
        member.run(threads, server, (listener, offloaded), hooks, reporter)?;
        Ok(member)
    }

    /// Its threads. The last ends all others.
    fn run(
        &self,
        mut threads: Taken,
        server: Server,
        (listener, offloaded): (Arc<Listener>, std::sync::mpsc::Receiver<offload::Job>),
        hooks: Hooks,
        reporter: Reporter,
    ) -> Result<(), BootError> {
        let closing = server.closing();
        threads.run(move || server.run())?;
        let answering = listener.clone();
        threads.run(move || offload::serve(&offloaded, &answering))?;
        let served = self.kernel.clone();
        threads.run(move || worker::serve(&served, &listener))?;
        let (kernel, ends) = (self.kernel.clone(), reporter.clone());
        threads.run(move || {
            let watcher = worker::lock(&kernel).watcher.clone();
            watcher.run(&kernel);
            let open = worker::lock(&kernel).terminals.with_output();
            for tty in open {
                tty.close_host(LAST_OUTPUT);
            }
            let result = worker::lock(&kernel).result.unwrap_or(SIGKILL);
            closing.close();
            ends.tell(Report::Exited(result));
        })?;
        let kernel = self.kernel.clone();
        let is_quick = hooks.hooks.is_empty();
        let release = move || match hooks.run(&kernel) {
            Ok(()) => reporter.tell(Report::Started(1)),
            Err(error) => {
                reporter.tell(Report::Refused(error.errno, error.message));
                Self { kernel }.end();
            }
        };
        if is_quick {
            release();
            return Ok(());
        }
        threads.run(release)
    }

    /// A signal that came to its process on the host.
    pub fn signal(&self, signal: i32, code: i32) {
        let mut kernel = worker::lock(&self.kernel);
        let of_terminal = [SIGHUP, SIGWINCH].contains(&signal) && code == SI_KERNEL;
        kernel.host_signal(Came {
            signal,
            code: if of_terminal { SI_KERNEL } else { 0 },
            uid: 0,
        });
        worker::run_ready(&mut kernel);
        if kernel.result.is_some() {
            kernel.watcher.finish();
        }
    }

    /// Its process on the host is gone: so is the zygote, and with that all its programs.
    pub fn end(&self) {
        let mut kernel = worker::lock(&self.kernel);
        kernel.result.get_or_insert(SIGKILL);
        kernel.watcher.finish();
    }
}
