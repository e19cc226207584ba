//! Starts `init` with a plan, as casemate/isolation/engine_process.py does on the host, and reads its reports.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use casemate_host::process::set_close_on_exec;
use casemate_plan::Plan;
use casemate_plan::frames;
use casemate_plan::op::{Cgroup, Join, JoinKind};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use serde::Deserialize;

use crate::error::{About, Error, Result};
use crate::receive::receive;

/// This very executable, in the kernel's initial file system, which containers do not see.
const INIT: &str = "/proc/self/exe";
/// `init` says nothing longer.
const MAX_REPORT: usize = 1 << 20;
/// CLONE_NEW* by the names of /proc/PID/ns (linux/sched.h).
const NAMESPACES: [(&str, i32); 8] = [
    ("user", 0x1000_0000),
    ("mnt", 0x2_0000),
    ("pid", 0x2000_0000),
    ("net", 0x4000_0000),
    ("ipc", 0x800_0000),
    ("uts", 0x400_0000),
    ("cgroup", 0x200_0000),
    ("time", 0x80),
];

/// What `init` reports (docs/design/plan.md, "Frames").
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Report {
    Child {
        pid: i32,
    },
    Barrier {
        name: String,
    },
    Console,
    SeccompListener,
    Ready,
    Error {
        op: String,
        index: i64,
        errno: i32,
        message: String,
    },
}

/// The control socket of one `init`.
#[derive(Debug)]
pub(crate) struct Reports {
    socket: OwnedFd,
    received: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// What a turn of reading brought.
#[derive(Debug)]
pub(crate) enum Next {
    Report(Report, Option<OwnedFd>),
    Nothing,
    /// The program was executed, or the process is gone.
    End,
}

impl Reports {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            received: Vec::new(),
            descriptors: Vec::new(),
        }
    }

    pub(crate) fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn say(&self, command: &str) -> Result<()> {
        #[derive(serde::Serialize)]
        struct Said<'a> {
            command: &'a str,
        }
        let frame = frames::encode(&Said { command }, MAX_REPORT)
            .map_err(|error| Error::new(error, libc::EPROTO))?;
        rustix::net::send(&self.socket, &frame, SendFlags::NOSIGNAL)
            .about("control socket")
            .map(drop)
    }

    pub(crate) fn next(&mut self) -> Result<Next> {
        loop {
            if let Some(report) = self.take()? {
                let descriptor = match report {
                    Report::Console | Report::SeccompListener => self.descriptors.pop(),
                    _ => None,
                };
                return Ok(Next::Report(report, descriptor));
            }
            let mut bytes = [0; 4096];
            let count = match receive(&self.socket, &mut bytes) {
                Ok(None) => return Ok(Next::Nothing),
                Ok(Some((0, _))) | Err(_) => return Ok(Next::End),
                Ok(Some((count, descriptor))) => {
                    self.descriptors.extend(descriptor);
                    count
                }
            };
            self.received.extend_from_slice(&bytes[..count]);
        }
    }

    fn take(&mut self) -> Result<Option<Report>> {
        frames::take(&mut self.received, MAX_REPORT)
            .map_err(|error| Error::new(format!("report: {error}"), libc::EPROTO))
    }
}

/// The ends of a new process's standard streams that are its own.
#[derive(Debug)]
pub(crate) struct Streams(pub(crate) [OwnedFd; 3]);

/// What a plan is completed with here: the guest's own descriptors.
#[derive(Debug, Default)]
pub(crate) struct Place<'a> {
    pub(crate) cgroup: Option<OwnedFd>,
    pub(crate) listener: Option<&'a UnixListener>,
    /// The process whose namespaces are joined, as far as CLONE_NEW* of the second allows.
    pub(crate) join: Option<(i32, i32)>,
}

/// Every namespace.
pub(crate) const ALL: i32 = -1;

/// Starts `init` with the plan. Its child is this process's own (`CLONE_PARENT`).
pub(crate) fn launch(plan: &[u8], place: Place<'_>, stdio: Streams) -> Result<Reports> {
    let mut plan = Plan::decode(plan).map_err(|error| Error::new(error.to_string(), 0))?;
    let mut lent: Vec<OwnedFd> = Vec::new();
    if let Some((pid, kinds)) = place.join {
        let process = rustix::process::Pid::from_raw(pid)
            .ok_or_else(|| Error::new("no process to join", libc::ESRCH))?;
        let pidfd = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())
            .about("pidfd_open")?;
        plan.join = vec![Join {
            kind: JoinKind::Pidfd,
            fd: pidfd.as_raw_fd(),
            flags: foreign_namespaces(pid) & kinds,
        }];
        lent.push(pidfd);
    }
    plan.cgroup = place.cgroup.as_ref().map(|directory| Cgroup {
        tasks: Vec::new(),
        into: Some(directory.as_raw_fd()),
    });
    lent.extend(place.cgroup);
    plan.listen = place.listener.map(AsRawFd::as_raw_fd);
    let encoded =
        rmp_serde::to_vec_named(&plan).map_err(|error| Error::new(error.to_string(), 0))?;
    let memfd = memfd_create("plan", MemfdFlags::CLOEXEC).about("memfd_create")?;
    rustix::io::write(&memfd, &encoded).about("plan")?;
    seek(&memfd, SeekFrom::Start(0)).about("plan")?;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .about("socketpair")?;
    let mut raw: Vec<i32> = lent.iter().map(AsRawFd::as_raw_fd).collect();
    raw.extend([memfd.as_raw_fd(), theirs.as_raw_fd()]);
    raw.extend(plan.listen);
    // This process has one thread, so no other child is started while these are inheritable.
    for fd in &raw {
        set_close_on_exec(*fd, false).about("descriptor")?;
    }
    let [input, output, error] = stdio.0;
    let started = Command::new(INIT)
        .arg("init")
        .arg(memfd.as_raw_fd().to_string())
        .arg(theirs.as_raw_fd().to_string())
        .env_clear()
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(error))
        .spawn();
    if let Some(listener) = plan.listen {
        set_close_on_exec(listener, true).about("descriptor")?;
    }
    // Reaped with all others.
    started.about("start init")?;
    Ok(Reports::new(ours))
}

/// CLONE_NEW* of the namespaces in which `pid` is and this process is not: joining one's own user namespace is an error.
fn foreign_namespaces(pid: i32) -> i32 {
    let differs = |name: &str| {
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{name}"));
        let ours = std::fs::read_link(format!("/proc/self/ns/{name}"));
        matches!((theirs, ours), (Ok(one), Ok(other)) if one != other)
    };
    NAMESPACES
        .iter()
        .filter(|(name, _)| differs(name))
        .fold(0, |flags, (_, flag)| flags | flag)
}
