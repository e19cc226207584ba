//! startContainer hooks: programs of the container's that run before its first. That one exists meanwhile, since its end would be the pid namespace's: its
//! loader waits for an answer. A hook has the first program's user and rights, as runc's has, the container's state on its standard input, and its own
//! words in the error when it fails.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use casemate_platform::notify::Call;
use rustix::fs::MemfdFlags;

use crate::boot::{BootError, Config, Executable, Program};
use crate::control::{Report, Reporter};
use crate::kernel::Kernel;
use crate::kernel::signals::SIGKILL;
use crate::kernel::task::Limits;
use crate::vfs::fd_table::FdTable;
use crate::worker::{self, SharedKernel};

/// What is told of a failed hook's output.
const OUTPUT_MAX: usize = 4096;
/// A hook without a time limit.
const FOREVER: Duration = Duration::from_secs(1 << 32);

#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    pub path: String,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub timeout: Option<Duration>,
    pub state: String,
}

/// Whether the sandbox's first program is kept from starting.
#[derive(Debug, Default)]
pub enum Held {
    #[default]
    No,
    Wanted,
    /// Its loader's first question.
    Asked(Call),
}

impl Kernel {
    /// Whether the loader's question is to wait: it is the first program's, and the hooks are not done.
    pub fn holds(&mut self, call: &Call) -> bool {
        let is_first = self.task(call.tid).is_ok_and(|task| task.pid == 1);
        let is_held = is_first && matches!(self.held, Held::Wanted);
        if is_held {
            self.held = Held::Asked(*call);
        }
        is_held
    }
}

/// Lets the first program start.
fn release(kernel: &mut Kernel) {
    if let Held::Asked(call) = std::mem::take(&mut kernel.held) {
        worker::resume(kernel, call);
    }
}

/// What all hooks have from the first program.
#[derive(Debug)]
pub struct Hooks {
    pub hooks: Vec<Hook>,
    pub config: Config,
    pub limits: Limits,
    /// For reporters: the jail makes none.
    pub wake: Arc<OwnedFd>,
}

impl Hooks {
    /// Runs them one after the other, then lets the first program start.
    ///
    /// # Errors
    /// The first that failed; the program was not started.
    pub fn run(&self, kernel: &SharedKernel) -> Result<(), BootError> {
        for hook in &self.hooks {
            self.run_one(kernel, hook).map_err(|error| BootError {
                message: format!("startContainer hook {}: {}", hook.path, error.message),
                ..error
            })?;
        }
        release(&mut worker::lock(kernel));
        Ok(())
    }

    fn run_one(&self, kernel: &SharedKernel, hook: &Hook) -> Result<(), BootError> {
        let host = |error: rustix::io::Errno| BootError::new("streams", error.into());
        let (sender, reports) = channel();
        let input = file("state").map_err(host)?;
        crate::host::pwrite(&input, hook.state.as_bytes(), 0).map_err(host)?;
        let output = file("output").map_err(host)?;
        let mut locked = worker::lock(kernel);
        let files = streams(&locked, input, &output).map_err(host)?;
        let program = Program {
            config: Config {
                args: if hook.args.is_empty() {
                    vec![hook.path.clone()]
                } else {
                    hook.args.clone()
                },
                env: hook.env.clone(),
                ..self.config.clone()
            },
            executable: Executable::Path(hook.path.clone()),
        };
        let root = locked.root.clone();
        let reporter = Reporter::new(0, sender, self.wake.clone());
        locked.start_program(program, &root, files, self.limits.clone(), Some(reporter))?;
        drop(locked);
        let until = Instant::now() + hook.timeout.unwrap_or(FOREVER);
        let mut started = 0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match reports.recv_timeout(left) {
                Ok((_, Report::Started(pid))) => started = pid,
                Ok((_, Report::Exited(0))) => return Ok(()),
                Ok((_, Report::Exited(status))) => return Err(failed(status, &output)),
                Ok((_, Report::Failed(errno))) => {
                    return Err(BootError::new("fork", crate::errno::Errno(errno)));
                }
                Ok((_, Report::Refused(errno, message))) => {
                    return Err(BootError { errno, message });
                }
                Err(RecvTimeoutError::Timeout) => {
                    worker::lock(kernel).terminate(started, SIGKILL);
                    let seconds = hook.timeout.unwrap_or_default().as_secs();
                    return Err(plain(format!("still ran after its timeout of {seconds} s")));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(plain("is gone".to_owned())),
            }
        }
    }
}

fn file(name: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)
}

fn streams(kernel: &Kernel, input: OwnedFd, output: &OwnedFd) -> rustix::io::Result<FdTable> {
    let mut files = FdTable::default();
    let printed = rustix::io::fcntl_dupfd_cloexec(output, 3)?;
    let printed = kernel.given_stream(printed);
    let given = [kernel.given_stream(input), printed.clone(), printed];
    for (number, description) in (0..).zip(given) {
        // The table is empty and the numbers small: this cannot fail.
        let _ = files.replace(number, description, false, 3);
    }
    Ok(files)
}

fn failed(status: i32, output: &OwnedFd) -> BootError {
    let mut bytes = [0; OUTPUT_MAX];
    let count = crate::host::pread(output, &mut bytes, 0).unwrap_or(0);
    let said = String::from_utf8_lossy(&bytes[..count]).trim().to_owned();
    let how = match status & 0x7F {
        0 => format!("exit status: {}", status >> 8 & 0xFF),
        signal => format!("signal: {signal}"),
    };
    plain(if said.is_empty() {
        how
    } else {
        format!("{how}: {said}")
    })
}

fn plain(message: String) -> BootError {
    BootError { errno: 0, message }
}
