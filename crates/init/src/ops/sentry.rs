//! `sentry`: this process becomes the sentry, whose root is the container's.

use casemate_host::{child, process};
use casemate_jail::capability_mask;
use casemate_plan::op;
use casemate_sentry::{Config, run, start_zygote};

use crate::child::State;
use crate::error::{Context, Error, Result};

/// Starts the process that programs are forked from, while this one may still map ids.
pub(super) fn zygote(uid: u32, gid: u32, state: &mut State) -> Result<()> {
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
    process::close_all_but(&[state.channel.raw(), zygote.listener.raw()])
        .context(|| "close_range".into())?;
    process::reset_signals();
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
    let config = Config {
        args: program.args,
        env: program.env,
        cwd: program.cwd,
        uid: program.uid,
        gid: program.gid,
        groups: program.groups,
        umask: program.umask,
        capabilities,
        no_new_privs: program.no_new_privs,
        strace: program.strace,
    };
    // The starter takes the channel's end for the program's start.
    let started = || drop(process::take_fd(state.channel.raw()));
    match run(config, zygote, started) {
        // The first process of a pid namespace cannot end by a signal of its own.
        Ok(status) if status & 0x7F != 0 => child::exit_now(128 + (status & 0x7F)),
        Ok(status) => child::exit_now(status >> 8 & 0xFF),
        Err(error) => Err(Error::with_errno(error.message, error.errno)),
    }
}
