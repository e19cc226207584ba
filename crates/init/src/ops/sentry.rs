//! `zygote`, `sentry`: this process becomes the sentry, whose root is the container's.

use std::time::Duration;

use casemate_host::{child, process};
use casemate_jail::capability_mask;
use casemate_plan::op;
use casemate_sentry::{Cgroup, Config, Given, Hook, StraceSettings, run, start_zygote};

use super::system;
use crate::child::State;
use crate::error::{Context, Error, Result};

/// Starts the process that programs are forked from, while this one may still map ids, and raise hard limits: the programs' only get lower from then on.
pub(super) fn zygote(
    uid: u32,
    gid: u32,
    limits: &[(String, u64, u64)],
    state: &mut State,
) -> Result<()> {
    for (kind, _, hard) in limits {
        system::raise_hard_limit(kind, *hard)?;
    }
    // Not later: until the zygote is there, a descriptor that is open may be its.
    state.trees.clear();
    process::close_all_but(&state.descriptors()).context(|| "close_range".into())?;
    let zygote =
        start_zygote(uid, gid).map_err(|error| Error::with_errno(error.message, error.errno))?;
    state.zygote = Some(zygote);
    Ok(())
}

/// Runs the program, and ends as it ends. Returns only if it could not be started.
pub(super) fn sentry(program: op::Sentry, state: &mut State) -> Result<()> {
    let zygote = state
        .zygote
        .take()
        .ok_or_else(|| Error::plain("sentry without zygote"))?;
    (state.root, state.root_tree, state.terminal) = (None, None, None);
    process::reset_signals();
    let mut given = Given::default();
    if let Some(raw) = state.listen {
        given.control = Some(process::take_fd(raw).context(|| "listen descriptor".into())?);
    }
    for fd in &state.keep_fds {
        let taken = process::take_fd(*fd).context(|| format!("keep descriptor {fd}"))?;
        given.inherited.push((*fd, taken));
    }
    if let Some(raw) = program.agent {
        given.agent = Some(process::take_fd(raw).context(|| "agent descriptor".into())?);
    }
    if let Some(raw) = program.random {
        given.random = Some(process::take_fd(raw).context(|| "random descriptor".into())?);
    }
    given.members = program.members.into();
    given.cgroup = cgroup(program.cgroup)?;
    given.own_mounts = std::mem::take(&mut state.own_mounts);
    let mut program = program;
    let hooks = std::mem::take(&mut program.hooks);
    given.hooks = hooks.into_iter().map(hook).collect();
    if let Some(asked) = program.strace.take() {
        let log = asked.log.map(process::take_fd).transpose();
        let log = log.context(|| "strace descriptor".into())?;
        given.strace = Some((strace(asked), log));
    }
    let config = config(program)?;
    // The starter takes the channel's end for the program's start.
    let channel = state.channel.raw();
    let started = move || drop(process::take_fd(channel));
    match run(config, given, zygote, started) {
        // The first process of a pid namespace cannot end by a signal of its own.
        Ok(status) => child::exit_now(shell_code(status)),
        Err(error) => Err(Error::with_errno(error.message, error.errno)),
    }
}

fn cgroup(files: op::SentryCgroup) -> Result<Cgroup> {
    let take = |raw: Option<i32>| {
        let taken = raw.map(process::take_fd).transpose();
        taken.context(|| "cgroup descriptor".into())
    };
    Ok(Cgroup {
        memory_limit: take(files.memory_limit)?,
        memory_used: take(files.memory_used)?,
        cpu_quota: take(files.cpu_quota)?,
        cpu_period: take(files.cpu_period)?,
        pids_limit: take(files.pids_limit)?,
    })
}

pub(super) fn strace(asked: op::SentryStrace) -> StraceSettings {
    StraceSettings {
        json: asked.json,
        calls: asked.calls,
        size: asked.size,
    }
}

pub(super) fn hook(hook: op::Hook) -> Hook {
    Hook {
        path: hook.path,
        args: hook.args,
        env: hook.env,
        timeout: hook.timeout_s.map(Duration::from_secs),
        state: hook.state,
    }
}

/// What a shell would report for wait(2)'s status.
pub(super) fn shell_code(status: i32) -> i32 {
    if status & 0x7F == 0 {
        status >> 8 & 0xFF
    } else {
        128 + (status & 0x7F)
    }
}

/// The program as the sentry takes it: names to numbers.
pub(super) fn config(program: op::Sentry) -> Result<Config> {
    let sets = &program.capabilities;
    let mut capabilities = [0; 5];
    let lists = [
        &sets.effective,
        &sets.permitted,
        &sets.inheritable,
        &sets.bounding,
        &sets.ambient,
    ];
    for (mask, names) in capabilities.iter_mut().zip(lists) {
        *mask = capability_mask(names).map_err(|error| Error::plain(error.to_string()))?;
    }
    let limits = program
        .rlimits
        .iter()
        .map(|(kind, soft, hard)| Ok((system::rlimit_number(kind)?, *soft, *hard)));
    Ok(Config {
        limits: limits.collect::<Result<Vec<_>>>()?,
        args: program.args,
        env: program.env,
        cwd: program.cwd,
        uid: program.uid,
        gid: program.gid,
        groups: program.groups,
        umask: program.umask,
        capabilities,
        no_new_privs: program.no_new_privs,
        set_id_files: program.set_id_files,
        oom_score_adj: program.oom_score_adj,
    })
}
