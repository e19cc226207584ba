//! Stage 1: reads the plan, joins namespaces, clones the container's first process, writes its id maps, and ends.

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use casemate_host::clone::{Side, clone_sibling, setns};
use casemate_host::{ids, process};
use casemate_plan::op::{IdMapping, Setgroups};
use casemate_plan::{IdMaps, JoinKind, MAX_BYTES, Namespace, Plan};

use crate::channel::{Channel, Event};
use crate::child;
use crate::error::{Context, Error, Result};
use crate::ops::mount::prepare_binds;
use crate::ops::pivot::prepare_root;

/// The index that an `error` frame carries for what fails before the first operation.
const BEFORE_OPS: i64 = -1;

/// Runs a plan; returns the process's exit status. In the child it returns only on failure.
#[must_use]
pub fn run(plan_fd: i32, control_fd: i32) -> u8 {
    let Ok(control) = process::take_fd(control_fd) else {
        return 2;
    };
    let channel = Channel::new(control);
    // Executed by descriptor, it would be called by the descriptor's number in what lists processes.
    let _ = rustix::thread::set_name(c"casemate-engine");
    match stage1(plan_fd, &channel) {
        Ok(Started::Parent) => 0,
        Ok(Started::Child(plan, prepared)) => child::run(*plan, prepared, channel),
        Err(error) => {
            report(&channel, &error);
            1
        }
    }
}

/// Tells the starter what failed before the first operation. A starter that is gone needs no report.
pub(crate) fn report(channel: &Channel, error: &Error) {
    let event = Event::Error {
        op: "",
        index: BEFORE_OPS,
        errno: error.errno,
        message: &error.message,
    };
    let _ = channel.send(&event, None);
}

enum Started {
    Parent,
    Child(Box<Plan>, child::Prepared),
}

fn stage1(plan_fd: i32, channel: &Channel) -> Result<Started> {
    let plan = read_plan(plan_fd)?;
    if let Some(value) = plan.oom_score_adj {
        // Its own, which the child inherits: after `join` /proc is the container's, which does not have the child, or has what the container likes.
        write_proc("self", "oom_score_adj", &value.to_string())?;
    }
    // From here on no process of a namespace that is joined below can trace this one or read its memory and descriptors
    // (CVE-2016-9962): it is not dumpable, so only a host capability can.
    ids::set_dumpable(false).context(|| "PR_SET_DUMPABLE".into())?;
    close_unnamed(&plan, channel)?;
    let filters = child::compile_filters(&plan)?;
    let time_or_cgroup = |kind: &Namespace| matches!(kind, Namespace::Cgroup | Namespace::Time);
    if plan.new.iter().any(time_or_cgroup) {
        return Err(Error::plain(
            "new: cgroup and time namespaces are operations of the child",
        ));
    }
    if plan.join.is_empty() && !rustix::process::geteuid().is_root() {
        // Without root, only the owner of /proc/PID/uid_map may write it, and a process that is not dumpable belongs to root. Nothing hostile is
        // near yet: no namespace was joined; the child turns this off again before its first operation.
        ids::set_dumpable(true).context(|| "PR_SET_DUMPABLE".into())?;
    }
    let makes_mounts = plan.new.contains(&Namespace::User) && rustix::process::geteuid().is_root();
    let (trees, root_tree) = if makes_mounts {
        (prepare_binds(&plan)?, prepare_root(&plan)?)
    } else {
        (VecDeque::new(), None)
    };
    join(&plan)?;
    let (released, release) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "pipe".into())?;
    let flags = plan
        .new
        .iter()
        .fold(0, |flags, kind| flags | clone_flag(*kind));
    let cgroup = CgroupFiles::take(&plan)?;
    let into = cgroup.into.as_ref().map(AsFd::as_fd);
    match clone_sibling(flags, into).context(|| "clone3".into())? {
        Side::Child => {
            drop(release);
            wait_for_release(&released)?;
            ids::set_dumpable(false).context(|| "PR_SET_DUMPABLE".into())?;
            cgroup.join()?;
            Ok(Started::Child(
                Box::new(plan),
                child::Prepared {
                    filters,
                    trees,
                    root_tree,
                },
            ))
        }
        Side::Parent(pid) => {
            drop(released);
            prepare(&plan, pid, channel)?;
            rustix::io::write(&release, b"1").context(|| "release".into())?;
            Ok(Started::Parent)
        }
    }
}

/// The cgroups' files, opened by the starter: the kernel asks who opened them, so a process in a user namespace may write them.
struct CgroupFiles {
    tasks: Vec<OwnedFd>,
    into: Option<OwnedFd>,
}

