//! `hook`: runs a program with the container's state on its standard input and waits for it.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use casemate_plan::op::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::{Context, Error, Result};

const OUTPUT_LIMIT: u64 = 4096;

pub(super) fn hook(hook: &Hook) -> Result<()> {
    run(hook).map_err(|error| {
        Error::with_errno(
            format!("{} hook {}: {}", hook.kind, hook.path, error.message),
            error.errno,
        )
    })
}

fn run(hook: &Hook) -> Result<()> {
    let mut command = Command::new(&hook.path);
    let (first, rest) = hook
        .args
        .split_first()
        .map_or((hook.path.as_str(), &[][..]), |(first, rest)| {
            (first.as_str(), rest)
        });
    command.arg0(first).args(rest).env_clear();
    for variable in &hook.env {
        let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
        command.env(key, value);
    }
    // A group of its own, so that a timeout ends its children too.
    command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context(|| "execute".into())?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(hook.state.as_bytes()); // a hook need not read its state
    }
    wait(&mut child, hook.timeout_s)?;
    let status = child.wait().context(|| "wait".into())?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        let mut bytes = Vec::new();
        let _ = stderr.take(OUTPUT_LIMIT).read_to_end(&mut bytes);
        said = String::from_utf8_lossy(&bytes).trim().to_owned();
    }
    Err(Error::plain(if said.is_empty() {
        status.to_string()
    } else {
        format!("{status}: {said}")
    }))
}

/// Waits until the hook ended; kills its group at the timeout.
fn wait(child: &mut Child, timeout_s: Option<u64>) -> Result<()> {
    let Some(seconds) = timeout_s else {
        return Ok(());
    };
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Error::plain("no pid"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(|| "pidfd".into())?;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = child.wait();
                return Err(Error::plain(format!(
                    "still ran after its timeout of {seconds} s"
                )));
            }
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::io("wait", &error.into())),
        }
    }
}