impl CgroupFiles {
    fn take(plan: &Plan) -> Result<Self> {
        let Some(cgroup) = &plan.cgroup else {
            return Ok(Self {
                tasks: Vec::new(),
                into: None,
            });
        };
        let take = |fd: &i32| process::take_fd(*fd).context(|| format!("cgroup descriptor {fd}"));
        let tasks = cgroup.tasks.iter().map(take).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            tasks,
            into: cgroup.into.as_ref().map(take).transpose()?,
        })
    }

    /// Joins v1's hierarchies. A thread that moves itself (`0` to `tasks`) takes no cgroup_threadgroup_rwsem, so it does not wait for the RCU grace
    /// period, 4 to 9 ms here, that a write of another's pid to `cgroup.procs` begins with (Linux: cgroup_procs_write_start).
    fn join(self) -> Result<()> {
        for file in &self.tasks {
            rustix::io::write(file, b"0").context(|| "join the cgroup".into())?;
        }
        Ok(())
    }
}

/// The child goes on when stage 1 has written its maps; if stage 1 dies first, the pipe ends and so does the child.
fn wait_for_release(pipe: &OwnedFd) -> Result<()> {
    let mut byte = [0u8];
    loop {
        match rustix::io::read(pipe, &mut byte) {
            Ok(1) => return Ok(()),
            Ok(_) => return Err(Error::plain("stage 1 ended before it released the child")),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::io("release", &error.into())),
        }
    }
}

/// Closes what the starter, or whoever started it, left open. Close-on-exec is not enough: execve resolves a path before it closes, and a link of the
/// image to /proc/self/fd/N would lead out through a directory of the host's (CVE-2024-21626).
fn close_unnamed(plan: &Plan, channel: &Channel) -> Result<()> {
    let mut named = plan.descriptors();
    named.push(channel.raw());
    process::close_all_but(&named).context(|| "close_range".into())
}

fn read_plan(plan_fd: i32) -> Result<Plan> {
    let mut file = fs::File::from(process::take_fd(plan_fd).context(|| "plan descriptor".into())?);
    let size = file.metadata().context(|| "plan".into())?.len();
    if size > MAX_BYTES {
        return Err(Error::plain(format!(
            "plan of {size} bytes, at most {MAX_BYTES}"
        )));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.read_to_end(&mut bytes).context(|| "plan".into())?;
    Plan::decode(&bytes).map_err(|error| Error::plain(error.to_string()))
}

fn join(plan: &Plan) -> Result<()> {
    for entry in &plan.join {
        let fd = process::take_fd(entry.fd)
            .context(|| format!("join {:?}: descriptor {}", entry.kind, entry.fd))?;
        let flags = if entry.kind == JoinKind::Pidfd {
            entry.flags
        } else {
            join_flag(entry.kind)
        };
        if flags != 0 {
            setns(fd.as_fd(), flags)
                .context(|| format!("join {:?} namespace", entry.kind).to_lowercase())?;
        }
    }
    Ok(())
}

fn clone_flag(kind: Namespace) -> u64 {
    match kind {
        Namespace::User => 0x1000_0000,
        Namespace::Mount => 0x2_0000,
        Namespace::Pid => 0x2000_0000,
        Namespace::Network => 0x4000_0000,
        Namespace::Ipc => 0x800_0000,
        Namespace::Uts => 0x400_0000,
        Namespace::Cgroup => 0x200_0000,
        Namespace::Time => 0x80,
    }
}

fn join_flag(kind: JoinKind) -> i32 {
    match kind {
        JoinKind::User => 0x1000_0000,
        JoinKind::Mount => 0x2_0000,
        JoinKind::Pid => 0x2000_0000,
        JoinKind::Network => 0x4000_0000,
        JoinKind::Ipc => 0x800_0000,
        JoinKind::Uts => 0x400_0000,
        JoinKind::Cgroup => 0x200_0000,
        JoinKind::Time => 0x80,
        JoinKind::Pidfd => 0,
    }
}

/// What only the parent can do for the child, before it goes on.
fn prepare(plan: &Plan, pid: i32, channel: &Channel) -> Result<()> {
    channel.send(&Event::Child { pid }, None)?;
    if let Some(maps) = &plan.id_maps {
        write_id_maps(maps, pid)?;
    }
    Ok(())
}

fn write_id_maps(maps: &IdMaps, pid: i32) -> Result<()> {
    if maps.setgroups == Setgroups::Deny {
        write_proc(pid, "setgroups", "deny")?;
    }
    write_id_map(pid, "uid_map", &maps.uid, maps.uid_helper.as_deref())?;
    write_id_map(pid, "gid_map", &maps.gid, maps.gid_helper.as_deref())
}

fn write_id_map(pid: i32, file: &str, map: &[IdMapping], helper: Option<&str>) -> Result<()> {
    let Some(helper) = helper else {
        let lines: Vec<String> = map
            .iter()
            .map(|(inside, outside, size)| format!("{inside} {outside} {size}\n"))
            .collect();
        return write_proc(pid, file, &lines.concat());
    };
    let mut command = Command::new(helper);
    command.arg(pid.to_string());
    for (inside, outside, size) in map {
        command.args([inside.to_string(), outside.to_string(), size.to_string()]);
    }
    let output = command.output().context(|| helper.to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::plain(format!("{helper}: {}", said.trim())))
}

fn write_proc(pid: impl Display, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let mut opened = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .context(|| path.clone())?;
    // One write: the kernel takes an id map whole or not at all.
    opened
        .write_all(text.as_bytes())
        .context(|| format!("write {path}"))
}
